"""UnHypeMerge: several erasers on one wire, and what the other nodes make of that wire."""

from typing import NamedTuple

from comfy_api.latest import io

from ..unhype.checkpoint import Eraser
from ..unhype.layers import FAMILIES
from ..unhype.text import shown
from .loader import UnHype
from .patching import named, refuse_unknown
from .schema import ERASING, schema


class Merged(NamedTuple):
    """Erasers of one family that share no concept."""

    erasers: tuple[Eraser, ...]


def erasers_of(unhype: object) -> tuple[Eraser, ...]:
    """The erasers of an UNHYPE. Raises ValueError where something else is connected, or nothing."""
    if isinstance(unhype, Merged):
        return unhype.erasers
    if not isinstance(unhype, Eraser):
        found = "nothing is connected" if unhype is None else f"a {type(unhype).__name__} is connected"
        raise ValueError(f"unhype: {found}, expected an eraser: connect the output of Load UnHype Eraser")
    return (unhype,)


def shares(unhype: object, concepts: str | None) -> list[tuple[Eraser, str]]:
    """Each eraser of an UNHYPE with those of the wanted concepts that are its own; without a name all, with all of theirs.

    Raises ValueError for a name that none of them has.
    """
    erasers, wanted = erasers_of(unhype), named(concepts)
    refuse_unknown(wanted, erasers)
    if not wanted:
        return [(eraser, "") for eraser in erasers]
    own = [(eraser, [c.name for c in eraser.concepts if c.name.lower() in wanted]) for eraser in erasers]
    return [(eraser, ", ".join(names)) for eraser, names in own if names]


def merged(first: tuple[Eraser, ...], second: tuple[Eraser, ...]) -> Merged:
    """Both as one. Raises ValueError where they are for different families, or a concept is in both."""
    for one in first:
        for other in second:
            if one.family != other.family:
                raise ValueError(
                    f"{one.source} is for {FAMILIES[one.family].title}, {other.source} for {FAMILIES[other.family].title}: "
                    "merge erasers of one kind of model"
                )
            both = {c.name.lower() for c in one.concepts} & {c.name.lower() for c in other.concepts}
            if both:
                raise ValueError(
                    f"{shown(', '.join(sorted(both)), 200)} is in {one.source} and in {other.source}, and would be erased twice over: "
                    "merge erasers of different concepts, or use two UnHype Eraser nodes and choose the concepts of each"
                )
    return Merged(first + second)


class UnHypeMerge(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UnHypeMerge",
            display_name="Merge UnHype Erasers",
            category="unhype/advanced",
            description="Two erasers as one, for one UnHype Eraser node: the concepts of both are erased. Merges can be merged again.",
            search=[*ERASING, "combine erasers"],
            inputs=[
                UnHype.Input("unhype", optional=True, tooltip="From Load UnHype Eraser, or another merge."),
                UnHype.Input(
                    "unhype_2",
                    optional=True,
                    tooltip="Another eraser for the same kind of model, with other concepts.",
                ),
            ],
            outputs=[UnHype.Output(display_name="UNHYPE", tooltip="Both erasers, for one UnHype Eraser node.")],
        )

    @classmethod
    def execute(cls, unhype: object = None, unhype_2: object = None) -> io.NodeOutput:
        return io.NodeOutput(merged(erasers_of(unhype), erasers_of(unhype_2)))
