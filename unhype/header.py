"""Reading an eraser file's header as if a stranger had written it: sizes first, then what it says."""

import math
import os
import struct
from pathlib import Path
from typing import Any

from .files import CUT, ERASER, UNKNOWN, Kind, what_is
from .table import Tensor, parse
from .text import shown, strict_json

KEY = "unhype"
MAX_HEADER, MAX_BYTES, DIMENSIONS = 16 << 20, 4 << 30, 4
ITEM_BYTES = {"F16": 2, "F32": 4}
CHOOSE = "Choose an UnHype .safetensors file"


class CheckpointError(ValueError):
    """A file that is no eraser that this version can use."""


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The "unhype" metadata and the tensor table of an eraser file, checked against the file's size."""
    raw, size = read_json(path)
    try:
        metadata, table = parse(raw)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is no safetensors file: its header cannot be read ({shown(error)}). {CHOOSE}") from None
    if KEY not in metadata:
        raise CheckpointError(f"{instead(path, what_is(path))} (its metadata has no entry {KEY!r})")
    check_table(path, table, size - 8 - len(raw))
    try:
        meta = strict_json(metadata[KEY]) if isinstance(metadata[KEY], str) else None
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: its {KEY!r} metadata cannot be read ({shown(error)}). The file is damaged: download it again"
        ) from None
    return meta, table


def read_json(path: Path) -> tuple[bytes, int]:
    """The header's bytes and the file's size. Raises CheckpointError, which says what the file is, where there is no header."""
    kind, size = what_is(path), os.path.getsize(path)
    no = f"{path} is no safetensors file"
    if not path.is_file():
        raise CheckpointError(instead(path, kind))
    if size < 10:
        raise CheckpointError(f"{no} but {kind.what}: it has {size} bytes. Download or train it again")
    with open(path, "rb") as file:
        first = file.read(9)
        length = struct.unpack("<Q", first[:8])[0]
        if kind not in (UNKNOWN, ERASER, CUT) and (first[8:] != b"{" or length > MAX_HEADER):
            raise CheckpointError(instead(path, kind))
        if length > MAX_HEADER:
            raise CheckpointError(
                f"{no} that could be an eraser: its header would be {length} bytes long, expected at most {MAX_HEADER}. {CHOOSE}"
            )
        if length > size - 8:
            raise CheckpointError(f"{path} is truncated: its header of {length} bytes does not fit into {size} bytes. Download it again")
        file.seek(8)
        return file.read(length), size


def instead(path: Path, kind: Kind) -> str:
    """What is said of a file that is no eraser."""
    return f"{path} is not an UnHype eraser but {kind.what}: {kind.advice}"


def check_table(path: Path, table: dict[str, Tensor], size: int) -> None:
    """Raise CheckpointError unless the tensors fill the file's `size` bytes behind the header one after the other."""
    position = 0
    for name, tensor in sorted(table.items(), key=lambda e: e[1][2:]):
        if len(tensor.shape) > DIMENSIONS:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} has {len(tensor.shape)} dimensions, expected at most {DIMENSIONS}. "
                "The file is damaged: download it again"
            )
        if tensor.dtype not in ITEM_BYTES:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} is {shown(tensor.dtype)}, expected one of {', '.join(ITEM_BYTES)}. "
                "Save it again with trainer/train.py"
            )
        if tensor.start != position or tensor.end - position != math.prod(tensor.shape) * ITEM_BYTES[tensor.dtype]:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} of shape {tensor.shape} does not fill its bytes {tensor.start} to {tensor.end}. "
                "The file is damaged: download it again"
            )
        position = tensor.end
    if position > MAX_BYTES:
        raise CheckpointError(f"{path}: its tensors take {position} bytes, expected at most {MAX_BYTES}. {CHOOSE}")
    if position != size:
        raise CheckpointError(
            f"{path} is truncated: its header promises {position} bytes of tensors, the file holds {size}. Download it again"
        )
