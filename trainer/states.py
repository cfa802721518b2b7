"""Token states of many prompts of any length, one behind the other: what the switch is fitted on."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from host.backbone import Backbone
from unhype.condition import TOGETHER, Condition

GROUP = 128  # prompts of about one length that are encoded together
LARGEST = torch.finfo(torch.float16).max


@dataclass
class States:
    """The token states of N prompts that carry something, in half precision."""

    flat: torch.Tensor  # (M, D)
    length: torch.Tensor  # (N,) how many of them are each prompt's

    @classmethod
    def of(cls, condition: Condition) -> "States":
        flat = condition.tokens[condition.mask]
        return cls(flat if flat.dtype == torch.bfloat16 else flat.clamp(-LARGEST, LARGEST).half(), condition.mask.sum(1))

    @classmethod
    def together(cls, parts: list["States"]) -> "States":
        return cls(torch.cat([p.flat for p in parts]), torch.cat([p.length for p in parts]))

    def __len__(self) -> int:
        return len(self.length)

    def prompt(self) -> torch.Tensor:
        """Whose each state is, (M,)."""
        return torch.arange(len(self)).repeat_interleave(self.length)

    def rows(self, index: torch.Tensor) -> "States":
        """Those of some prompts, by their numbers."""
        length, start = self.length[index], (self.length.cumsum(0) - self.length)[index]
        place = torch.arange(int(length.sum())) + (start - length.cumsum(0) + length).repeat_interleave(length)
        return States(self.flat[place], length)

    def parts(self) -> Iterator["States"]:
        """All prompts in order, as many at a time as can be worked on at once."""
        most = max(1, TOGETHER // self.flat.shape[1] // max(1, int(self.length.max()))) if len(self) else 1
        return (self.rows(index) for index in torch.arange(len(self)).split(most))


@torch.no_grad()
def read(backbone: Backbone, prompts: list[str], clip_skips: list[int]) -> States:
    """The prompts' states, of one clip skip each in turn. They are encoded by their length: an encoder that takes any number
    of tokens pads all that it reads together to the longest."""
    order = sorted(range(len(prompts)), key=lambda i: (i % len(clip_skips), len(prompts[i])))
    found = []
    for skip in range(len(clip_skips)):
        mine = [i for i in order if i % len(clip_skips) == skip]
        for start in range(0, len(mine), GROUP):
            texts = [prompts[i] for i in mine[start : start + GROUP]]
            found.append(States.of(backbone.encode(texts, clip_skips[skip]).condition()))
    return States.together(found).rows(torch.tensor(order).argsort())
