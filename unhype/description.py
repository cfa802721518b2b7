"""What an eraser file says of itself: sizes, family, concepts, base; every field judged before anything is made of it."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import condition
from .header import CheckpointError
from .hypernetwork import Shape
from .layers import FAMILIES, Layer
from .onset import STRENGTHS
from .sketch import PAIRS, chosen
from .text import shown

# 1 read neither the switch's gates nor its firing state, 2 had no least length of an adapter, 3 no bottleneck and no fused layers,
# 4 a linear switch only, 5 no rewriting
FORMAT_VERSION = 6
MAX_LAYERS, MAX_BOTTLENECK, MAX_LOOK, MAX_REWRITE = 4096, 16_384, 16_384, 256
LIMITS = {"rank": 256, "steps": 100_000, "hidden": 16_384, "queries": 256, "pooled_dim": 65_536, "token_dim": 65_536, "concepts": 10_000}
OPTIONAL = {"bottleneck": MAX_BOTTLENECK, "look": MAX_LOOK, "rewrite": MAX_REWRITE}
NAME, TEXT, DEPTH, NUMBER = 300, 20_000, 16, 1 << 64  # letters of a name and of any text; lists in lists; the largest number
DAMAGED = "The file is damaged: download it again"
MODULE = re.compile(r"\w+(\.\w+)*", re.ASCII)
# Letters that are not seen, that move what follows or turn it round; the joiners of scripts and emoji are not among them.
UNSEEN = re.compile("[\0-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")


@dataclass
class Concept:
    """What is erased, what is drawn instead, and how well the switch told it apart on held-out prompts."""

    name: str
    mapping: str
    calibration: dict[str, Any] = field(default_factory=dict)


def parse_description(path: Path, meta: dict[str, Any]) -> tuple[Shape, str, list[Concept]]:
    """Sizes, family and concepts from the metadata. Raises CheckpointError, naming the file, where a field is wrong."""
    check_versions(path, meta)
    family = meta.get("family")
    if not isinstance(family, str) or family not in FAMILIES:
        raise CheckpointError(
            f"{path}: model family {shown(repr(family))}, expected one of {', '.join(FAMILIES)}. "
            "Update the UnHype nodes, or choose another eraser"
        )
    try:
        sizes = dict(of_keys(meta.get("shape"), {"layers", *LIMITS}, {*OPTIONAL}))
        layers = tuple(Layer(**of_keys(layer, {"name", "inputs", "outputs"}, {"start"})) for layer in listed(sizes.pop("layers")))
        concepts = [Concept(**of_keys(c, {"name", "mapping"}, {"calibration"})) for c in listed(meta.get("concepts"))]
        check_texts(layers, concepts)
        for name in ("training", "metrics"):
            check_tree(name, meta.get(name, {}))
        sizes = dict.fromkeys(OPTIONAL, 0) | sizes
    except ValueError as error:
        raise CheckpointError(f"{path}: its description is incomplete or wrong ({shown(error, 200)}). {DAMAGED}") from None
    zero = {*OPTIONAL, *(["pooled_dim"] if meta["condition_version"] > 1 else []), *(["rank"] if sizes["rewrite"] else [])}
    check_sizes(path, sizes, layers, zero)
    if len(concepts) != sizes["concepts"]:
        raise CheckpointError(f"{path}: names {len(concepts)} concepts where its sizes say {sizes['concepts']}. {DAMAGED}")
    check_base(path, meta.get("base", {}), layers)
    check_onset(path, meta.get("onset", []))
    return Shape(layers=layers, **sizes), family, concepts


def format_version(shape: Shape) -> int:
    """The lowest version of the format that an eraser needs, so that older nodes read whatever is as it was."""
    return FORMAT_VERSION if shape.rewrite else 5 if shape.look else 4


def condition_version(family: str, shape: Shape) -> int:
    """The lowest version of the condition that an eraser needs, so that older nodes read whatever is as it was."""
    return 1 if shape.pooled_dim and not FAMILIES[family].masked else condition.VERSION


def check_versions(path: Path, meta: dict[str, Any]) -> None:
    for key, mine in (("format_version", FORMAT_VERSION), ("condition_version", condition.VERSION)):
        found = meta.get(key)
        if type(found) is not int or found < 1:
            raise CheckpointError(f"{path}: {key} is {shown(repr(found))}, expected a whole number from 1 to {mine}. {DAMAGED}")
        if found > mine:
            raise CheckpointError(f"{path}: {key} is {found}, this UnHype reads up to {mine}. Update the UnHype nodes")


def of_keys(found: Any, needed: set[str], allowed: set[str]) -> dict[str, Any]:
    """An object that has the needed keys and no other than these and the allowed ones. Raises ValueError."""
    if not isinstance(found, dict) or not needed <= found.keys() <= needed | allowed:
        names = sorted(found) if isinstance(found, dict) else type(found).__name__
        raise ValueError(f"{shown(names)} where {', '.join(sorted(needed))} is expected")
    return found


def listed(found: Any) -> list[Any]:
    """A list. Raises ValueError."""
    if not isinstance(found, list):
        raise ValueError(f"{shown(repr(found))} where a list is expected")
    return found


def check_texts(layers: tuple[Layer, ...], concepts: list[Concept]) -> None:
    """Raise ValueError unless layers are called like modules, concepts have names that can be shown, calibrations are plain."""
    for layer in layers:
        if not isinstance(layer.name, str) or len(layer.name) > NAME or not MODULE.fullmatch(layer.name):
            raise ValueError(f"a layer's name is {shown(repr(layer.name))}, no path of a module")
    for concept in concepts:
        check_name("a concept's name", concept.name)
        check_name("a concept's mapping", concept.mapping)
        check_tree("calibration", concept.calibration)
        if not concept.name.strip():
            raise ValueError("a concept's name is empty")


def check_name(what: str, text: Any) -> None:
    """Raise ValueError unless it is a text of a line that can be shown as it is."""
    if not isinstance(text, str):
        raise ValueError(f"{what} is no text")
    if len(text) > NAME:
        raise ValueError(f"{what} has {len(text)} letters, expected at most {NAME}")
    if UNSEEN.search(text):
        raise ValueError(f"{what} holds letters that cannot be seen: {shown(text)}")


def check_tree(name: str, tree: Any) -> None:
    """Raise ValueError unless it is an object of lists, objects, finite numbers and texts of usual sizes."""
    if not isinstance(tree, dict):
        raise ValueError(f"the {name} is no object")
    inside, depth = [tree], 0
    while inside:
        if depth == DEPTH:
            raise ValueError(f"the {name} has lists in lists, more than {DEPTH}")
        for part in inside:
            if isinstance(part, dict):
                for key in part:
                    check_name(f"a name in the {name}", key)
            elif isinstance(part, str) and (len(part) > TEXT or not part.isprintable() and re.search("[\ud800-\udfff]", part)):
                raise ValueError(f"a text in the {name} has {len(part)} letters, or broken ones")
            elif isinstance(part, (int, float)) and not abs(part) < NUMBER:
                raise ValueError(f"a number in the {name} is {shown(part)}")
        inside = [x for part in inside if isinstance(part, (dict, list)) for x in (part.values() if isinstance(part, dict) else part)]
        depth += 1


def check_sizes(path: Path, sizes: dict[str, Any], layers: tuple[Layer, ...], zero: set[str]) -> None:
    """Raise CheckpointError unless every size is a whole number within its limits, those of `zero` from 0 and the others from 1."""
    for key, limit in {**LIMITS, **OPTIONAL}.items():
        low = 0 if key in zero else 1
        if not whole(sizes[key], low, limit):
            raise CheckpointError(f"{path}: {key} is {shown(repr(sizes[key]))}, expected a whole number from {low} to {limit}. {DAMAGED}")
    if not 1 <= len(layers) <= MAX_LAYERS or len({layer.name for layer in layers}) != len(layers):
        raise CheckpointError(f"{path}: lists {len(layers)} layers, expected 1 to {MAX_LAYERS}, each once. {DAMAGED}")
    for layer in layers:
        if not whole(layer.inputs, 1, LIMITS["token_dim"]) or not whole(layer.outputs, 1, LIMITS["token_dim"]):
            raise CheckpointError(
                f"{path}: layer {layer.name!r} is said to be {shown(f'{layer.outputs!r} x {layer.inputs!r}')}, "
                f"expected whole numbers up to {LIMITS['token_dim']}. {DAMAGED}"
            )
        if not whole(layer.start, 0, 2 * LIMITS["token_dim"]):
            start = shown(repr(layer.start))
            raise CheckpointError(
                f"{path}: layer {shown(repr(layer.name))} starts at row {start}, expected a whole number from 0. {DAMAGED}"
            )


def whole(number: Any, low: int, high: int) -> bool:
    """Whether it is a whole number, and no truth value, within limits."""
    return type(number) is int and low <= number <= high


def check_base(path: Path, base: Any, layers: tuple[Layer, ...]) -> None:
    """Raise CheckpointError unless the base is described by nothing, or by its name and no or all numbers of a sketch.

    A number is what sign vectors on both sides make of a matrix, divided by its norm: at most the root of its size.
    """
    most = [math.sqrt(layer.inputs * layer.outputs) + 1 for layer in chosen(layers) for _ in range(PAIRS)]
    try:
        numbers = []
        if base:
            check_name("its name", of_keys(base, {"name", "sketch"}, set())["name"])
            numbers = base["sketch"]
        if not isinstance(base, dict) or not isinstance(numbers, list) or len(numbers) not in (0, len(most)):
            raise ValueError("too many or too few numbers")
        if not all(type(n) is float and abs(n) <= limit for n, limit in zip(numbers, most)):
            raise ValueError("numbers that no weights give")
    except ValueError as error:
        raise CheckpointError(
            f"{path}: its base model is described as {shown(base)} ({shown(error)}), "
            f"expected a name and a sketch of {len(most)} finite numbers. {DAMAGED}"
        ) from None


def check_onset(path: Path, onset: Any) -> None:
    """Raise CheckpointError unless it is no noise level, or one for each of STRENGTHS, from 0 to 1 and none below the one before."""
    levels = onset if isinstance(onset, list) else [None]
    plain = all(type(x) is float and 0 <= x <= 1 for x in levels)
    if not plain or len(levels) not in (0, len(STRENGTHS)) or levels != sorted(levels):
        raise CheckpointError(
            f"{path}: the noise levels at which its strengths begin are {shown(repr(onset))}, "
            f"expected {len(STRENGTHS)} numbers from 0 to 1, rising, or none. {DAMAGED}"
        )
