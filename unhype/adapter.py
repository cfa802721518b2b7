"""LoRA factors on a model's activations: a low-rank pair per batch row, on forward hooks that are gone afterwards.

The same code serves training and sampling. Weights are never touched, and rows without a term pass through
unchanged, to the bit.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
MOST = 2**24  # numbers that are kept of what a Constant brings about


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


def put_in_place(output: torch.Tensor, change: torch.Tensor, layer: Layer, rows: Rows) -> torch.Tensor:
    """The same as `added` where the change is known already, in the output's own memory."""
    own = output if layer.outputs == output.shape[-1] else output.narrow(-1, layer.start, layer.outputs)
    if isinstance(rows, torch.Tensor):
        own.index_add_(0, rows, change)
    else:
        own[rows].add_(change)
    return output


def is_its_own(output: torch.Tensor, module: nn.Module) -> bool:
    """Whether nothing else holds a layer's output: a linear layer's own forward made it, no other hook saw it, no gradient is taken."""
    alone = len(module._forward_hooks) == 1 and "forward" not in vars(module)
    made_here = isinstance(module, nn.Linear) and alone and output.ndim == 3
    return made_here and not is_traced()


def is_traced() -> bool:
    """Whether what is computed is recorded, for a gradient or by a compiler, so that nothing may be made in place or beforehand."""
    return torch.is_grad_enabled() or torch.compiler.is_compiling()


def as_slice(rows: torch.Tensor) -> Rows:
    """Rows as a slice where they follow one another."""
    some = rows.tolist()
    return slice(some[0], some[-1] + 1) if some and some == list(range(some[0], some[0] + len(some))) else rows


class Pairs:
    """A term's rows and its factors of a layer, on each device that asks: several may share a batch (ComfyUI's work units)."""

    def __init__(self, rows: Rows, factors: Factors):
        self.rows, self.factors = rows, factors
        self.there: dict[torch.device, tuple[Rows, Factors]] = {}

    def on(self, device: torch.device) -> tuple[Rows, Factors]:
        if device not in self.there:
            rows = self.rows.to(device) if isinstance(self.rows, torch.Tensor) else self.rows
            self.there[device] = rows, self.factors.to(device)
        return self.there[device]


def rewritten(x: torch.Tensor, terms: list[Term]) -> torch.Tensor:
    """What layers read in place of x (N, T, in): the rows of terms that rewrite, as they have it; x itself where none does."""
    changes = []
    for term in terms:
        rewrite = term.factors[0].rewrite if term.factors else None
        if rewrite is not None and len(term.rows):
            rows = term.rows.to(x.device)
            changes.append((rows, rewrite.to(x.device)(x[rows]) - x[rows]))
    for rows, change in changes:
        x = x.index_add(0, rows, change)
    return x


class Adapted(NamedTuple):
    """A module that terms act on."""

    name: str
    module: nn.Module
    pairs: list[tuple[Layer, Pairs]]


class Constant:
    """A tensor (N, T, in) that layers read in many forwards, and the changes that terms make there, which are constant too.

    alike: a number for every row; rows of one number are equal.
    """

    def __init__(self, tensor: torch.Tensor, alike: Sequence[int]):
        self.tensor, self.alike, self.room = tensor, alike, MOST
        self.kept: dict[tuple[str, int], tuple[Factors, Rows, torch.Tensor]] = {}  # by layer and term
        self.read, self.read_by = tensor, list[Term]()  # what the terms of the last forward make of it
        self.adapted: tuple[nn.Module, list[Term], list[Adapted]] | None = None  # the last forward's

    def rewritten(self, terms: list[Term]) -> torch.Tensor:
        if self.read_by is not terms:
            self.read, self.read_by = rewritten(self.tensor, terms), terms
            self.kept, self.room = {}, MOST  # what layers made of something else
        return self.read

    def change(self, key: tuple[str, int], pairs: Pairs, dtype: torch.dtype) -> tuple[Rows, torch.Tensor]:
        """The rows that a term acts on and its change there, (n, T, out), made anew where its factors are not those of last time."""
        made_of, rows, change = self.kept.get(key, (None, slice(0), self.tensor))
        if made_of is pairs.factors and change.dtype == dtype:
            return rows, change
        rows, own = pairs.on(self.tensor.device)
        x = self.read[rows]
        alike = self.alike[rows] if isinstance(rows, slice) else [self.alike[row] for row in rows.tolist()]
        some = slice(1 if len(set(alike)) == 1 else None)
        change = low_rank(x[some].to(own.down.dtype), own.rows(some)).to(dtype)
        room, change = self.room - change.numel(), change.expand(len(x), -1, -1)
        if room >= 0:
            self.room, self.kept[key] = room, (pairs.factors, rows, change)
        return rows, change


