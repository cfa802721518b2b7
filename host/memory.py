"""How much memory a training step takes, said before anything is loaded, and what is done where that is too much.

The step is run on PyTorch's meta device, where tensors have shapes and no data, and what autograd keeps for the backward
pass is counted. Three things make it smaller: fewer rows of a batch at a time, blocks that are computed again in the
backward pass (Chen et al. 2016, arXiv 1604.06174), and weights that stay in main memory until they are used (ComfyUI's
own).
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from unhype.adapter import Term, adapter
from unhype.condition import Condition
from unhype.hypernetwork import Hypernetwork
from unhype.layers import Family

from .versions import attention_by, for_gradients, training

GB = 1024**3
SPARE = 0.92  # share of a card's memory that is planned with
MOMENTARY = int(0.9 * GB)  # what lives only for a moment: gradients on the way, casts, the allocator's gaps


@dataclass
class Plan:
    """How a training step is run, and the memory that it takes at its peak, in bytes."""

    rows: int  # of a batch in one forward
    recompute: bool
    offload: bool
    peak: int

    def __str__(self) -> str:
        how = [f"{self.rows} rows at a time"]
        how += ["blocks computed again in the backward pass"] * self.recompute + ["weights in main memory"] * self.offload
        return ", ".join(how)


@dataclass
class Step:
    """What one training step keeps, in bytes."""

    weights: int  # of the denoiser, as stored
    network: int  # the hypernetwork: weights, gradients and Adam's two moments
    retain: int  # of the retention loss
    kept: tuple[int, int]  # between forward and backward: with one row, and more with each further one
    recomputed: tuple[int, int]  # the same where blocks are computed again
    largest_block: int  # weights of one block, cast
    flops: int  # forward and backward, of one row

    def peak(self, rows: int, recompute: bool, offload: bool) -> int:
        first, more = self.recomputed if recompute else self.kept
        weights = self.largest_block if offload else self.weights
        return int(weights + self.network + first + more * (rows - 1) + self.retain + MOMENTARY)


def plan(step: Step, batch: int, memory: float) -> Plan | None:
    """The fastest way that fits into `memory` bytes; None where none does."""
    # A weight that was moved is kept for the backward pass, unless its block is computed again.
    for recompute, offload in ((False, False), (True, False), (True, True)):
        rows = batch
        while rows:
            peak = step.peak(rows, recompute, offload)
            if peak <= SPARE * memory:
                return Plan(rows, recompute, offload, peak)
            rows //= 2
    return None


def recompute_blocks(diffusion_model: nn.Module, family: Family) -> None:
    """From now on the family's blocks keep their input only, and are computed again in the backward pass.

    ComfyUI's blocks add to their input in place, so that each works on a copy. An adapter has to stay on until after
    the backward pass.
    """

    def wrap(forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            apart = [a.clone() if isinstance(a, torch.Tensor) else a for a in args]
            own = {k: a.clone() if isinstance(a, torch.Tensor) else a for k, a in kwargs.items()}
            return forward(*apart, **own)

        def recomputed(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            # The backward pass comes back to `run` when the model's own forward is over.
            return checkpoint(for_gradients(run), *args, use_reentrant=False, **kwargs)

        return recomputed

    for block in blocks_of(diffusion_model, family):
        block.forward = wrap(block.forward)


def blocks_of(diffusion_model: nn.Module, family: Family) -> list[nn.Module]:
    return [module for name, module in diffusion_model.named_modules() if re.fullmatch(family.blocks, name)]


class Kept:
    """Inside, counts the bytes that autograd keeps, every storage once and none of `known`."""

    def __init__(self, known: Iterable[torch.Tensor] = ()) -> None:
        self.seen = {t.untyped_storage()._cdata: t.untyped_storage() for t in known}
        self.bytes = 0
        self.hooks = saved_tensors_hooks(self.keep, lambda t: t)

    def keep(self, t: torch.Tensor) -> torch.Tensor:
        storage = t.untyped_storage()
        if storage._cdata not in self.seen:
            self.seen[storage._cdata] = storage
            self.bytes += storage.nbytes()
        return t

    def __enter__(self) -> "Kept":
        self.hooks.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.hooks.__exit__(*error)


class Attention(torch.autograd.Function):
    """A stand-in of the shapes of a fused attention kernel, which keeps its inputs, its output and a number per query."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out, largest = torch.empty_like(q), torch.empty(q.shape[:-1], device=q.device)
        ctx.save_for_backward(q, k, v, out, largest)
        return out


