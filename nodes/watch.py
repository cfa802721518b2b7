"""Whether the model reads the prompts that the sampler handed over, and no others.

Packs for regional prompts keep prompts in a patch of the MODEL, where the eraser cannot read them. A prompt is told
by its content: every token state that reaches a layer must be one of the row's own prompt. In most graphs all layers
are given one tensor, the one that the sampler hands over. It is compared with the prompts' own before the forward, when the
labels are fetched, and the prompts' own goes in its place, the very same in every step. What else a layer is given is compared
while the forward runs, and the answer fetched at the next one, so that the device never waits.
"""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comfy.patcher_extension import WrappersMP
from torch import nn

from ..unhype.adapter import Constant
from ..unhype.condition import Condition
from ..unhype.hypernetwork import Hypernetwork
from ..unhype.layers import Family

NEAR = 0.01  # distance of two token states of length 1 that are one and the same, cast to another type at most
WAITING = 8  # comparisons that are not fetched yet
BATCHES = 4  # whose token states are kept
log = logging.getLogger("unhype")

FOREIGN = (
    "UnHype: a prompt reaches the model that the sampler did not hand over, so the eraser cannot tell what it asks for. A node that keeps "
    "prompts in the MODEL does this (attention couple, regional prompts of Krita's and other packs, prompt injection): take it out of the "
    "graph, and put regions on the conditioning instead (Conditioning (Set Mask) or (Set Area), then Conditioning (Combine))"
)
HIDDEN = (
    "UnHype: torch.compile hides from the eraser which prompts a patch of the MODEL lets through (attention couple and regional prompts "
    "keep some there): take torch.compile or the patch out of the graph"
)


