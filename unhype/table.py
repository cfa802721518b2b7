"""The header of a .safetensors file: its metadata and its table of tensors, read strictly."""

import struct
from pathlib import Path
from typing import Any, NamedTuple

from .text import strict_json


class Tensor(NamedTuple):
    """A line of a header's table."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_table(path: str | Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and table of a file whose header is known to be there. Raises OSError, and as parse does."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return parse(file.read(length))


def parse(raw: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Metadata and table of a header. Raises ValueError or RecursionError where it is none."""
    header = strict_json(raw)
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is no object")
    return metadata, {name: as_tensor(entry) for name, entry in header.items()}


def as_tensor(entry: Any) -> Tensor:
    """An entry of the table. Raises ValueError where it is none."""
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets")) if isinstance(entry, dict) else (None,) * 3
    if not isinstance(dtype, str) or not isinstance(shape, list) or not isinstance(offsets, list):
        raise ValueError("a tensor's type is no text, or its sizes are no list")
    if len(offsets) != 2:
        raise ValueError("a tensor without a start and an end")
    if not all(type(n) is int and 0 <= n < 1 << 48 for n in [*shape, *offsets]):
        raise ValueError("a tensor's sizes are not whole numbers")
    return Tensor(dtype, tuple(shape), *offsets)
