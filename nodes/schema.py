"""A node's schema with the words that it is searched by, where the host's schema has a place for them."""

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

ERASING = ["unlearn", "forget", "erase", "remove concept", "negative", "block"]


def strength_input(tooltip: str) -> io.Float.Input:
    """The widget of how much is erased, of the same range in every node."""
    return io.Float.Input("strength", default=1.0, min=0.0, max=2.0, step=0.05, tooltip=tooltip)


def schema(*, search: list[str], **said: Any) -> io.Schema:
    """io.Schema; `search_aliases` is a field of newer hosts (0.19 has it, 0.3.75 not)."""
    if any(field.name == "search_aliases" for field in fields(io.Schema)):
        said["search_aliases"] = search
    return io.Schema(**said)
