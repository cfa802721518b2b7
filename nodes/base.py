"""A MODEL's weights, and whether it is the base that an eraser was trained on: one warning where it is another."""

import logging
import weakref
from typing import Any

import comfy.lora
import torch

from ..unhype.checkpoint import Eraser
from ..unhype.sketch import bits, chosen, difference, in_full

# Bits of a number as stored (with its scales) -> up to what share of the weights' size they are the same base. Storage in
# 16 bits moves them by up to 0.2 %, in 8 bits by 2.6 % (e4m3, mxfp8) to 5.4 % (e5m2), in 4 bits by 9.5 % (nvfp4).
ALIKE = {6: 0.12, 12: 0.07, 64: 0.005}
Model = Any  # MODEL, a ModelPatcher: ComfyUI's classes have no types
log = logging.getLogger("unhype")
compared: weakref.WeakKeyDictionary[Any, set[str | int]] = weakref.WeakKeyDictionary()  # the host's model -> erasers


def warn_of_another_base(model: Model, eraser: Eraser) -> None:
    """Log, once for an eraser and a model, that the model's own weights differ from the eraser's base."""
    done, key = compared.setdefault(model.model, set()), eraser.digest or id(eraser)
    if not eraser.base or key in done:
        return
    done.add(key)
    layers = eraser.network.shape.layers
    found = difference(layers, eraser.base["sketch"], lambda name: in_full(*stored_weight(model, name)))
    if found is None:
        return
    fewest = min(bits(stored) for layer in chosen(layers) if (stored := stored_weight(model, layer.name)[1]) is not None)
    if found > next(share for most, share in ALIKE.items() if fewest <= most):
        log.warning(
            "%s was trained on %s; this model's weights differ by %.1f %% from it (a fine-tune, or another precision): "
            "erasing works as far as they are alike",
            eraser.source,
            eraser.base["name"],
            100 * found,
        )


def stored_weight(model: Model, name: str) -> tuple[torch.nn.Module, torch.Tensor | None]:
    """A layer, and its weight as it is stored, without the LoRAs that are merged into it at the moment."""
    layer = model.get_model_object("diffusion_model").get_submodule(name)
    backup = model.backup.get(f"diffusion_model.{name}.weight")
    return layer, backup.weight if backup else getattr(layer, "weight", None)


def weight_as_drawn(model: Model, name: str) -> torch.Tensor | None:
    """A layer's weight in full, with the LoRAs that are on the MODEL; None where it cannot be read."""
    weight, key = in_full(*stored_weight(model, name)), f"diffusion_model.{name}.weight"
    if weight is None or key not in model.patches:
        return weight
    merged: torch.Tensor = comfy.lora.calculate_weight(model.patches[key], weight.detach().to(torch.float32, copy=True), key)
    return merged
