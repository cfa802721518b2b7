"""What a file is, in an artist's words: from its first bytes, a .safetensors file from its header."""

import os
import re
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .table import read_table

FIRST, MOST_HEADER = 4096, 100 << 20  # safetensors itself opens no longer header


class Kind(NamedTuple):
    """A kind of file: what it is called, and what to do with one that was taken for another."""

    what: str
    advice: str


ASKED = "choose the file that is asked for"
AGAIN = "the download broke off: download it again"
ERASER = Kind("an UnHype eraser", "it goes into Load UnHype Eraser")
FOLDER = Kind("a folder", "choose the file inside")
LAYOUT = Kind("a folder in diffusers' layout", "get the model as a single .safetensors file")
EMPTY = Kind("an empty file", AGAIN)
CUT = Kind("a .safetensors file that is cut off", AGAIN)
DAMAGED = Kind("a damaged .safetensors file", "download it again")
BARE = Kind("a .safetensors file without a tensor", ASKED)
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
CHECKPOINT = Kind("a full checkpoint", "it goes into Load Checkpoint")
DENOISER = Kind("a diffusion model alone", "it goes into Load Diffusion Model")
DIFFUSERS = Kind("a diffusion model alone in diffusers' layout", "it goes into Load Diffusion Model")
VAE = Kind("a VAE", "it goes into Load VAE")
ENCODER = Kind("a text encoder", "it goes into Load CLIP")
STATE = Kind("what UnHype's trainer keeps of a stopped training", "it is for --resume alone: choose the eraser beside it")
MODEL = r"((model\.)?diffusion_model|(model\.)?(double_blocks|joint_blocks|transformer_blocks|single_blocks|input_blocks|down_blocks))\."
VAE_IN = r"(first_stage_model\.|vae\.)?(decoder\.conv_in|taesd_decoder\.1)\.weight$"  # (_, latent channels, _, _)
TEXT_MODEL = r".*(text_model\.encoder\.layers|encoder\.block|(?<!visual\.)transformer\.resblocks)\.0\.|(model\.)?layers\.0\.self_attn\."
CONTROL = r"lora_controlnet$|control_model\.|controlnet_|.*(zero_convs|input_hint_block|controlnet_(cond_embedding|blocks|x_embedder))"
# How tensors are called, by each of which one begins -> kind of .safetensors file; the first that fits.
TENSORS: tuple[tuple[tuple[str, ...], Kind], ...] = (
    ((r"(optimizer\.|rng$)",), STATE),
    ((r"\d+\.eps_star$",), Kind("the samples that UnHype's trainer keeps", "choose the eraser beside it")),
    ((CONTROL,), Kind("a ControlNet", "it goes into the ControlNet loader")),
    ((r"(.*[._])?(lora|hada|lokr|oft)[._]|.*(dora_scale|\.diff)$",), Kind("an ordinary LoRA", "it goes into the LoRA loader")),
    ((r"(image_proj|ip_adapter)\.",), Kind("an IP-Adapter", "it goes into the IP-Adapter loader")),
    ((r"(emb_params|string_to_param|clip_[lg]|t5xxl|<.*>)$",), Kind("an embedding (textual inversion)", "it goes into models/embeddings")),
    ((MODEL, r"(cond_stage_model|conditioner\.embedders|text_encoders)\."), CHECKPOINT),
    ((r"(down|transformer)_blocks\.", r"(conv_in|x_embedder|time_embedding|time_text_embed)\."), DIFFUSERS),
    ((MODEL,), DENOISER),
    ((VAE_IN,), VAE),
    ((r"decoder\.(conv_in\.conv|conv1)\.weight$",), Kind("a VAE of video models", "it goes into Load VAE")),
    ((r"[13]\.conv\.0\.weight$",), Kind("a small VAE for previews (TAESD)", "it goes into models/vae_approx")),
    ((TEXT_MODEL,), ENCODER),
)
# What a base model of the demo is called where one is trained, by the first part of its tensors' names.
DEMO = {"unet": "demo", "flux": "demo-flux"}


def what_is(path: str | Path) -> Kind:
    """What a file is, whatever it is called; reads its first bytes, or the header of a .safetensors file. Raises OSError."""
    if os.path.isdir(path):
        return LAYOUT if os.path.isfile(os.path.join(path, "model_index.json")) else FOLDER
    if os.path.exists(path) and not os.path.isfile(path):
        return Kind("no file", "choose a file")
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        first = file.read(FIRST)
    if not first:
        return EMPTY
    length = struct.unpack("<Q", first[:8])[0] if len(first) > 8 else 0
    if first[8:9] == b"{" and 2 <= length <= MOST_HEADER:
        return CUT if length > size - 8 else by_header(path, size - 8 - length)
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


def by_header(path: str | Path, held: int) -> Kind:
    """The kind of a .safetensors file whose tensors have `held` bytes, by its metadata and the names of its tensors."""
    try:
        metadata, table = read_table(path)
    except (ValueError, RecursionError):
        return DAMAGED
    if not table:
        return BARE
    if (promised := max(tensor.end for tensor in table.values())) > held:
        return CUT._replace(what=f"{CUT.what} ({promised / 1e6:.1f} MB of tensors are promised, {held / 1e6:.1f} are there)")
    if "unhype" in metadata:
        return ERASER
    if metadata.get("format") == "unhype-demo-base":
        return demo_base(table)
    fits = lambda pattern: any(re.match(pattern, name) for name in table)
    return next((kind for patterns, kind in TENSORS if all(map(fits, patterns))), OTHER)


def demo_base(names: Iterable[str]) -> Kind:
    """A base model of the demo, which is asked for by name."""
    base = next((base for part, base in DEMO.items() if any(name.startswith(part + ".") for name in names)), "demo")
    return Kind("a base model of UnHype's demo", f'give its name in place of the file ("{base}" to train, UnHype Demo Model in a workflow)')
