"""One self-describing .safetensors file per eraser: read, check, write.

The metadata entry "unhype" is a JSON object: format_version, condition_version, family, shape (every size),
concepts (name, mapping, calibration), training (the whole config), metrics and base (its name and a sketch of its weights;
files from before have none). Everything about sizes is judged
from the header, before memory is allocated for a tensor.
"""

import hashlib
import json
import math
import os
import struct
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from . import condition
from .hypernetwork import Hypernetwork, Shape
from .layers import FAMILIES, Layer
from .sketch import PAIRS, chosen

# 1 read neither the switch's gates nor its firing state, 2 had no least length of an adapter, 3 no bottleneck and no fused layers
FORMAT_VERSION = 4
KEY = "unhype"
MAX_HEADER, MAX_BYTES, MAX_LAYERS = 16 << 20, 4 << 30, 4096
LIMITS = {"rank": 256, "steps": 100_000, "hidden": 16_384, "queries": 256, "pooled_dim": 65_536, "token_dim": 65_536, "concepts": 10_000}
MAX_BOTTLENECK = 16_384
ITEM_BYTES = {"F16": 2, "F32": 4}
HALF = ("heads.", "base_down.")  # stored in fp16: the bulk of the file


class CheckpointError(ValueError):
    """A file that is no eraser that this version can use."""


@dataclass
class Concept:
    """What is erased, what is drawn instead, and how well the switch told it apart on held-out prompts."""

    name: str
    mapping: str
    calibration: dict = field(default_factory=dict)


@dataclass
class Eraser:
    """A hypernetwork and all that is said about it."""

    network: Hypernetwork
    family: str
    concepts: list[Concept]
    training: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    base: dict = field(default_factory=dict)  # name, sketch: the model it was trained on
    source: str = "this eraser"
    digest: str = ""  # of the file it came from

    def describe(self) -> dict:
        return {
            "format_version": FORMAT_VERSION,
            "condition_version": condition.VERSION,
            "family": self.family,
            "shape": asdict(self.network.shape),
            "concepts": [asdict(c) for c in self.concepts],
            "training": self.training,
            "metrics": self.metrics,
            "base": self.base,
        }


def save_eraser(eraser: Eraser, path: str | Path) -> None:
    """Write the eraser, whole or not at all: a full disk leaves the former file as it was."""
    tensors = {
        name: (t.half() if name.startswith(HALF) else t.float()).detach().cpu().contiguous()
        for name, t in eraser.network.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: not saved, tensor {name} is not finite in {tensor.dtype}: the training diverged, lower learning_rate"
            )
    write_atomically(tensors, path, {KEY: json.dumps(eraser.describe())})


