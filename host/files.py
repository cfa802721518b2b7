"""What a file is, said from its first bytes: nothing of it is loaded, nothing unpickled."""

import json
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unhype.header import KEY
from unhype.layers import Family, of_family

MAX_HEADER = 100 << 20  # as safetensors itself has it
PICTURES = {b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"RIFF": "a picture, film or sound", b"GIF8": "a GIF picture"}
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", "")  # under which a denoiser's weights lie
DEMOS = {"unet.": "demo", "flux.": "demo-flux"}  # a demo base's prefix -> its name
DEMO_PARTS = (*DEMOS, "text.", "t5.", "vae.")
LORA = re.compile(r"lora_(up|down|A|B)\b|\.lora\.|hada_w\d|lokr_w\d|oft_blocks|\.diff\b|\.dora_scale$")
TEXT = re.compile(r"(text_model\.encoder\.layers|encoder\.block|(?<!visual\.)transformer\.resblocks|^(model\.)?layers)\.0\.")
WITH_TEXT = ("cond_stage_model.", "conditioner.embedders.", "text_encoders.")
VAE_IN = re.compile(r"(first_stage_model\.|vae\.)?(decoder\.conv_in|taesd_decoder\.1|decoder\.conv1)\.weight")
CHECKPOINT, MODEL, DIFFUSERS = "a checkpoint", "a diffusion model alone", "a diffusion model in diffusers' layout"
VAE, ENCODER = "a VAE", "a text encoder"
OURS = re.compile(r"\d+\.(x|sigma|prompt|concept|eps|eps_star|scale)$")  # the samples that a training keeps


@dataclass
class Shapes:
    """A module's parameters by name and shape, in the place of the module where only these are asked for."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        return ((name, SimpleNamespace(shape=shape)) for name, shape in self.shapes.items())

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        own = ((name.removesuffix(".weight"), shape) for name, shape in self.shapes.items() if name.endswith(".weight"))
        return ((name, SimpleNamespace(weight=SimpleNamespace(shape=shape))) for name, shape in own)


@dataclass
class Found:
    """A file, in words and by what a denoiser in it looks like."""

    what: str
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # of every tensor
    denoiser: Shapes = field(default_factory=Shapes)
    family: Family | None = None


def look_at(path: str | Path) -> Found:
    """What lies at `path`, of any kind. Raises OSError where it cannot be opened."""
    if os.path.isdir(path):
        diffusers = os.path.isfile(os.path.join(path, "model_index.json"))
        return Found("a folder" + " in diffusers' layout, where one file is wanted" * diffusers)
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(4096)
        if not start:
            return Found("an empty file")
        if (other := not_safetensors(start)) is not None:
            return Found(other)
        length = struct.unpack("<Q", start[:8])[0] if size >= 8 else 0
        if length > size - 8 and length <= MAX_HEADER and start[8:9] == b"{":
            return Found("a truncated safetensors file")
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            return Found("no safetensors file")
        file.seek(8)
        return of_header(file.read(length), size - 8 - length)


def not_safetensors(start: bytes) -> str | None:
    """A file's kind by its first bytes, where these are another kind's; None where it may be a safetensors file."""
    if start[6:9] == b"\0\0{":
        return None
    for magic, kind in PICTURES.items():
        if start.startswith(magic):
            return kind
    if start.startswith(b"GGUF"):
        return "a GGUF file"
    if start.startswith(b"PK\3\4"):
        return "a pickle (.ckpt, .pt) or another ZIP archive"
    if start[0] == 0x80 and start[1:2] <= b"\5":
        return "a pickle (.ckpt, .pt)"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer: the file itself was not downloaded"
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text[:1] == b"<":
        return "a web page, not the file that it offers"
    try:
        readable = start[:-4].decode() if len(start) == 4096 else start.decode()
    except UnicodeDecodeError:
        return None
    return "a text file" if all(c.isprintable() or c.isspace() for c in readable) else None


def of_header(raw: bytes, held: int) -> Found:
    """What a safetensors file is whose header is `raw` and whose tensors take `held` bytes."""
    try:
        header = json.loads(raw)
        metadata = header.pop("__metadata__", None) or {}
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
        promised = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return Found("a damaged safetensors file: its header cannot be read")
    if promised > held:
        return Found(f"a truncated safetensors file: {promised / 1e6:.1f} MB are promised, {held / 1e6:.1f} are there")
    if not shapes:
        return Found("a safetensors file without a tensor")
    if KEY in metadata:
        return Found("an UnHype eraser", shapes)
    if "rng" in shapes and "iteration" in metadata or all(OURS.match(n) for n in shapes):
        return Found("a file that a training keeps beside its eraser", shapes)
    return of_tensors(shapes)


def of_tensors(shapes: dict[str, tuple[int, ...]]) -> Found:
    """What a safetensors file of these tensors is."""

    def has(*beginnings: str) -> bool:
        return any(name.startswith(beginnings) for name in shapes)

    denoiser, family = denoiser_in(shapes)
    for prefix, name in DEMOS.items():
        if has(prefix) and all(n.startswith(DEMO_PARTS) for n in shapes):
            inside = Shapes(under(shapes, prefix))
            return Found(f'the demo base "{name}", whose name is enough: base: {name}', shapes, inside, of_family(inside))
    if any(LORA.search(name) for name in shapes):
        return Found("a LoRA", shapes)
    if has("control_model.", "controlnet_", "input_hint_block", "zero_convs"):
        return Found("a ControlNet", shapes)
    if denoiser.shapes:
        return Found(CHECKPOINT if has(*WITH_TEXT) else MODEL, shapes, denoiser, family)
    if has("down_blocks.", "transformer_blocks.") and has("conv_in.", "x_embedder.", "time_embedding.", "time_text_embed."):
        return Found(DIFFUSERS, shapes)
    if any(VAE_IN.fullmatch(name) for name in shapes):
        return Found(VAE, shapes)
    if any(TEXT.search(name) for name in shapes):
        return Found(ENCODER, shapes)
    if len(shapes) < 4 and has("emb_params", "clip_l", "clip_g", "t5xxl"):
        return Found("an embedding (textual inversion)", shapes)
    return Found("a safetensors file of another kind", shapes)


def under(shapes: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}


def denoiser_in(shapes: dict[str, tuple[int, ...]]) -> tuple[Shapes, Family | None]:
    """The denoiser's own names and shapes, and its family; no shapes where there is no denoiser at all."""
    for prefix in PREFIXES:
        inside = Shapes(under(shapes, prefix))
        if family := of_family(inside):
            return inside, family
    other = under(shapes, PREFIXES[0])
    return Shapes(other), None


def latent_channels(denoiser: Shapes, family: Family) -> tuple[int, int]:
    """How many latent channels a denoiser takes and makes, as far as its parameters say; 0 where they do not."""
    takes, makes = (denoiser.shapes.get(name, (0, 0)) for name in family.ends)
    return takes[1] // family.patch**2, makes[0] // family.patch**2
