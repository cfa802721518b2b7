"""LoRA factors on a model's activations: a low-rank pair per batch row, on forward hooks that are gone afterwards.

The same code serves training and sampling. Weights are never touched, and rows without a term pass through
unchanged, to the bit.
"""

from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import torch
from torch import nn

from .hypernetwork import Factors
from .layers import Layer


class Term(NamedTuple):
    """Adapters for some rows of a batch: the n-th pair of every layer's factors acts on row rows[n]."""

    rows: torch.Tensor  # (n,) long
    layers: tuple[Layer, ...]
    factors: list[Factors]  # one per layer


def low_rank(x: torch.Tensor, f: Factors) -> torch.Tensor:
    """x (n, ..., in) through each row's own pair: (n, ..., out)."""
    flat = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
    y = flat @ f.down.transpose(1, 2) @ f.up.transpose(1, 2)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def added(output: torch.Tensor, change: torch.Tensor, layer: Layer, rows: torch.Tensor | None) -> torch.Tensor:
    """A layer's output (N, ..., out) with the change of its adapted columns in some batch rows, or in all."""
    before, after = layer.start, output.shape[-1] - layer.start - layer.outputs
    first, own, last = output.split([before, layer.outputs, after], -1)
    own = own + change if rows is None else own.index_add(0, rows, change)
    return torch.cat([first, own, last], -1) if before or after else own


Moved = Callable[[torch.device], tuple[torch.Tensor | None, Factors]]


def on_device(rows: torch.Tensor | None, factors: Factors) -> Moved:
    """A function: device -> rows and factors there. Several graphics cards may share a batch (ComfyUI's work units)."""

    @cache
    def moved(device: torch.device) -> tuple[torch.Tensor | None, Factors]:
        return None if rows is None else rows.to(device), Factors(*(t.to(device) for t in factors))

    return moved


@contextmanager
def adapter(diffusion_model: nn.Module, terms: list[Term], batch: int):
    """Inside, the model's target layers carry the terms; outside, they do not.

    Args:
        terms: adapters; several on the same row add up.
        batch: rows of the forward that follows.
    Raises:
        RuntimeError: a layer sees another number of rows, or is never called (a compiled or replaced model).
    """
    waiting: dict[str, list[tuple[Layer, Moved]]] = {}
    for term in terms:
        every = torch.equal(term.rows, torch.arange(batch, device=term.rows.device))
        for layer, factors in zip(term.layers, term.factors):
            waiting.setdefault(layer.name, []).append((layer, on_device(None if every else term.rows, factors)))
    called, handles = set(), []

    def hook(name):
        def add(module, args, output):
            x = args[0]
            if x.shape[0] != batch:
                raise RuntimeError(
                    f"UnHype: layer {name} was called with {x.shape[0]} rows where the sampler announced {batch}; "
                    "a node that regroups the batch (attention couple) cannot be combined with the eraser"
                )
            for layer, moved in waiting[name]:
                rows, factors = moved(x.device)
                change = low_rank((x if rows is None else x[rows]).to(factors.down.dtype), factors).to(output.dtype)
                output = added(output, change, layer, rows)
            called.add(name)
            return output

        return add

    try:
        for name in waiting:
            handles.append(diffusion_model.get_submodule(name).register_forward_hook(hook(name)))
        yield
        if missed := waiting.keys() - called:
            raise RuntimeError(
                f"UnHype: {len(missed)} of {len(waiting)} layers never ran their adapter, so nothing would have been erased. "
                "torch.compile does this when the model was compiled before the eraser fired, and so does a node that leaves "
                "blocks out (skip-layer guidance, TeaCache, EasyCache): take that node out of the graph"
            )
    finally:
        for handle in handles:
            handle.remove()