def write_atomically(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    """Save beside the target under another name, flush to the disk, then take its place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, temporary, metadata=metadata)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except Exception as error:
        raise OSError(
            f"{path}: could not be saved ({error}); what was there before is untouched. Free some disk space or choose another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def load_eraser(path: str | Path) -> Eraser:
    """Read an eraser. Raises CheckpointError, naming the file, for anything that is not one."""
    path = Path(path)
    meta, tensors = read_header(path)
    shape, family, concepts = parse_description(path, meta)
    with torch.device("meta"):
        network = Hypernetwork(shape)
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    if meta["format_version"] < 3:
        del expected["least"]
    if meta["format_version"] == 1:
        del expected["concept"]
        rows, columns = expected["trunk.0.weight"]
        expected["trunk.0.weight"] = rows, columns - shape.token_dim
    check_tensors(path, tensors, expected)
    try:
        with safe_open(path, framework="pt") as file:  # copied: an fp32 tensor would stay a view of the mapped file
            loaded = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in tensors}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {error}. The file is damaged: download it again") from None
    for name, tensor in loaded.items():
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{path}: tensor {name} holds NaN or infinite values; "
                "the training diverged or the file is damaged. Train or download it again"
            )
    if meta["format_version"] < 3:
        loaded["least"] = torch.zeros(shape.concepts)
    if meta["format_version"] == 1:
        loaded["concept"] = torch.zeros(shape.concepts, shape.hidden)
        loaded["trunk.0.weight"] = torch.nn.functional.pad(loaded["trunk.0.weight"], (0, shape.token_dim))
    network.load_state_dict(loaded, assign=True)
    network.requires_grad_(False).eval()
    described = (meta.get(key, {}) for key in ("training", "metrics", "base"))
    return Eraser(network, family, concepts, *described, path.name, digest_of(path))


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_header(path: Path) -> tuple[dict, dict[str, dict]]:
    """The "unhype" metadata and the tensor table of a safetensors file, checked against the file's size."""
    size = os.path.getsize(path)
    no = f"{path} is no safetensors file"
    if size < 10:
        raise CheckpointError(f"{no}: it has {size} bytes. Download or train it again")
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > MAX_HEADER:
            raise CheckpointError(
                f"{no} that could be an eraser: its header would be {length} bytes long, "
                f"expected at most {MAX_HEADER}. Choose an UnHype .safetensors file"
            )
        if length > size - 8:
            raise CheckpointError(f"{path} is truncated: its header of {length} bytes does not fit into {size} bytes. Download it again")
        raw = file.read(length)
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", {})
        entries = {name: (e["dtype"], tuple(e["shape"]), tuple(e["data_offsets"])) for name, e in header.items()}
        whole = lambda values: all(type(v) is int and v >= 0 for v in values)
        if not all(isinstance(d, str) and whole(s) and whole(o) and len(o) == 2 for d, s, o in entries.values()):
            raise ValueError("a tensor's type is no text, or its sizes are not whole numbers")
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{no}: its header cannot be read ({error}). Choose an UnHype .safetensors file") from None
    if KEY not in metadata:
        raise CheckpointError(
            f"{path} is not an UnHype eraser: its metadata has no entry {KEY!r}. "
            "An ordinary LoRA goes into the LoRA loader; erasers are made by trainer/train.py"
        )
    position = 0
    for name, (dtype, shape, (start, end)) in sorted(entries.items(), key=lambda e: e[1][2]):
        if dtype not in ITEM_BYTES:
            raise CheckpointError(
                f"{path}: tensor {name} is {dtype}, expected one of {', '.join(ITEM_BYTES)}. Save it again with trainer/train.py"
            )
        if start != position or end - start != math.prod(shape) * ITEM_BYTES[dtype]:
            raise CheckpointError(
                f"{path}: tensor {name} of shape {shape} does not fill its bytes {start} to {end}. The file is damaged: download it again"
            )
        position = end
    if position > MAX_BYTES:
        raise CheckpointError(f"{path}: its tensors take {position} bytes, expected at most {MAX_BYTES}")
    if position != size - 8 - length:
        raise CheckpointError(
            f"{path} is truncated: its header promises {position} bytes of tensors, the file holds {size - 8 - length}. Download it again"
        )
    try:
        meta = json.loads(metadata[KEY])
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its {KEY!r} metadata cannot be read ({error}). The file is damaged: download it again") from None
    return meta, entries


def parse_description(path: Path, meta: dict) -> tuple[Shape, str, list[Concept]]:
    """Sizes, family and concepts from the metadata, every field checked."""
    for key, mine in (("format_version", FORMAT_VERSION), ("condition_version", condition.VERSION)):
        found = meta.get(key)
        if type(found) is not int or found < 1:
            raise CheckpointError(
                f"{path}: {key} is {found!r}, expected a whole number from 1 to {mine}. The file is damaged: download it again"
            )
        if found > mine:
            raise CheckpointError(f"{path}: {key} is {found}, this UnHype reads up to {mine}. Update the UnHype nodes")
    family = meta.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(
            f"{path}: model family {family!r}, expected one of {', '.join(FAMILIES)}. Update the UnHype nodes, or choose another eraser"
        )
    try:
        raw = dict(meta["shape"])
        layers = tuple(Layer(**layer) for layer in raw.pop("layers"))
        concepts = [Concept(**c) for c in meta["concepts"]]
        if not all(isinstance(c.name, str) and isinstance(c.mapping, str) for c in concepts):
            raise ValueError("a concept's name or mapping is no text")
        if not all(isinstance(layer.name, str) for layer in layers):
            raise ValueError("a layer's name is no text")
        if not all(isinstance(d, dict) for d in (*(c.calibration for c in concepts), meta.get("training", {}), meta.get("metrics", {}))):
            raise ValueError("a calibration, the training or the metrics is no object")
        bottleneck = raw.pop("bottleneck", 0)
        if sorted(raw) != sorted(LIMITS):
            raise ValueError(f"sizes are {', '.join(sorted(raw))}, expected {', '.join(sorted(LIMITS))}")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: its description is incomplete ({error}). The file is damaged: download it again") from None
    for key, limit in LIMITS.items():
        if type(raw[key]) is not int or not 1 <= raw[key] <= limit:
            raise CheckpointError(f"{path}: {key} is {raw[key]!r}, expected a whole number from 1 to {limit}")
    if type(bottleneck) is not int or not 0 <= bottleneck <= MAX_BOTTLENECK:
        raise CheckpointError(f"{path}: bottleneck is {bottleneck!r}, expected a whole number from 0 to {MAX_BOTTLENECK}")
    if not 1 <= len(layers) <= MAX_LAYERS or len({layer.name for layer in layers}) != len(layers):
        raise CheckpointError(f"{path}: lists {len(layers)} layers, expected 1 to {MAX_LAYERS}, each once")
    for layer in layers:
        if any(type(n) is not int or not 1 <= n <= LIMITS["token_dim"] for n in (layer.inputs, layer.outputs)):
            raise CheckpointError(
                f"{path}: layer {layer.name!r} is said to be {layer.outputs!r} x {layer.inputs!r}, "
                f"expected whole numbers up to {LIMITS['token_dim']}"
            )
        if type(layer.start) is not int or not 0 <= layer.start <= LIMITS["token_dim"]:
            raise CheckpointError(f"{path}: layer {layer.name!r} starts at row {layer.start!r}, expected a whole number from 0")
    if len(concepts) != raw["concepts"]:
        raise CheckpointError(f"{path}: names {len(concepts)} concepts where its sizes say {raw['concepts']}")
    check_base(path, meta.get("base", {}), PAIRS * len(chosen(layers)))
    return Shape(layers=layers, **raw, bottleneck=bottleneck), family, concepts


def check_base(path: Path, base, count: int) -> None:
    """Raise CheckpointError unless the base is described by nothing, or by its name and no or `count` finite numbers."""
    whole = isinstance(base, dict) and (not base or base.keys() == {"name", "sketch"} and isinstance(base["name"], str))
    numbers = base.get("sketch", []) if whole else None
    if not isinstance(numbers, list) or len(numbers) not in (0, count) or not all(type(x) is float and math.isfinite(x) for x in numbers):
        raise CheckpointError(
            f"{path}: its base model is described as {str(base)[:80]}, expected a name and a sketch of {count} finite numbers. "
            "The file is damaged: download it again"
        )


def check_tensors(path: Path, found: dict, expected: dict[str, tuple]) -> None:
    """Raise CheckpointError unless the file's tensors are exactly the expected ones, by name and shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name} is missing. The file is damaged: download it again")
        if name not in expected:
            raise CheckpointError(f"{path}: holds a tensor {name} that an eraser does not have. Choose an UnHype .safetensors file")
        if found[name][1] != expected[name]:
            raise CheckpointError(f"{path}: tensor {name} has shape {found[name][1]}, expected {expected[name]} from its own description")
