"""What a file is, in an artist's words: from its first bytes, a .safetensors file from its header."""

import os
import re
import struct
from pathlib import Path
from typing import NamedTuple

from .text import strict_json

FIRST, MOST_HEADER = 4096, 16 << 20


class Kind(NamedTuple):
    """A kind of file: what it is called, and what to do with one that was taken for another."""

    what: str
    advice: str


ASKED = "choose the file that is asked for"
AGAIN = "the download broke off: download it again"
ERASER = Kind("an UnHype eraser", "it goes into Load UnHype Eraser")
EMPTY = Kind("an empty file", AGAIN)
CUT = Kind("a .safetensors file that is cut off", AGAIN)
DAMAGED = Kind("a damaged .safetensors file", "download it again")
OTHER = Kind("a .safetensors file of another kind", ASKED)
UNKNOWN = Kind("no kind of file that UnHype knows", ASKED)
PAGE = Kind(
    "a web page", "the site asked for a log-in or a click in place of the file: open its address in a browser and download it there"
)
TEXT = Kind("a text file", ASKED)
PYTORCH = Kind("a PyTorch file (.pt, .ckpt, .bin), which can hold a virus and is never opened", "get the model as .safetensors")
ARCHIVE = Kind("a packed archive", "unpack it and choose the file inside")
PICTURE = Kind("a picture", "it goes into Load Image")

# First bytes -> kind.
SIGNATURES = (
    (rb"GGUF", Kind("a GGUF model", "it goes into a GGUF loader; get the file that is asked for as .safetensors")),
    (rb"PK\x03\x04.{26}[^/]*/(data\.pkl|\.format_version|\.data/|byteorder)", PYTORCH),
    (rb"\x80[\x02-\x05]", PYTORCH),
    (rb"PK\x03\x04|7z\xbc\xaf\x27\x1c|Rar!|\x1f\x8b|BZh|\xfd7zXZ|.{257}ustar", ARCHIVE),
    (rb"\x89PNG|\xff\xd8\xff|GIF8|RIFF.{4}WEBP|BM.{4}\0\0\0\0|II\*\0|MM\0\*|8BPS|.{4}ftypavif", PICTURE),
    (rb"RIFF|OggS|ID3|fLaC|.{4}ftyp|\x1aE\xdf\xa3", Kind("a sound or a film", ASKED)),
    (rb"%PDF", Kind("a PDF document", ASKED)),
    (rb"\x93NUMPY|\x89HDF", Kind("a table of numbers (NumPy, HDF5)", "get the model as .safetensors")),
    (rb"MZ|\x7fELF", Kind("a program", ASKED)),
    (
        rb"version https://git-lfs",
        Kind("a pointer of Git LFS, not the file itself", "download the file with git lfs pull, or from its page"),
    ),
    (rb"\0+$", Kind("a file of zeros", AGAIN)),
)
# How texts begin, white space left out -> kind.
TEXTS = (
    (r"<(!doctype html|html|head|body|script|!--)", PAGE),
    (r"<", Kind("an XML or SVG file", ASKED)),
    (r"[{\[]", Kind("a JSON file, such as a workflow", "a workflow is dropped onto ComfyUI's canvas")),
)
# A name among the tensors -> kind of .safetensors file; the first that fits.
TENSORS = (
    (r"optimizer\.", Kind("what UnHype's trainer keeps of a stopped training", "it is for --resume alone: choose the eraser beside it")),
    (r"\d+\.eps_star", Kind("the samples that UnHype's trainer keeps", "choose the eraser beside it")),
    (r"(.*[._])?(lora|hada|lokr|oft)[._]|.*dora_scale", Kind("an ordinary LoRA", "it goes into the LoRA loader")),
    (r"(image_proj|ip_adapter)\.", Kind("an IP-Adapter", "it goes into the IP-Adapter loader")),
    (
        r"control_model\.|controlnet_|.*(zero_convs|input_hint_block|controlnet_(cond_embedding|blocks|x_embedder))",
        Kind("a ControlNet", "it goes into the ControlNet loader"),
    ),
    (r"(emb_params|string_to_param|clip_[lg]|t5xxl|<.*>)$", Kind("an embedding (textual inversion)", "it goes into models/embeddings")),
)
MODEL = r"(model\.diffusion_model|diffusion_model|double_blocks|joint_blocks|transformer_blocks|single_blocks|input_blocks|down_blocks)\."
ENCODER = r"(cond_stage_model|conditioner|text_encoders?|text_model|text_projection|shared|encoder\.block\.\d+\.layer)\."
VAE = r"(first_stage_model|vae|decoder\.(conv_in|conv_out|up|up_blocks)|encoder\.(conv_in|conv_out|down|down_blocks)|post_quant_conv)\."
CHECKPOINT = Kind("a full checkpoint, a base model", "it goes into Load Checkpoint")
DENOISER = Kind("a diffusion model without text encoder and VAE", "it goes into Load Diffusion Model")


def what_is(path: str | Path) -> Kind:
    """What a file is, whatever it is called; reads its first bytes, or the header of a .safetensors file. Raises OSError."""
    if os.path.exists(path) and not os.path.isfile(path):
        return Kind("a folder" if os.path.isdir(path) else "no file", "choose the file inside")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = file.read(FIRST)
    if not first:
        return EMPTY
    length = struct.unpack("<Q", first[:8])[0] if len(first) > 8 else 0
    if first[8:9] == b"{" and 2 <= length <= MOST_HEADER:
        return CUT if length > size - 8 else by_header(path, length)
    for pattern, kind in SIGNATURES:
        if re.match(pattern, first, re.DOTALL):
            return kind
    return by_text(first)


def by_text(first: bytes) -> Kind:
    """The kind of a file without a signature: some text, or unknown."""
    code = "utf-16" if first[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = first.decode(code, "ignore")
    if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", text) or 3 * len(text) < len(first):
        return UNKNOWN
    return next((kind for pattern, kind in TEXTS if re.match(pattern, text.lstrip(), re.IGNORECASE)), TEXT)


def by_header(path: str | Path, length: int) -> Kind:
    """The kind of a .safetensors file, by its metadata and the names of its tensors."""
    with open(path, "rb") as file:
        raw = file.read(8 + length)[8:]
    try:
        header = strict_json(raw)
    except (ValueError, RecursionError):
        return DAMAGED
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        return DAMAGED
    if "unhype" in metadata:
        return ERASER
    if metadata.get("format") == "unhype-demo-base":
        return Kind("a base model of UnHype's demo", "it goes by its name into UnHype Demo Model")
    names = list(header)
    for pattern, kind in TENSORS:
        if any(re.match(pattern, name) for name in names):
            return kind
    return by_parts(*(any(re.match(pattern, name) for name in names) for pattern in (MODEL, ENCODER, VAE)))


def by_parts(model: bool, encoder: bool, vae: bool) -> Kind:
    """The kind of a file that holds some of a base model's parts."""
    if model:
        return CHECKPOINT if encoder or vae else DENOISER
    if encoder:
        return Kind("a text encoder", "it goes into Load CLIP")
    return Kind("a VAE", "it goes into Load VAE") if vae else OTHER
