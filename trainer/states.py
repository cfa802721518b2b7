"""Token states of many prompts of any length, one behind the other: what the switch is fitted on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from host.backbone import Backbone
from unhype.condition import TOGETHER, Condition

from .run.sealed import Damaged, read_sealed, write_sealed

GROUP = 128  # prompts of about one length that are encoded together
PROBES = 8  # prompts that a text encoder is known by
KEPT = 2**29  # numbers that are kept in a file, at most: a graphics card reads T5's again as fast
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
    """The prompts' states, of one clip skip each in turn.

    They are encoded by their length, since an encoder that takes any number of tokens pads all that it reads together to the
    longest, and apart from those with weights, which are read one by one.
    """
    kind = lambda i: (i % len(clip_skips), "(" in prompts[i])
    order, found = sorted(range(len(prompts)), key=lambda i: (*kind(i), len(prompts[i]))), []
    for (skip, _), mine in groupby(order, kind):
        texts = [prompts[i] for i in mine]
        for start in range(0, len(texts), GROUP):
            found.append(States.of(backbone.encode(texts[start : start + GROUP], clip_skips[skip]).condition()))
    return States.together(found).rows(torch.tensor(order).argsort())


def probes_of(prompts: list[str]) -> list[str]:
    """The prompts by whose states a text encoder is known."""
    return prompts[:: max(1, len(prompts) // PROBES)]


def cached(backbone: Backbone, prompts: list[str], clip_skips: list[int], path: Path, progress) -> States:
    """As `read` has them, from the file at `path` where it holds what this text encoder made of these prompts."""
    probes = read(backbone, probes_of(prompts), clip_skips)
    digest = hashlib.sha256(repr((prompts, clip_skips)).encode())
    digest.update(probes.flat.view(torch.uint8).numpy())
    key = digest.hexdigest()

    expected = {name: (t.dtype, t.shape[1:]) for name, t in vars(probes).items()}

    def judge(metadata, found):
        if metadata.get("key") != key:
            raise Damaged(f"{path} is of another text encoder or other text")
        kinds = {name: (dtype, shape[1:]) for name, (dtype, shape) in found.items()}
        if kinds != expected or found["length"][1] != (len(prompts),):
            raise Damaged(f"{path} is damaged: it does not hold token states of {len(prompts)} texts")

    if path.exists():
        try:
            kept = States(**read_sealed(path, judge)[0])
            if int(kept.length.min()) < 0 or int(kept.length.sum()) != len(kept.flat):
                raise Damaged(f"{path} is damaged: it does not hold as many token states as it says")
            return kept
        except Damaged as error:
            progress(f"{error}: encoding again")
    states = read(backbone, prompts, clip_skips)
    if states.flat.numel() <= KEPT:
        write_sealed(vars(states), path, {"key": key})
    return states