def found_in(read: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Which token states (T, D) are which of a prompt's own (S, D) up to sign and size: (T, S) bool; a state of zeros is none."""
    read, own = (torch.nn.functional.normalize(t.float(), dim=-1) for t in (read, own))
    # Without a matrix product, which TF32 would make too coarse.
    apart = [torch.cdist(read, other, compute_mode="donot_use_mm_for_euclid_dist") for other in (own, -own)]
    return torch.minimum(*apart) < NEAR


class Reading:
    """A diffusion model's modules that read token states, looked at until `end`.

    A hook stays on a module from forward to forward: to put it there each time takes longer than the look.
    """

    def __init__(self, diffusion_model: nn.Module, family: Family, look: Callable[["Reading", torch.Tensor], None]):
        modules = dict(diffusion_model.named_modules())
        self.compiled = any(name.endswith("_orig_mod") for name in modules)
        self.rows: tuple[list[int] | None] | None = None  # of the forward that runs; None where none of the sampling's does
        self.latest: torch.Tensor | None = None  # what was looked at

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            if not torch.compiler.is_compiling():  # traced away: a compiled model stays as fast as it was
                look(self, args[0])

        readers = [module for name, module in modules.items() if re.fullmatch(family.readers, name)]
        self.handles = [module.register_forward_pre_hook(before) for module in readers]

    def end(self) -> None:
        for handle in self.handles:
            handle.remove()


class Watch:
    """For one sampling: the token states of its prompts, and a look at what the model's layers read.

    Args:
        prompts: token states (T, D) by label.
        erasers: pairs of an eraser's network and its concepts that are off, (K,) bool.
        warned: what was said before, so that it is said once.
    """

    def __init__(
        self,
        family: Family,
        prompts: list[torch.Tensor],
        erasers: list[tuple[Hypernetwork, torch.Tensor]],
        warned: set[str],
    ):
        self.family, self.prompts, self.erasers, self.warned = family, prompts, erasers, warned
        self.models: dict[int, Reading] = {}  # by diffusion model: graphics cards may have one each
        self.cast: dict[tuple[int, torch.device, torch.dtype], torch.Tensor] = {}
        self.expected: dict[tuple[Any, ...], Constant] = {}  # the last batches' token states, by what they depend on
        self.dtype: torch.dtype | None = None  # in which the model reads them
        # Whether they were equal, on the device; what was read, labels.
        self.waiting: list[tuple[torch.Tensor, torch.Tensor, list[int]]] = []
        self.seen = False

    def own_in_place_of(self, handed: object, labels: list[int] | None) -> Constant | None:
        """Token states that equal those handed to the model, in the type that it reads, and are the same tensor in every step.

        None where those of the prompts `labels` are others.
        """
        if labels is None or not isinstance(handed, torch.Tensor) or handed.ndim != 3 or not self.fits(handed, labels):
            return None
        handed = handed.to(self.dtype or handed.dtype)
        own = self.constant(handed, labels)
        return own if torch.equal(handed, own.tensor) else None

    @contextmanager
    def during(
        self, diffusion_model: nn.Module, labels: list[int] | None, options: dict[str, Any], own: Constant | None = None
    ) -> Iterator[None]:
        """Around one forward whose rows belong to the prompts `labels`; None where a node calls the model by itself.

        own: the token states that the model is handed. Raises RuntimeError, at the latest in `settle`, where a layer reads others.
        """
        reading = self.models.get(id(diffusion_model))
        if reading is None:
            reading = self.models[id(diffusion_model)] = Reading(diffusion_model, self.family, self.look)
        if reading.compiled or "torch.compile" in options.get("wrappers", {}).get(WrappersMP.APPLY_MODEL, {}):
            self.blind(options)
        reading.rows, reading.latest = (labels,), None if own is None else own.tensor
        try:
            yield
        finally:
            reading.rows = reading.latest = None
        if not self.seen:
            self.blind(options)

    def look(self, reading: "Reading", read: torch.Tensor) -> None:
        if reading.rows is None:
            return
        self.seen = True
        if read is not reading.latest:
            self.compare(read, *reading.rows)
            reading.latest = read

    def compare(self, read: torch.Tensor, labels: list[int] | None) -> None:
        """Compare token states (N, T, D) with those of their rows' prompts, without waiting for the answer."""
        if labels is None:
            if any(self.means_erased(row) for row in read):
                raise RuntimeError(FOREIGN)
            return
        if len(read) != len(labels):
            raise RuntimeError(FOREIGN)
        if not self.fits(read, labels):
            self.judge(read, labels)
            return
        self.dtype = read.dtype
        self.waiting.append(((read == self.constant(read, labels).tensor).all(), read, labels))
        if len(self.waiting) > WAITING:
            self.settle()

    def fits(self, read: torch.Tensor, labels: list[int]) -> bool:
        """Whether token states (N, T, D) can be those of the prompts, lengthened as the host does it in a batch."""
        return len(read) == len(labels) and not any(read.shape[1] % len(self.prompts[label]) for label in labels)

    def constant(self, like: torch.Tensor, labels: list[int]) -> Constant:
        """The token states of the prompts as long as others (N, T, D), on their device and in their type."""
        key = (tuple(labels), like.shape[1], like.device, like.dtype)
        if key not in self.expected:
            own = [self.own(label, like).repeat(like.shape[1] // len(self.prompts[label]), 1) for label in labels]
            if len(self.expected) == BATCHES:
                del self.expected[next(iter(self.expected))]
            self.expected[key] = Constant(torch.stack(own), labels)
        return self.expected[key]

    def own(self, label: int, like: torch.Tensor) -> torch.Tensor:
        """A prompt's token states on the device and in the type of others."""
        key = label, like.device, like.dtype
        if key not in self.cast:
            self.cast[key] = self.prompts[label].to(like)
        return self.cast[key]

    def forget(self) -> None:
        """Let go of what is kept from step to step, and of the model."""
        for reading in self.models.values():
            reading.end()
        self.models.clear()
        self.cast.clear()
        self.expected.clear()

    def settle(self) -> None:
        """Fetch the answers of all comparisons so far. Raises RuntimeError for a prompt that is not the row's own."""
        waiting, self.waiting = self.waiting, []
        for equal, read, labels in waiting:
            if not equal:
                self.judge(read, labels)

    def judge(self, read: torch.Tensor, labels: list[int]) -> None:
        """Raise RuntimeError unless every row's token states are its own prompt's, but for a few of a picture beside all of these."""
        for row, label in zip(read, labels):
            own = self.own(label, read)
            found = found_in(row, own)
            foreign = row[~found.any(1) & (row != 0).any(1)]
            if not len(foreign):
                continue
            whole = (found.any(0) | (own == 0).all(1)).all()
            if not whole or 2 * len(foreign) >= min(len(own), self.family.tokens) or self.means_erased(foreign, own):
                raise RuntimeError(FOREIGN)

    def means_erased(self, states: torch.Tensor, own: torch.Tensor | None = None) -> bool:
        """Whether a concept fires on token states (T, D) that does not fire on the row's own prompt."""
        for network, off in self.erasers:
            fires = firing(states, network)
            if own is not None:
                fires &= ~firing(own, network)
            if (fires & ~off).any():
                return True
        return False

    def blind(self, options: dict[str, Any]) -> None:
        """What a compiled model reads cannot be seen: refuse it where a patch could hold prompts, else say so once."""
        if "attn2_patch" in options.get("patches", {}) or options.get("patches_replace", {}).get("attn2"):
            raise RuntimeError(HIDDEN)
        if "torch.compile" not in self.warned:
            log.warning(
                "torch.compile hides from the eraser what the model reads: prompts that a node keeps in the MODEL "
                "(attention couple, regional prompts) would be drawn unerased without an error"
            )
        self.warned.add("torch.compile")


def firing(states: torch.Tensor, network: Hypernetwork) -> torch.Tensor:
    """Which concepts fire on token states (T, D), (1, K) bool; the switch does not read the pooled embedding."""
    tokens = states[None].float().cpu()
    condition = Condition(torch.zeros(1, network.shape.pooled_dim), tokens, tokens.abs().amax(-1) > 0)
    return network.scores(condition) > network.switch.threshold
