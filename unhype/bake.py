"""An adapter and the rewriting before it as one weight change, for one prompt: what a weight patch and a LoRA file can hold.

    dW = W R + theta (I + R)         R = F^T (X X^T + l I)^-1 X

for the prompt's states X (T, D) and the changes F (T, D) that rewriting makes of them: the R of least size with X R^T ~ F, of
rank RANK. So the layers give on this prompt what they give where its states are rewritten. On another prompt a state is
changed as far as it is like those of X.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

from .condition import Condition
from .hypernetwork import Factors
from .layers import Layer

RANK = 8
RIDGE = 1e-3  # l, as a multiple of the mean square of X's rows


class Fold(NamedTuple):
    """R of one prompt, out @ into."""

    into: torch.Tensor  # (RANK, D)
    out: torch.Tensor  # (D, RANK)


def fold(states: torch.Tensor, changes: torch.Tensor) -> Fold:
    """R from X and F, (T, D) each."""
    x, f = states.double(), changes.double()
    u, s, v = torch.linalg.svd(f, full_matrices=False)
    gram = x @ x.T
    level = RIDGE * gram.diagonal().mean().clamp_min(1e-12)
    into = (u[:, :RANK] * s[:RANK]).T @ torch.linalg.solve(gram + level * torch.eye(len(x), dtype=x.dtype), x)
    return Fold(into.float(), v[:RANK].T.float())


def folded_in(factors: Factors, fold: Fold, weight: torch.Tensor) -> Factors:
    """One layer's pair with R before it, (1, rank + RANK, in) and (1, out, rank + RANK); weight: W, its own rows (out, in)."""
    down = factors.down + factors.down @ fold.out @ fold.into
    return Factors(torch.cat([down, fold.into[None]], 1), torch.cat([factors.up, (weight @ fold.out)[None]], 2))


def baked(
    layers: tuple[Layer, ...], factors: list[Factors], condition: Condition, weight_of: Callable[[str], torch.Tensor | None]
) -> list[Factors] | None:
    """Every layer's pair for the one prompt (one row) that they were made for, its rewriting folded in; None where a weight cannot be read.

    Args:
        weight_of: layer name -> its whole weight, on any device, or None.
    """
    rewrite = factors[0].rewrite
    if rewrite is None:
        return factors
    states = condition.tokens[:, condition.mask[0]].float()
    own, found = fold(states[0], (rewrite(states) - states)[0]), []
    for layer, pair in zip(layers, factors):
        weight = weight_of(layer.name)
        if weight is None:
            return None
        found.append(folded_in(pair, own, weight[layer.start : layer.start + layer.outputs].to("cpu", torch.float32)))
    return found