def submodule(model: nn.Module, name: str) -> nn.Module:
    """The same as get_submodule in a tenth of the time, where nothing stands between."""
    found = model
    for part in name.split("."):
        inner = found._modules.get(part)
        if inner is None:
            return model.get_submodule(name)
        found = inner
    return found


def adapted_modules(model: nn.Module, terms: list[Term], constant: Constant | None) -> list[Adapted]:
    """The modules that the terms act on; those of the last forward where it was one of the same terms."""
    if constant is not None and constant.adapted is not None:
        last, its, adapted = constant.adapted
        if last is model and its is terms:
            return adapted
    found: dict[str, Adapted] = {}
    for term in terms:
        rows = as_slice(term.rows)
        for layer, factors in zip(term.layers, term.factors):
            if layer.name not in found:
                found[layer.name] = Adapted(layer.name, submodule(model, layer.name), [])
            found[layer.name].pairs.append((layer, Pairs(rows, factors)))
    adapted = list(found.values())
    if constant is not None:
        constant.adapted = model, terms, adapted
    return adapted


@contextmanager
def adapter(diffusion_model: nn.Module, terms: list[Term], batch: int, constant: Constant | None = None) -> Iterator[None]:
    """Inside, the model's target layers carry the terms; outside, they do not.

    Args:
        terms: adapters; several on the same row add up.
        batch: rows of the forward that follows.
        constant: what layers may read; where one does, its change is made once for all forwards.
    Raises:
        RuntimeError: a layer sees another number of rows, or is never called (a compiled or replaced model).
    """
    adapted = adapted_modules(diffusion_model, terms, constant)
    called, handles = set(), []
    rewrites = any(term.factors and term.factors[0].rewrite is not None for term in terms)
    latest: list[torch.Tensor] = []  # what a layer was given, and what it reads: mostly the same for all

    def read(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x = args[0]
        if x.shape[0] != batch:
            return args  # said after the layer
        if constant is not None and x is constant.tensor and not is_traced():
            return constant.rewritten(terms), *args[1:]
        if not latest or latest[0] is not x:
            latest[:] = x, rewritten(x, terms)
        return latest[1], *args[1:]

    def hook(name: str, pairs_of_terms: list[tuple[Layer, Pairs]]) -> Callable[..., torch.Tensor]:
        def add(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
            x = args[0]
            if x.shape[0] != batch:
                raise RuntimeError(
                    f"UnHype: layer {name} was called with {x.shape[0]} rows where the sampler announced {batch}; "
                    "a node that regroups the batch (attention couple) cannot be combined with the eraser"
                )
            in_place = is_its_own(output, module)
            known = constant if constant is not None and x is constant.read and not is_traced() else None
            for i, (layer, pairs) in enumerate(pairs_of_terms):
                if known is not None:
                    rows, change = known.change((name, i), pairs, output.dtype)
                    output = put_in_place(output, change, layer, rows) if in_place else added(output, change, layer, rows)
                elif in_place:
                    add_in_place(output, x, layer, *pairs.on(x.device))
                else:
                    rows, factors = pairs.on(x.device)
                    output = added(output, low_rank(x[rows].to(factors.down.dtype), factors).to(output.dtype), layer, rows)
            called.add(name)
            return output

        return add

    try:
        for name, module, pairs in adapted:
            if rewrites:
                handles.append(module.register_forward_pre_hook(read))
            handles.append(module.register_forward_hook(hook(name, pairs)))
        yield
        if missed := len(adapted) - len(called):
            raise RuntimeError(
                f"UnHype: {missed} of {len(adapted)} layers never ran their adapter, so nothing would have been erased. "
                "torch.compile does this when the model was compiled before the eraser fired, and so does a node that leaves "
                "blocks out (skip-layer guidance, TeaCache, EasyCache): take that node out of the graph"
            )
    finally:
        for handle in handles:
            handle.remove()
