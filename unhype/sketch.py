"""A base model's weights as a few numbers, enough to tell how far another model's are from them.

A random sign vector on either side of a matrix gives a number whose square is, on average, the squared norm of the
matrix. So the numbers of two models, each layer's divided by its norm, are as far apart as their weights.
"""

import zlib

import torch
from torch import nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .layers import Layer

PAIRS, LAYERS = 4, 32  # sign vectors a layer; layers at most
DIGITS = 6
PLAIN = (torch.Tensor, nn.Parameter)


def chosen(layers: tuple[Layer, ...]) -> list[Layer]:
    """Up to LAYERS of the layers, evenly."""
    count = min(LAYERS, len(layers))
    return [layers[i * len(layers) // count] for i in range(count)]


def signs(rng: torch.Generator, count: int, length: int) -> torch.Tensor:
    return torch.randint(2, (count, length), generator=rng).float() * 2 - 1


def in_full(module: nn.Module, stored: torch.Tensor | None) -> torch.Tensor | None:
    """A module's stored weight as plain numbers: with the module's scale, dequantised. None where neither the module
    (ComfyUI's `convert_weight`) nor the weight's class (`dequantize`) knows how."""
    if stored is None or stored.is_meta:
        return None
    if type(stored) in PLAIN and stored.is_floating_point() and stored.element_size() == 1:
        stored = stored.float()  # 8 bits cannot be multiplied by a scale
    convert = getattr(module, "convert_weight", None)
    weight: torch.Tensor = convert(stored) if callable(convert) else stored
    if type(weight) not in PLAIN and type(weight).dequantize is not torch.Tensor.dequantize:
        weight = weight.dequantize()
    return weight if type(weight) in PLAIN and weight.is_floating_point() else None


def bits(stored: torch.Tensor) -> float:
    """How many bits of memory a number of a stored weight takes."""
    parts = [stored]
    if is_traceable_wrapper_subclass(stored):
        parts = [getattr(stored, name) for name in stored.__tensor_flatten__()[0]]
    return 8 * sum(t.numel() * t.element_size() for t in parts) / max(1, stored.numel())


def projections(layer: Layer, weight: torch.Tensor | None) -> list[float] | None:
    """PAIRS numbers of a layer's own rows; None where its weight is no matrix that can be read."""
    if weight is None or type(weight) not in PLAIN or weight.is_meta or not weight.is_floating_point() or weight.ndim != 2:
        return None
    own = weight.detach()[layer.start : layer.start + layer.outputs].float()
    rng = torch.Generator().manual_seed(zlib.crc32(layer.name.encode()))
    left, right = (signs(rng, PAIRS, length).to(own.device) for length in own.shape)
    found = ((left @ own) * right).sum(1) / own.norm()
    return [round(x, DIGITS) for x in found.tolist()] if found.isfinite().all() else None


def sketch(layers: tuple[Layer, ...], weight_of) -> list[float]:
    """The numbers of a model, PAIRS per chosen layer; none where a weight cannot be read.

    Args:
        weight_of: layer name -> its weight in full, or None.
    """
    parts = [projections(layer, weight_of(layer.name)) for layer in chosen(layers)]
    return [] if None in parts else sum(parts, [])


def difference(layers: tuple[Layer, ...], numbers: list[float], weight_of) -> float | None:
    """How far a model's weights are from those that were sketched, as a share of their size; None where none can be read."""
    squares = []
    for i, layer in enumerate(chosen(layers)):
        own = projections(layer, weight_of(layer.name))
        if own is not None and numbers:
            squares += [(a - b) ** 2 for a, b in zip(own, numbers[PAIRS * i : PAIRS * (i + 1)])]
    return (sum(squares) / len(squares)) ** 0.5 if squares else None
