"""The adapter of one prompt for all rows alike: in the weights of a MODEL, or to be saved as a LoRA."""

import logging
from functools import partial
from typing import Any

import torch
from comfy.weight_adapter import LoRAAdapter

from ..unhype.bake import baked
from ..unhype.checkpoint import Eraser
from ..unhype.condition import Condition
from ..unhype.hypernetwork import Factors, at_strength
from ..unhype.layers import Layer
from .base import Model, weight_as_drawn
from .patching import check_fits, check_strength, entries_of, read_conditioning, same_file, switched_off
from .tell import Seen, account_of, tell

Share = tuple[Eraser, str]  # an eraser and the names of its concepts that are wanted, all without a name
WHERE = "the connected conditioning"
log = logging.getLogger("unhype")


def in_weights(model: Model, parts: list[Share], strength: float, conditioning: list[list[Any]] | None, node: str | None) -> Model:
    """A clone of MODEL with the adapter of one prompt in its weights; where nothing fires, or at strength 0, the MODEL itself.

    Raises ValueError when the conditioning is missing or holds several prompts, an eraser does not fit the model or is on it
    already, or the model has no weight of a layer's name.
    """
    for eraser, _ in parts:
        check_fits(eraser, model)
        if same_file(eraser) in [same_file(entry.eraser) for entry in entries_of(model)]:
            raise ValueError(
                f"{eraser.source} is on this model already, by an UnHype Eraser that applies it as an adapter: both would add up. "
                "Take one of the two nodes out"
            )
    adapters, told = one_prompt(parts, strength, conditioning, "apply = weight patch", model)
    tell(node, " and ".join(eraser.source for eraser, _ in parts), f"in the weights, for every prompt: {told}")
    if not adapters:
        return model
    clone, patches = model.clone(), {}
    for layer, factors in adapters.items():
        key = f"diffusion_model.{layer.name}.weight"
        where = (key, (0, layer.start, layer.outputs)) if layer.start else key
        patches[where] = LoRAAdapter(set(), (factors.up[0], factors.down[0], None, None, None, None))
    missed = patches.keys() - set(clone.add_patches(patches))
    if missed:
        raise ValueError(
            f"this model has no weight for {len(missed)} of {len(patches)} layers, so nothing would be erased there: "
            "its loader replaces them. Choose apply = adapter"
        )
    return clone


def one_prompt(
    parts: list[Share], strength: float, conditioning: list[list[Any]] | None, asked: str, model: Model | None
) -> tuple[dict[Layer, Factors], str]:
    """Every layer's adapter for the one prompt of a conditioning, a pair of factors, and an account of what fired.

    Of several erasers a layer's pairs are put side by side, their ranks add up. Nothing where no concept fires. `asked` is what
    an error calls the wish for one prompt. Erasers that rewrite token states do that in the weights of the `model`; without one
    their adapter is alone.
    """
    check_strength(strength)
    if strength == 0:
        return {}, "strength 0: nothing is erased"
    seen, adapters = [], dict[Layer, list[Factors]]()
    for eraser, concepts in parts:
        condition, off = the_condition(conditioning, eraser, asked), switched_off(eraser, concepts)
        network = eraser.network
        seen.append(Seen(eraser, network.scores(condition), off, torch.zeros(1, len(off), dtype=torch.bool)))
        if network.fires(condition, off[None])[0]:
            for layer, factors in zip(network.shape.layers, in_one(eraser, condition, strength, off[None], model)):
                adapters.setdefault(layer, []).append(factors)
    joined = {layer: Factors(torch.cat([f.down for f in some], 1), torch.cat([f.up for f in some], 2)) for layer, some in adapters.items()}
    return joined, account_of(seen)


def in_one(eraser: Eraser, condition: Condition, strength: float, off: torch.Tensor, model: Model | None) -> list[Factors]:
    """The factors of one prompt, (1, K) concepts off, with what the eraser rewrites in them."""
    network, found = eraser.network, None
    if network.rewriting and model is not None:
        factors = at_strength(network, condition, strength, off)
        found = baked(network.shape.layers, factors, condition, partial(weight_as_drawn, model))
        if found is None:
            log.warning(
                "%s: the weights of this model are packed in a way that cannot be read here, so the adapter goes without the rewritten "
                "words that belong to it and erases less. apply = adapter needs no weights",
                eraser.source,
            )
    if found is None and not network.shape.rank:
        todo = "Connect model" if model is None else "Choose apply = adapter"
        raise ValueError(f"{eraser.source} rewrites words and has no adapter, so that there is nothing to put into weights. {todo}")
    return at_strength(network, condition, strength, off, alone=True) if found is None else found


def the_condition(conditioning: list[list[Any]] | None, eraser: Eraser, asked: str) -> Condition:
    """The one condition (one row) of a conditioning. Raises ValueError where there is none, or there are several."""
    if not conditioning:
        raise ValueError(f"conditioning: nothing is connected, but {asked} needs the one prompt to make weights for: connect it")
    condition = read_conditioning(conditioning, WHERE, eraser)
    if not all(torch.equal(part, part[:1].expand_as(part)) for part in condition):
        raise ValueError(
            f"{WHERE} holds {len(condition.pooled)} different prompts, but {asked} makes one set of weights for all: connect a single "
            "prompt, or let UnHype Eraser apply the adapter, which gives every prompt its own"
        )
    return condition.rows(slice(0, 1))
