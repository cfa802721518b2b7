"""What the sampler's conditionings are: whose role is to be erased, what in them is not read, and what looks like a mistake."""

import logging
import re
from functools import cache
from typing import Any

import torch

from ..unhype.checkpoint import Eraser
from ..unhype.condition import Condition

log = logging.getLogger("unhype")

UNCONDITIONAL = ("neg", "uncond", "empty")  # beginnings of a word in the roles that guiders give their conditionings
CONDITIONAL = ("pos", "cond", "middle")
# Cosine of a prompt's mean token state with the training's, per channel in deviations: 0.3 to 0.9 with the demo's own text
# encoders at every clip skip, weight, blend and length that was tried, -0.2 to 0.1 with others of the same width.
ALIKE = 0.2


@cache
def unconditional(role: str, guider: str) -> bool:
    """Whether a role of a guider's is an unconditional one, by its name; one that is not known is erased and named in the log once."""
    words = re.findall("[a-z]+", str(role).lower()) or [""]
    if any(word.startswith(UNCONDITIONAL) for word in words):
        return True
    if not words[0].startswith(CONDITIONAL):
        log.warning(
            "%s calls one of its conditionings %r, which the eraser does not know: it is erased like a positive one. "
            "If it is a negative one, a prompt there that names an erased concept changes the picture",
            guider,
            role,
        )
    return False


def refuse_boxes(conditioning: dict[str, Any], where: str) -> None:
    """Raise ValueError where a conditioning carries GLIGEN's boxes: their texts go to the model past everything that is read."""
    if conditioning.get("gligen") is not None:
        raise ValueError(
            f"{where} has GLIGEN boxes (GLIGENTextBoxApply), whose texts the eraser cannot read: "
            "take the boxes out, or use Conditioning (Set Area) for the same places"
        )


def warn_of_another_encoder(condition: Condition, where: str, eraser: Eraser, done: set[str]) -> None:
    """Log, once for a set `done`, that a prompt was not encoded by the text encoder that the eraser was trained with."""
    standardise = eraser.network.standardise
    if eraser.source in done or not condition.mask.any():
        return
    # Of the states that carry something; a length does not matter, so their sum is their mean.
    mean = (condition.mask[:, None].float() @ condition.tokens.float()).sum((0, 1)) / standardise.token_deviation
    trained = standardise.token_mean / standardise.token_deviation
    likeness = (mean @ trained) / (mean.norm() * trained.norm())
    if likeness < ALIKE:  # never where there is no mean, and so no number
        done.add(eraser.source)
        log.warning(
            "%s looks as if another text encoder had made it than the one that %s was trained with (likeness %.2f, expected "
            "at least %.1f): the eraser will hardly fire. Use the text encoder (CLIP) that belongs to the model that it was made for",
            where,
            eraser.source,
            likeness,
            ALIKE,
        )


def warn_of_the_negative(fixed: Condition, positive: list[torch.Tensor], negative: list[torch.Tensor], done: set[str]) -> None:
    """Log, once for a set `done`, that what is wired into the eraser is the sampler's negative prompt.

    Args:
        positive, negative: token states (N, T, D) of the sampler's conditionings.
    """

    def wired(some: list[torch.Tensor]) -> bool:
        return any(torch.equal(own[: len(t)], t.to(own)) for own in fixed.tokens for rows in some for t in rows)

    if "negative" not in done and wired(negative) and not wired(positive):
        done.add("negative")
        log.warning(
            "the conditioning input of UnHype Eraser holds the sampler's negative prompt, which now decides for every prompt whether "
            "it is erased: connect the positive one, or nothing, so that every prompt decides for itself"
        )
