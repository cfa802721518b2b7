"""Reading an eraser file's header as if a stranger had written it: sizes first, then what it says."""

import json
import math
import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

from .files import UNKNOWN, Kind, shown, what_is

KEY = "unhype"
MAX_HEADER, MAX_BYTES, MAX_PARTS = 16 << 20, 4 << 30, 250_000
DIMENSIONS, DIGITS = 4, 40  # of a tensor; of a whole number
ITEM_BYTES = {"F16": 2, "F32": 4}
CHOOSE = "Choose an UnHype .safetensors file"


class CheckpointError(ValueError):
    """A file that is no eraser that this version can use."""


class Tensor(NamedTuple):
    """A line of a header's table."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def strict_json(raw: bytes | str) -> Any:
    """JSON of not too many parts, without keys that come twice and whole numbers of more than DIGITS.

    NaN and infinities pass: each number is judged where it is used. Raises ValueError or RecursionError.
    """
    text = raw if isinstance(raw, str) else raw.decode("utf-8")
    if text.count("[") + text.count("{") > MAX_PARTS:
        raise ValueError(f"it has more than {MAX_PARTS} parts")
    return json.loads(text, parse_int=short, object_pairs_hook=each_once)


def short(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name that stands twice")
    return found


def read_header(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The "unhype" metadata and the tensor table of an eraser file, checked against the file's size."""
    raw, size = read_json(path)
    try:
        header = strict_json(raw)
        metadata = header.pop("__metadata__", {})
        table = {name: as_tensor(entry) for name, entry in header.items()}
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no object")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is no safetensors file: its header cannot be read ({shown(error)}). {CHOOSE}") from None
    if KEY not in metadata:
        raise CheckpointError(f"{instead(path, what_is(path))} (its metadata has no entry {KEY!r})")
    check_table(path, table, size - 8 - len(raw))
    try:
        meta = strict_json(metadata[KEY])
        if not isinstance(meta, dict):
            raise ValueError("not an object")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
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
        if kind != UNKNOWN and (first[8:] != b"{" or length > MAX_HEADER):
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
    return f"{path} is not an UnHype eraser but {kind.what}: {kind.advice}. {CHOOSE}"


def as_tensor(entry: Any) -> Tensor:
    """An entry of the table. Raises ValueError, KeyError or TypeError where it is none."""
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    sizes = [*shape, *offsets]
    if not isinstance(dtype, str) or not all(type(n) is int and 0 <= n < 1 << 48 for n in sizes):
        raise ValueError("a tensor's type is no text, or its sizes are not whole numbers")
    if len(shape) > DIMENSIONS or len(offsets) != 2:
        raise ValueError(f"a tensor of {len(shape)} dimensions, or without a start and an end")
    return Tensor(dtype, tuple(shape), *offsets)


def check_table(path: Path, table: dict[str, Tensor], size: int) -> None:
    """Raise CheckpointError unless the tensors fill the file's `size` bytes behind the header one after the other."""
    position = 0
    for name, tensor in sorted(table.items(), key=lambda e: e[1][2:]):
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
