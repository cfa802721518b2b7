"""A base model's weights as a few numbers, enough to tell how far another model's are from them.

A random sign vector on either side of a matrix gives a number whose square is, on average, the squared norm of the
matrix. So the numbers of two models, each layer's divided by its norm, are as far apart as their weights.
"""

import zlib
from collections.abc import Callable

import torch

from .layers import Layer

PAIRS, LAYERS = 4, 32  # sign vectors a layer; layers at most
DIGITS = 6


def chosen(layers: tuple[Layer, ...]) -> list[Layer]:
    """Up to LAYERS of the layers, evenly."""
    count = min(LAYERS, len(layers))
    return [layers[i * len(layers) // count] for i in range(count)]


def signs(rng: torch.Generator, count: int, length: int) -> torch.Tensor:
    return torch.randint(2, (count, length), generator=rng).float() * 2 - 1


def projections(layer: Layer, weight: torch.Tensor) -> list[float] | None:
    """PAIRS numbers of a layer's own rows; None where its weight is no plain matrix of numbers (quantised, not loaded)."""
    if type(weight) not in (torch.Tensor, torch.nn.Parameter) or weight.is_meta or not weight.is_floating_point() or weight.ndim != 2:
        return None
    own = weight.detach()[layer.start : layer.start + layer.outputs].float()
    rng = torch.Generator().manual_seed(zlib.crc32(layer.name.encode()))
    left, right = (signs(rng, PAIRS, length).to(own.device) for length in own.shape)
    found = ((left @ own) * right).sum(1) / own.norm()
    return [round(x, DIGITS) for x in found.tolist()] if found.isfinite().all() else None


def sketch(layers: tuple[Layer, ...], weight_of: Callable[[str], torch.Tensor]) -> list[float]:
    """The numbers of a model, PAIRS per chosen layer; none where a weight cannot be read.

    Args:
        weight_of: layer name -> its weight.
    """
    parts = [projections(layer, weight_of(layer.name)) for layer in chosen(layers)]
    return [] if None in parts else [number for part in parts if part for number in part]


def difference(layers: tuple[Layer, ...], numbers: list[float], weight_of: Callable[[str], torch.Tensor]) -> float | None:
    """How far a model's weights are from those that were sketched, as a share of their size; None where none can be read."""
    squares = []
    for i, layer in enumerate(chosen(layers)):
        own = projections(layer, weight_of(layer.name))
        if own is not None and numbers:
            squares += [(a - b) ** 2 for a, b in zip(own, numbers[PAIRS * i : PAIRS * (i + 1)])]
    return (sum(squares) / len(squares)) ** 0.5 if squares else None
