"""The hypernetwork: a prompt's condition c and a step s -> LoRA factors for every target layer (arXiv 2602.03410).

    theta_s = theta_0 + (s / S) * head(c, s, off)

theta_0 is an ordinary LoRA start, down projections at random and up projections zero, the same for every prompt.
So H(c, 0) is exactly the zero adapter, and no gradient is dead at the start. `off` are the concepts of the file that
are switched off: of "a cat and a dog" with "dog" switched off, the dog stays.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import nn

from .condition import EPS, Condition, Standardise, Summary, Switch
from .layers import Layer
from .rewriting import Maps, Rewrite

FREQUENCIES = 16  # Fourier features of s / S, as the paper's authors have them
LONGEST = 1e3  # an adapter over all layers; trained ones are 4 to 100 long, and fp16 ends at 65,504
STRONGEST = 10.0
FIRING = 0.5  # a gate at its threshold
BESIDE = 0.25  # of the adapter acts on rewritten states: more of it costs what stands beside


@dataclass(frozen=True)
class Shape:
    """All sizes of an eraser; with the family, all that is needed to build one."""

    layers: tuple[Layer, ...]
    rank: int  # 0: there is no adapter, token states are rewritten alone
    steps: int  # S
    hidden: int
    queries: int
    pooled_dim: int  # 0: no pooled embedding is read
    token_dim: int
    concepts: int
    bottleneck: int = 0  # rank of a head's matrix, which is folded; 0: it is whole
    look: int = 0  # width of the switch's hidden layer; 0: it is linear
    rewrite: int = 0  # rank of the maps of token states (rewriting.py); 0: they are read as they are


class Factors(NamedTuple):
    """One layer's LoRA factors, a pair per row: the weight change of row n is up[n] @ down[n]."""

    down: torch.Tensor  # (N, rank, in)
    up: torch.Tensor  # (N, out, rank)
    rewrite: Rewrite | None = None  # how its input's rows are read, the same for all layers

    def rows(self, index: slice | torch.Tensor) -> "Factors":
        return Factors(self.down[index], self.up[index], self.rewrite and self.rewrite.rows(index))

    def to(self, device: torch.device) -> "Factors":
        return Factors(self.down.to(device), self.up.to(device), self.rewrite and self.rewrite.to(device))


