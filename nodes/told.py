"""What an eraser file says of itself in words: in the list of files before it is read, and on the loader when it is."""

import json
from functools import cache
from typing import Any, NamedTuple

from ..unhype.checkpoint import Eraser
from ..unhype.header import KEY
from ..unhype.layers import FAMILIES
from ..unhype.text import shown
from .tell import harmless

HEADER = 16 << 20  # bytes of a header that is looked into


class Told(NamedTuple):
    text: str  # two lines: concepts and what is drawn instead; for which models
    concepts: list[str]


def metadata_of(path: str, size: int) -> dict[str, Any] | None:
    """The metadata in a file's header; None where there is no header that can be read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= min(HEADER, size) else b""
    try:
        found = json.loads(raw).get("__metadata__", {})
        return found if isinstance(found, dict) else None
    except (ValueError, AttributeError, RecursionError):
        return None


@cache
def told_by_header(path: str, size: int, changed: int) -> Told | None:
    """What a file says by its header; None where that cannot be read."""
    try:
        said = json.loads((metadata_of(path, size) or {})[KEY])
        pairs = [(str(c["name"]), str(c["mapping"])) for c in said["concepts"]]
        return Told(harmless(in_words(pairs, said["family"], said.get("base", {}))), [name for name, _ in pairs])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def told(eraser: Eraser) -> str:
    return in_words([(c.name, c.mapping) for c in eraser.concepts], eraser.family, eraser.base)


def in_words(pairs: list[tuple[str, str]], family: str, base: dict[str, Any]) -> str:
    """cat, dog -> forest; car -> boat, and on the second line for which models."""
    by_mapping: dict[str, list[str]] = {}
    for name, mapping in pairs:
        by_mapping.setdefault(mapping, []).append(name)
    erased = "; ".join(f"{', '.join(names)} -> {mapping or 'nothing'}" for mapping, names in by_mapping.items())
    return f"{shown(erased, 400)}\nfor {FAMILIES[family].title}" + (f", trained on {shown(base['name'])}" if base else "")
