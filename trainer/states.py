"""Token states of many prompts of any length, one behind the other: what the switch is fitted on."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import torch

from host.backbone import Backbone
from unhype.condition import TOGETHER, Condition

from .run import processes
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

    def put_together(self, prompts: torch.Tensor, total: int) -> "States":
        """Of every process's prompts, given by their numbers, one behind the other, all."""
        length = processes.whole(self.length, prompts, total)
        start = int(length[: int(prompts[0])].sum())
        return States(processes.whole(self.flat, torch.arange(len(self.flat)) + start, int(length.sum())), length)

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
    groups = []  # of what is encoded together: the clip skip, and numbers of prompts
    for (skip, _), alike in groupby(sorted(range(len(prompts)), key=lambda i: (*kind(i), len(prompts[i]))), kind):
        rows = list(alike)
        groups += [(clip_skips[skip], rows[start : start + GROUP]) for start in range(0, len(rows), GROUP)]
    mine = processes.mine(len(groups)).tolist() if len(groups) >= processes.count() else range(len(groups))
    encoded = lambda skip, rows: States.of(backbone.encode([prompts[i] for i in rows], skip).condition())
    found = States.together([encoded(*groups[g]) for g in mine])
    if len(mine) < len(groups):
        before = sum(len(rows) for _, rows in groups[: mine[0]])
        found = found.put_together(torch.arange(len(found)) + before, len(prompts))
    return found.rows(torch.tensor([i for _, rows in groups for i in rows]).argsort())


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

    kept = None
    if path.exists():
        try:
            kept = States(**read_sealed(path, judge)[0])
            if int(kept.length.min()) < 0 or int(kept.length.sum()) != len(kept.flat):
                raise Damaged(f"{path} is damaged: it does not hold as many token states as it says")
        except Damaged as error:
            kept = None
            progress(f"{error}: encoding again")
    if not processes.any_of(kept is None):
        return kept
    states = read(backbone, prompts, clip_skips)
    if states.flat.numel() <= KEPT and processes.first():
        write_sealed(vars(states), path, {"key": key})
    return states
