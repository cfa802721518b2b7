"""Whether a MODEL is the base that an eraser was trained on: one warning where it is another."""

import logging
import weakref

import torch

from ..unhype.checkpoint import Eraser
from ..unhype.sketch import chosen, difference

# Shares of the weights' size. Storage in 16 bits moves them by up to 0.2 %, in 8 bits by 2.6 % (e4m3) to 5.4 % (e5m2).
ALIKE, ALIKE_IN_8_BITS = 0.005, 0.07
log = logging.getLogger("unhype")
compared: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # the host's model -> erasers


def warn_of_another_base(model, eraser: Eraser) -> None:
    """Log, once for an eraser and a model, that the model's own weights differ from the eraser's base."""
    done, key = compared.setdefault(model.model, set()), eraser.digest or id(eraser)
    if not eraser.base or key in done:
        return
    done.add(key)
    layers = eraser.network.shape.layers
    found = difference(layers, eraser.base["sketch"], lambda name: own_weight(model, name))
    few_bits = any(own_weight(model, layer.name).dtype.itemsize == 1 for layer in chosen(layers))
    if found is not None and found > (ALIKE_IN_8_BITS if few_bits else ALIKE):
        log.warning(
            "%s was trained on %s; this model's weights differ by %.1f %% from it (a fine-tune, or another precision): "
            "erasing works as far as they are alike",
            eraser.source,
            eraser.base["name"],
            100 * found,
        )


def own_weight(model, name: str) -> torch.Tensor:
    """A layer's weight without the LoRAs that are merged into it at the moment."""
    backup = model.backup.get(f"diffusion_model.{name}.weight")
    return backup.weight if backup else model.get_model_object("diffusion_model").get_submodule(name).weight