def fused_attention(
    function: Callable[..., torch.Tensor],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **_: Any,
) -> torch.Tensor:
    out: torch.Tensor = Attention.apply(q, k, v)
    if skip_reshape and not skip_output_reshape:
        out = out.transpose(1, 2).flatten(2)
    return out


PerBlock = dict[nn.Module, tuple[int, int]]


def kept_by(
    diffusion_model: nn.Module, family: Family, network: Hypernetwork, inputs: dict[str, torch.Tensor], rows: int
) -> tuple[int, PerBlock]:
    """Bytes kept for the backward pass of a step with `rows` rows, and of each block (bytes kept, bytes of its inputs)."""
    per_block: PerBlock = {}
    open_blocks: dict[nn.Module, int] = {}
    batch = {name: value.expand(rows, *value.shape[1:]) for name, value in inputs.items()}
    device = batch["x"].device
    condition = empty_condition(network, rows, inputs["context"].shape[1], device)
    kept = Kept([*diffusion_model.parameters(), *network.parameters(), *network.buffers()])

    def enter(block: nn.Module, args: Any, kwargs: Any) -> None:
        open_blocks[block] = kept.bytes

    def leave(block: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.requires_grad]
        per_block[block] = kept.bytes - open_blocks[block], sum(a.untyped_storage().nbytes() for a in given)

    handles = []
    for block in blocks_of(diffusion_model, family):
        handles += [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave, with_kwargs=True)]
    try:
        with kept:
            factors = network(condition, torch.ones(rows, device=device))
            term = Term(torch.arange(rows), network.shape.layers, factors)
            with training(), attention_by(fused_attention) as options, adapter(diffusion_model, [term], rows):
                x, timesteps = batch.pop("x"), torch.ones(rows, device=device)
                diffusion_model(x, timesteps, transformer_options=options, **batch).float().square().mean()
    finally:
        for handle in handles:
            handle.remove()
    return kept.bytes, per_block


def empty_condition(network: Hypernetwork, rows: int, tokens: int, device: torch.device | str) -> Condition:
    shape = network.shape
    mask = torch.ones(rows, tokens, dtype=torch.bool, device=device)
    return Condition(torch.empty(rows, shape.pooled_dim, device=device), torch.empty(rows, tokens, shape.token_dim, device=device), mask)


def size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def measure(
    diffusion_model: nn.Module,
    family: Family,
    network: Hypernetwork,
    inputs: dict[str, torch.Tensor],
    retain_batch: int,
    stored: int = 0,
) -> Step:
    """What a training step of a model on the meta device keeps.

    Args:
        inputs: what the denoiser takes, one row each: x, context and, by family, y and guidance.
        stored: bytes of the model's weights, where they are stored in another way than in this model.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        one, blocks = kept_by(diffusion_model, family, network, inputs, 1)
    two, more_blocks = kept_by(diffusion_model, family, network, inputs, 2)

    def recomputed(total: int, per_block: PerBlock) -> int:
        inside = sum(k for k, _ in per_block.values())
        largest = max((k for k, _ in per_block.values()), default=0)
        return total - inside + sum(i for _, i in per_block.values()) + largest

    short, long = recomputed(one, blocks), recomputed(two, more_blocks)
    with Kept([*network.parameters(), *network.buffers()]) as retain:
        condition = empty_condition(network, retain_batch, inputs["context"].shape[1], inputs["x"].device)
        network.squared_change(condition, torch.ones(retain_batch, device=inputs["x"].device)).mean()
    width = max(p.element_size() for p in inputs.values())
    cast = max((sum(p.numel() * width for p in block.parameters()) for block in blocks), default=0)
    return Step(
        weights=stored or size([*diffusion_model.parameters(), *diffusion_model.buffers()]),
        network=4 * size(network.parameters()) + size(network.buffers()),
        retain=retain.bytes,
        kept=(one, two - one),
        recomputed=(short, long - short),
        largest_block=cast,
        flops=3 * counter.get_total_flops(),
    )


def device_memory() -> tuple[torch.device, int]:
    """The device that ComfyUI computes on, and its memory in bytes."""
    import comfy.model_management

    device = comfy.model_management.get_torch_device()
    return device, comfy.model_management.get_total_memory(device)


def plain_attention() -> None:
    """From now on attention is PyTorch's own, as on a graphics card, and not the slices that ComfyUI takes on a CPU."""
    import comfy.ldm.flux.math
    import comfy.ldm.modules.attention as attention

    attention.optimized_attention = comfy.ldm.flux.math.optimized_attention = attention.attention_pytorch