def fourier(x: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of x in 0..1 at 16 frequencies: (N,) -> (N, 32)."""
    angle = torch.pi * x[:, None] * torch.arange(1, FREQUENCIES + 1, device=x.device)
    return torch.cat([angle.sin(), angle.cos()], 1)


def new_head(shape: Shape, layer: Layer) -> nn.Module:
    """From the trunk to one layer's factors, linear; where the shape has a bottleneck, folded (unhype/fold.py)."""
    size = shape.rank * (layer.inputs + layer.outputs)
    if shape.bottleneck:
        return nn.Sequential(nn.Linear(shape.hidden, shape.bottleneck, bias=False), nn.Linear(shape.bottleneck, size, bias=False))
    head = nn.Linear(shape.hidden, size or 1, bias=False)
    if not size:  # of an eraser that rewrites alone
        head.weight = nn.Parameter(head.weight.detach()[:0])
        return head
    nn.init.normal_(head.weight, std=0.1 * (shape.hidden * layer.inputs) ** -0.5)
    return head


def whole(head: nn.Module) -> torch.Tensor:
    """A head's matrix W, (rank * (in + out), hidden), folded or not."""
    *first, last = head.parameters()
    return last @ first[0] if first else last


def gram(head: nn.Module) -> torch.Tensor:
    """W^T W of a head's whole matrix W: (hidden, hidden)."""
    *first, last = head.parameters()
    square = last.T @ last
    return first[0].T @ square @ first[0] if first else square


class Hypernetwork(nn.Module):
    """Shared trunk, one head per layer, and beside them the switch and the standardisation they share."""

    least: torch.Tensor  # (K,) how long the adapter is at the least where a concept fires

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.standardise = Standardise(shape.pooled_dim, shape.token_dim)
        self.switch = Switch(shape.concepts, shape.token_dim, shape.look)
        self.rewriting = Maps(shape.concepts, shape.token_dim, shape.rewrite) if shape.rewrite else None
        self.summary = Summary(shape.queries, shape.token_dim)
        seen = shape.pooled_dim + shape.queries * shape.token_dim + 2 * FREQUENCIES + shape.token_dim
        self.concept = nn.Parameter(torch.randn(shape.concepts, shape.hidden))
        self.register_buffer("least", torch.zeros(shape.concepts))
        self.trunk = nn.Sequential(nn.Linear(seen, shape.hidden), nn.SiLU(), nn.Linear(shape.hidden, shape.hidden), nn.SiLU())
        self.base_down = nn.ParameterList(torch.randn(shape.rank, n.inputs) / n.inputs**0.5 for n in shape.layers)
        self.heads = nn.ModuleList(new_head(shape, layer) for layer in shape.layers)

    def forward(self, condition: Condition, s: torch.Tensor, off: torch.Tensor | None = None) -> list[Factors]:
        """Factors of every layer for conditions of N rows, steps s (N,) in 0..S and concepts switched off, (N, K) bool.

        Where a concept fires its adapter is at least `least` long, by the concept's gate: strange words around an erased
        one confuse the trunk, and a shorter adapter of the right direction would let the concept through. However strange they
        are it is at most LONGEST long, so that its factors are finite.
        """
        strength, h, least, gates = self.hidden(condition, s, off)
        change = torch.cat(self.changes(h), 1)  # (N, every layer's down, then its up)
        length = torch.linalg.vector_norm(change, dim=1).clamp_min(EPS)
        size = (strength * torch.minimum((least / length).clamp_min(1), LONGEST / length))[:, None]
        change = change * size if torch.is_grad_enabled() else change.mul_(size)  # memory taken anew would cost more than the product
        rewrite = None if self.rewriting is None else Rewrite(self.standardise, self.switch, self.rewriting, gates > FIRING, strength)
        rank, factors = self.shape.rank, []
        pieces = change.split([rank * size for layer in self.shape.layers for size in (layer.inputs, layer.outputs)], 1)
        for layer, base, down, up in zip(self.shape.layers, self.base_down.parameters(), pieces[::2], pieces[1::2]):
            factors.append(Factors(base + down.view(len(s), rank, layer.inputs), up.view(len(s), layer.outputs, rank), rewrite))
        return factors

    def changes(self, h: torch.Tensor) -> list[torch.Tensor]:
        """What every head makes of h (N, hidden), (N, rank * (in + out)) each; the first halves of folded ones in one product."""
        if not self.shape.bottleneck:
            return [head(h) for head in self.heads]
        first, last = zip(*((a.weight, b.weight) for a, b in cast(Any, self.heads)))
        inner = nn.functional.linear(h, torch.cat(first)).split(self.shape.bottleneck, 1)
        return [nn.functional.linear(x, weight) for x, weight in zip(inner, last)]

    def hidden(self, condition: Condition, s: torch.Tensor, off: torch.Tensor | None) -> tuple[torch.Tensor, ...]:
        """s / S (N,), what the heads see, (N, hidden), the least length of the adapter at s = S, (N,), and the gates (N, K)."""
        strength = s / self.shape.steps
        c = self.standardise(condition)
        each = self.switch.per_token(c.tokens)
        gates = self.switch.gates(c, off, each)
        first, *rest = self.trunk
        h = first(torch.cat([c.pooled, self.summary(c), fourier(strength), self.switch.firing_state(c, off, each)], 1))
        h = h + gates @ self.concept
        for part in rest:
            h = part(h)
        return strength, h, (gates * self.least).amax(1), gates

    def squared_change(self, condition: Condition, s: torch.Tensor, off: torch.Tensor | None = None) -> torch.Tensor:
        """|| H(c, s) - H(c, 0) ||^2 over all layers, (N,), without writing the factors out.

        The heads are linear, so it is (s / S)^2 h^T G h with G the sum of their W^T W, or (s / S)^2 least^2.
        """
        strength, h, least, _ = self.hidden(condition, s, off)
        total = sum(gram(head) for head in self.heads)
        return strength.square() * torch.maximum(((h @ total) * h).sum(1), least.square())

    def scores(self, condition: Condition) -> torch.Tensor:
        """The switch's score of every concept, (N, K)."""
        scores: torch.Tensor = self.switch(self.standardise(condition))
        return scores

    def fires(self, condition: Condition, off: torch.Tensor | None = None) -> torch.Tensor:
        """Whether any concept fires that is not off (N or 1, K), (N,) bool."""
        return self.switch.fires(self.scores(condition), off)


def rows_of(factors: list[Factors], index: torch.Tensor) -> list[Factors]:
    """Of every layer's factors some rows."""
    rewrite = factors[0].rewrite.rows(index) if factors and factors[0].rewrite else None
    return [Factors(f.down[index], f.up[index], rewrite) for f in factors]


def as_used(factors: list[Factors]) -> list[Factors]:
    """Of an adapter what acts on rewritten states: BESIDE of it, and all where none are."""
    return [f._replace(up=f.up * BESIDE) for f in factors] if factors and factors[0].rewrite else factors


def at_strength(
    network: Hypernetwork, condition: Condition, strength: float, off: torch.Tensor | None = None, alone: bool = False
) -> list[Factors]:
    """Factors at a node's strength: up to 1 it walks s = strength * S, above 1 it scales the adapter at S.

    alone: all of the adapter, where no state is rewritten. Raises ValueError for a strength that is no number from 0 to STRONGEST.
    """
    if not 0 <= strength <= STRONGEST:
        raise ValueError(f"strength is {strength}, expected a number from 0 to {STRONGEST:g}: 1 erases as trained")
    s = torch.full((len(condition.pooled),), min(strength, 1.0) * network.shape.steps, device=condition.pooled.device)
    factors = network(condition, s, off)
    factors = [f._replace(rewrite=None) for f in factors] if alone else as_used(factors)
    return [f._replace(up=f.up * strength) for f in factors] if strength > 1 else factors
