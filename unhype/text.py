"""Texts that a stranger may have written: JSON read strictly, and how an error quotes them."""

import json
from typing import Any

MAX_PARTS, DIGITS = 250_000, 40  # lists and objects of a text; letters of a whole number


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


def shown(text: object, most: int = 80) -> str:
    """A text out of a file as an error may quote it: on one line, nothing that moves a cursor or turns the line round, cut at `most`."""
    raw = str(text)
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in raw[: most + 1])
    return clean if len(clean) <= most else clean[: most - 3] + "..."
