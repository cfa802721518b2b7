"""One self-describing .safetensors file per eraser: read, check, write.

The metadata entry "unhype" is a JSON object: format_version, condition_version, family, shape (every size), concepts (name,
mapping, calibration), training (the whole config), metrics, base (its name and a sketch of its weights) and onset (where strengths
below 1 begin, onset.py); files from before have neither base nor onset. Everything about sizes is judged from the header, before
memory is allocated for a tensor, and every value before it is used.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .description import DAMAGED, Concept, condition_version, format_version, parse_description
from .header import CHOOSE, KEY, CheckpointError, read_header
from .hypernetwork import Hypernetwork, Shape
from .leftovers import flush_folder, permissions, remove, remove_leftovers, temporary_name
from .table import Tensor
from .text import shown, strict_json
from .values import check_values

__all__ = ["CheckpointError", "Concept", "Eraser", "check_eraser", "load_eraser", "save_eraser", "write_atomically"]

HALF = ("heads.", "base_down.", "switch.look.", "rewriting.")  # stored in fp16: the bulk of the file
DIVERGED = "Not saved: the training diverged, lower learning_rate"


@dataclass
class Eraser:
    """A hypernetwork and all that is said about it."""

    network: Hypernetwork
    family: str
    concepts: list[Concept]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    base: dict[str, Any] = field(default_factory=dict)  # name, sketch: the model it was trained on
    onset: tuple[float, ...] = ()  # noise levels at which strengths below 1 begin; empty: not measured
    source: str = "this eraser"
    digest: str = ""  # of the file it came from

    def describe(self) -> dict[str, Any]:
        return {
            "format_version": format_version(self.network.shape),
            "condition_version": condition_version(self.family, self.network.shape),
            "family": self.family,
            "shape": {key: value for key, value in asdict(self.network.shape).items() if key not in ("look", "rewrite") or value},
            "concepts": [asdict(c) for c in self.concepts],
            "training": self.training,
            "metrics": self.metrics,
            "base": self.base,
            "onset": list(self.onset),
        }


def check_eraser(eraser: Eraser, path: str | Path) -> str:
    """The eraser's description as its file holds it. Raises CheckpointError, naming the file, where `load_eraser` would."""
    text = json.dumps(eraser.describe())
    try:
        parse_description(Path(path), strict_json(text))
    except ValueError as error:
        raise CheckpointError(f"{path}: not saved, it could not be read again ({shown(error, 400)})") from None
    return text


def save_eraser(eraser: Eraser, path: str | Path) -> None:
    """Write the eraser, whole or not at all: a full disk leaves the former file as it was."""
    tensors = {
        name: (t.half() if name.startswith(HALF) else t.float()).detach().cpu().contiguous()
        for name, t in eraser.network.state_dict().items()
    }
    check_values(Path(path), tensors, DIVERGED)
    write_atomically(tensors, path, {KEY: check_eraser(eraser, path)})


def write_atomically(tensors: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, str]) -> None:
    """Save in a folder of its own beside the target, flush to the disk, then take its place.

    In a folder, because safetensors writes under a name of its own making first, which would stay behind if it were killed.

    The file has the permissions of the one that it replaces, a new one those of any new file. Raises OSError, naming the
    file, when it cannot be written; what was there before is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    folder = temporary_name(path)
    temporary = folder / "file"  # no ending that ComfyUI lists
    try:
        folder.mkdir()
        temporary.touch()
        mode = permissions(path if path.exists() else temporary)
        save_file(tensors, temporary, metadata=metadata)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        with suppress(OSError):  # drives without permissions
            os.chmod(temporary, mode)  # safetensors makes its files private
        os.replace(temporary, path)
    except Exception as error:
        raise OSError(
            f"{path}: could not be saved ({error}); what was there before is untouched. Free some disk space or choose another folder"
        ) from error
    finally:
        remove(folder)
    flush_folder(path.parent)


def load_eraser(path: str | Path) -> Eraser:
    """Read an eraser. Raises CheckpointError, naming the file, for anything that is not one."""
    path = Path(path)
    meta, table = read_header(path)
    shape, family, concepts = parse_description(path, meta)
    with torch.device("meta"):
        network = Hypernetwork(shape)
    check_tensors(path, table, tensors_of_version(network, meta["format_version"]))
    try:
        with safe_open(path, framework="pt") as file:  # copied: an fp32 tensor would stay a view of the mapped file
            loaded = {name: file.get_tensor(name).to(torch.float32, copy=True) for name in table}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no safetensors file: {shown(error)}. {DAMAGED}") from None
    check_values(path, loaded)
    network.load_state_dict(as_present(loaded, shape, meta["format_version"]), assign=True)
    network.requires_grad_(False).eval()
    described = {key: meta.get(key, {}) for key in ("training", "metrics", "base")}
    onset = tuple(meta.get("onset", ()))
    return Eraser(network, family, concepts, **described, onset=onset, source=shown(path.name, 255), digest=digest_of(path))


def tensors_of_version(network: Hypernetwork, version: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that a file of this format version holds."""
    expected = {name: tuple(t.shape) for name, t in network.state_dict().items()}
    if version < 3:
        del expected["least"]
    if version == 1:
        del expected["concept"]
        rows, columns = expected["trunk.0.weight"]
        expected["trunk.0.weight"] = rows, columns - network.shape.token_dim
    return expected


def as_present(loaded: dict[str, torch.Tensor], shape: Shape, version: int) -> dict[str, torch.Tensor]:
    """A file's tensors with zeros where its format version said nothing."""
    if version < 3:
        loaded["least"] = torch.zeros(shape.concepts)
    if version == 1:
        loaded["concept"] = torch.zeros(shape.concepts, shape.hidden)
        loaded["trunk.0.weight"] = torch.nn.functional.pad(loaded["trunk.0.weight"], (0, shape.token_dim))
    return loaded


def check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    """Raise CheckpointError unless the file's tensors are exactly the expected ones, by name and shape."""
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            raise CheckpointError(f"{path}: tensor {name} is missing. {DAMAGED}")
        if name not in expected:
            raise CheckpointError(f"{path}: holds a tensor {shown(name)} that an eraser does not have. {CHOOSE}")
        if found[name].shape != expected[name]:
            raise CheckpointError(
                f"{path}: tensor {name} has shape {found[name].shape}, expected {expected[name]} from its own description. {DAMAGED}"
            )


def digest_of(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
