"""Which token states of two prompts answer to each other: those of a target prompt and of its mapped prompt."""

from typing import NamedTuple

import torch

from host.backbone import Backbone
from host.encode import Text


def token_ids(backbone: Backbone, text: str) -> list[int]:
    """The prompt's ids from its start token to its end token, the padding cut off."""
    ids = [token[0] for chunk in next(iter(backbone.clip.tokenize(text).values())) for token in chunk]
    end = len(ids) - 1
    while end and ids[end - 1] == ids[-1]:  # SD 1.x pads with the end token
        end -= 1
    return ids[: end + 1]


def aligned(ids: list[int], mapped: list[int], padding: int, width: int) -> tuple[slice, slice]:
    """The positions, of `width`, of two prompts that answer to each other: from the first that differs to `padding` past the end.

    Counted from the end, so that of concepts with different numbers of tokens the last ones and what follows are paired.
    """
    same = next((i for i, (a, b) in enumerate(zip(ids, mapped)) if a != b), min(len(ids), len(mapped)) - 1)
    count, padding = min(len(ids), len(mapped)) - same, min(padding, width - max(len(ids), len(mapped)))
    return slice(len(ids) - count, len(ids) + padding), slice(len(mapped) - count, len(mapped) + padding)


def answering(ids: list[int], mapped: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Places of two prompts that answer to each other: before the first token that differs, and from it on counted from the end.

    Of a longer name the tokens before those are answered by what its last ones become, that none of them is left as it is: the switch
    may fire on the middle of "water mel on". As many of the `width` places that are padding as both have.
    """
    here, there = aligned(ids, mapped, width, width)
    front = min(here.start, there.start)
    its = [*range(front), *[there.start] * (here.start - front), *range(there.start, there.stop)]
    return torch.arange(here.stop), torch.tensor(its)


class Answers(NamedTuple):
    """Of prompts what their mapped prompts say in the answering places."""

    change: torch.Tensor  # (N, T, D) from each state to the one that answers
    answered: torch.Tensor  # (N, T) bool, places that have an answer
    stays: torch.Tensor  # (N, T) bool, those of them that hold the same word


def answers(backbone: Backbone, here: list[str], there: list[str], text: Text, mapped: Text) -> Answers:
    """Of prompts and their mapped prompts, as they are written and as they were encoded together."""
    width = text.tokens.shape[1]
    places = torch.arange(width).repeat(len(here), 1)
    answered, stays = torch.zeros(2, len(here), width, dtype=torch.bool)
    for row, (a, b) in enumerate(zip(here, there)):
        ids, others = token_ids(backbone, a), token_ids(backbone, b)
        own, its = answering(ids, others, width)
        places[row, own] = its
        answered[row, own], stays[row, own] = True, same(ids, others, own, its)
    return Answers(mapped.tokens.gather(1, places[..., None].expand_as(mapped.tokens)) - text.tokens, answered, stays)


def same(ids: list[int], others: list[int], own: torch.Tensor, its: torch.Tensor) -> torch.Tensor:
    """At which of the places `own` of one prompt stands the token that stands at `its` of the other; padding is none."""
    token = lambda tokens, places: torch.tensor(tokens)[places.clamp_max(len(tokens) - 1)]
    return (token(ids, own) == token(others, its)) & (own < len(ids)) & (its < len(others))
