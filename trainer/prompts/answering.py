"""Which token states of two prompts answer to each other: those of a target prompt and of its mapped prompt."""

import torch

from host.backbone import Backbone


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

    As many of the `width` places that are padding as both have.
    """
    here, there = aligned(ids, mapped, width, width)
    front = range(min(here.start, there.start))
    return tuple(torch.tensor([*front, *range(span.start, span.stop)]) for span in (here, there))
