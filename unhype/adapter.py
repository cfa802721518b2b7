"""LoRA factors on a model's activations: a low-rank pair per batch row, on forward hooks that are gone afterwards.

The same code serves training and sampling. Weights are never touched, and rows without a term pass through
unchanged, to the bit.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import nn

from .hypernetwork import Factors
from .layers import Layer


class Term(NamedTuple):
    """Adapters for some rows of a batch: the n-th pair of every layer's factors acts on row rows[n]."""

    rows: torch.Tensor  # (n,) long
    layers: tuple[Layer, ...]
    factors: list[Factors]  # one per layer


Rows = slice | torch.Tensor
Moved = Callable[[torch.device], tuple[Rows, Factors]]


def low_rank(x: torch.Tensor, f: Factors) -> torch.Tensor:
    """x (n, ..., in) through each row's own pair: (n, ..., out)."""
    flat = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
    y = flat @ f.down.transpose(1, 2) @ f.up.transpose(1, 2)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def added(output: torch.Tensor, change: torch.Tensor, layer: Layer, rows: Rows) -> torch.Tensor:
    """A layer's output (N, ..., out) with the change of its adapted columns in some batch rows."""
    before, after = layer.start, output.shape[-1] - layer.start - layer.outputs
    first, own, last = output.split([before, layer.outputs, after], -1)
    every = isinstance(rows, slice) and len(change) == len(own)
    rows = torch.arange(len(own), device=own.device)[rows] if isinstance(rows, slice) else rows
    own = own + change if every else own.index_add(0, rows, change)
    return torch.cat([first, own, last], -1) if before or after else own


def add_in_place(output: torch.Tensor, x: torch.Tensor, layer: Layer, rows: Rows, f: Factors) -> None:
    """The same as `added` in the output's own memory, in a third of the time; x is (N, T, in)."""
    own, inner, up = output.narrow(-1, layer.start, layer.outputs), x[rows].to(f.down.dtype) @ f.down.transpose(1, 2), f.up.transpose(1, 2)
    if isinstance(rows, torch.Tensor):
        own.index_add_(0, rows, (inner @ up).to(own.dtype))
    elif own.dtype == inner.dtype == up.dtype:  # under autocast the product alone is of another type
        own[rows].baddbmm_(inner, up)
    else:
        own[rows].add_((inner @ up).to(own.dtype))


def is_its_own(output: torch.Tensor, module: nn.Module) -> bool:
    """Whether nothing else holds a layer's output: a linear layer's own forward made it, no other hook saw it, no gradient is taken."""
    alone = len(module._forward_hooks) == 1 and "forward" not in vars(module)
    made_here = isinstance(module, nn.Linear) and alone and output.ndim == 3
    return made_here and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def as_slice(rows: torch.Tensor) -> Rows:
    """Rows as a slice where they follow one another."""
    some = rows.tolist()
    return slice(some[0], some[-1] + 1) if some and some == list(range(some[0], some[0] + len(some))) else rows


def on_device(rows: Rows, factors: Factors) -> Moved:
    """A function: device -> rows and factors there. Several graphics cards may share a batch (ComfyUI's work units)."""

    @cache
    def moved(device: torch.device) -> tuple[Rows, Factors]:
        return rows.to(device) if isinstance(rows, torch.Tensor) else rows, Factors(*(t.to(device) for t in factors))

    return moved


@contextmanager
def adapter(diffusion_model: nn.Module, terms: list[Term], batch: int) -> Iterator[None]:
    """Inside, the model's target layers carry the terms; outside, they do not.

    Args:
        terms: adapters; several on the same row add up.
        batch: rows of the forward that follows.
    Raises:
        RuntimeError: a layer sees another number of rows, or is never called (a compiled or replaced model).
    """
    waiting: dict[str, list[tuple[Layer, Moved]]] = {}
    for term in terms:
        rows = as_slice(term.rows)
        for layer, factors in zip(term.layers, term.factors):
            waiting.setdefault(layer.name, []).append((layer, on_device(rows, factors)))
    called, handles = set(), []

    def hook(name: str) -> Callable[..., torch.Tensor]:
        def add(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            x = args[0]
            if x.shape[0] != batch:
                raise RuntimeError(
                    f"UnHype: layer {name} was called with {x.shape[0]} rows where the sampler announced {batch}; "
                    "a node that regroups the batch (attention couple) cannot be combined with the eraser"
                )
            in_place = is_its_own(output, module)
            for layer, moved in waiting[name]:
                rows, factors = moved(x.device)
                if in_place:
                    add_in_place(output, x, layer, rows, factors)
                else:
                    output = added(output, low_rank(x[rows].to(factors.down.dtype), factors).to(output.dtype), layer, rows)
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
