"""A base model's or a VAE's file as its header has it, of which nothing is loaded: shapes, denoiser, family, latent channels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from unhype.files import DEMO, VAE_IN
from unhype.layers import Family, of_family
from unhype.table import read_table

# Under which a denoiser's weights lie.
PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.", *(f"{part}." for part in DEMO), "")


@dataclass
class Shapes:
    """A module's parameters by name and shape, in the place of the module where only these are asked for."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def named_parameters(self) -> Iterator[tuple[str, Any]]:
        return ((name, SimpleNamespace(shape=shape)) for name, shape in self.shapes.items())

    def named_modules(self) -> Iterator[tuple[str, Any]]:
        own = ((name.removesuffix(".weight"), shape) for name, shape in self.shapes.items() if name.endswith(".weight"))
        return ((name, SimpleNamespace(weight=SimpleNamespace(shape=shape))) for name, shape in own)


@dataclass
class Base:
    """A base model's file by what the denoiser in it looks like."""

    shapes: dict[str, tuple[int, ...]]  # of every tensor
    denoiser: Shapes
    family: Family | None


def read_base(path: str | Path) -> Base:
    """A base model's file. Raises OSError, and ValueError where it is not whole: what_is is asked before."""
    shapes = read_shapes(path)
    return Base(shapes, *denoiser_in(shapes))


def read_shapes(path: str | Path) -> dict[str, tuple[int, ...]]:
    return {name: tensor.shape for name, tensor in read_table(path)[1].items()}


def denoiser_in(shapes: dict[str, tuple[int, ...]]) -> tuple[Shapes, Family | None]:
    """The denoiser's own names and shapes, and its family; no shapes where that is none that UnHype knows."""
    for prefix in PREFIXES:
        inside = Shapes({name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)})
        if family := of_family(inside):
            return inside, family
    return Shapes(), None


def latent_channels(denoiser: Shapes, family: Family) -> tuple[int, int]:
    """How many latent channels a denoiser takes and makes, as far as its parameters say; 0 where they do not."""
    takes, makes = ((*denoiser.shapes.get(name, ()), 0, 0) for name in family.ends)
    return takes[1] // family.patch**2, makes[0] // family.patch**2


def vae_channels(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many latent channels the VAE among these tensors takes; 0 where there is none."""
    return next((shape[1] for name, shape in shapes.items() if re.match(VAE_IN, name) and len(shape) > 1), 0)
