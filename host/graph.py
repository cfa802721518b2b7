"""The MODEL, CLIP and VAE of a graph as a base to train on, borrowed: afterwards the model is what it was, to the bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from unhype.layers import family_of, layer_table, matrices

from .backbone import Backbone
from .inputs import check_channels
from .load import ready

ERASER = "unhype"  # the nodes' key of the wrappers that an eraser is
HOOKS = ("forward_hooks", "forward_hooks_with_kwargs", "forward_hooks_always_called", "forward_pre_hooks", "forward_pre_hooks_with_kwargs")
OWN = "connect the MODEL, CLIP and VAE of one loader"


@contextmanager
def borrowed(model: Any, clip: Any, vae: Any) -> Iterator[Backbone]:
    """Inside, the base that they are together, its LoRAs on it and nothing else that a node has put there.

    It is left in whatever way, and nothing of a training stays on the model. Raises ValueError, in the words of who drew the
    graph, where it cannot be trained on.
    """
    import comfy.model_management
    from comfy.patcher_extension import WrappersMP

    refuse(model, clip, vae)
    with torch.inference_mode(False), torch.enable_grad():
        bare = model.clone()
        bare.model_options, bare.injections, bare.wrappers = {"transformer_options": {}}, {}, WrappersMP.init_wrappers()
        bare.object_patches = {name: value for name, value in model.object_patches.items() if not name.startswith("diffusion_model")}
        # What was loaded with something of that in it, or inside inference mode, is loaded anew.
        comfy.model_management.unload_all_models()
        with as_it_was(bare.model.diffusion_model):
            backbone = ready(Backbone(bare, clip, vae))
            check_parts(backbone)
            yield backbone


def left_out(model: Any) -> bool:
    """Whether nodes have put more on a MODEL than weights: patches of attention, wrappers, caches, guidance."""
    options = model.model_options
    inner = options.get("transformer_options", {})
    wrapped = any(kinds for by_kind in model.wrappers.values() for kinds in by_kind.values())
    replaced = any(name.startswith("diffusion_model") for name in model.object_patches)
    return wrapped or replaced or bool(model.injections) or any(inner.values()) or len(options) > ("transformer_options" in options)


def refuse(model: Any, clip: Any, vae: Any) -> None:
    """Raise ValueError for what no eraser can be trained on."""
    from comfy.patcher_extension import WrappersMP

    for what, given in (("CLIP", clip), ("VAE", vae)):
        if given is None:
            raise ValueError(
                f"the {what} input is empty: the file that it comes from holds none. Load a {what} of its family in a node of its own"
            )
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, ERASER):
        raise ValueError("the MODEL has an UnHype Eraser on it: connect the one from before that node")
    module = model.model.diffusion_model
    if any(part._compiled_call_impl is not None or hasattr(part, "_orig_mod") for part in module.modules()):
        raise ValueError("the MODEL is compiled (torch.compile), and gradients do not come through: connect the one from before that node")
    family = family_of(module)
    for layer in layer_table(module, family):
        weight = getattr(module.get_submodule(layer.name), "weight", None)
        if weight is None or not weight.dtype.is_floating_point:
            kind = "no weight of its own" if weight is None else f"type {str(weight.dtype).removeprefix('torch.')}"
            raise ValueError(
                f"the MODEL is quantised (GGUF, NF4 or the like: {layer.name} has {kind}): train on the fp16, bf16 or fp8 file of the "
                "same model. The eraser then works on the quantised one as well"
            )
    check_channels(module, "of the graph")


def check_parts(backbone: Backbone) -> None:
    """Raise ValueError where CLIP or VAE are of another family than the model."""
    import re

    family = backbone.family
    with torch.no_grad():
        given = backbone.encode([""]).tokens.shape[2]
    wanted = next(columns for name, (_, columns) in matrices(backbone.diffusion_model).items() if re.fullmatch(family.text, name))
    if given != wanted:
        raise ValueError(
            f"the CLIP belongs to another kind of model: its tokens are {given} wide, this {family.title} model reads {wanted}: {OWN}"
        )
    own, latent = backbone.vae.latent_channels, backbone.model.get_model_object("latent_format").latent_channels
    if own != latent:
        raise ValueError(f"the VAE belongs to another kind of model: it has {own} latent channels, this {family.title} one {latent}: {OWN}")


@contextmanager
def as_it_was(module: nn.Module) -> Iterator[None]:
    """Afterwards forwards, hooks and requires_grad of a module and its parts are what they were before."""
    parts = [(part, vars(part).get("forward"), {name: dict(getattr(part, f"_{name}")) for name in HOOKS}) for part in module.modules()]
    trained = {name for name, p in module.named_parameters() if p.requires_grad}
    try:
        yield
    finally:
        for part, forward, hooks in parts:
            if forward is None:
                vars(part).pop("forward", None)
            else:
                part.forward = forward
            for name, former in hooks.items():
                now = getattr(part, f"_{name}")
                now.clear()
                now.update(former)
        for name, p in module.named_parameters():
            p.requires_grad_(name in trained)


def weights_put_on(model: Any) -> str:
    """What nodes have done to a MODEL's weights, in words: " with 2 LoRAs"; empty where that is nothing.

    Every node that patches makes a clone, whose parent is the MODEL that it was given.
    """
    from comfy.weight_adapter import WeightAdapterBase

    loras = merges = 0
    while model is not None:
        parent = getattr(model, "parent", None)
        before = parent.patches if parent is not None else {}
        new = [patch[1] for key, patches in model.patches.items() for patch in patches[len(before.get(key, ())) :]]
        lora = any(isinstance(value, WeightAdapterBase) for value in new)
        loras, merges = loras + lora, merges + (bool(new) and not lora)
        model = parent
    said = [f"{loras} LoRA{'s' * (loras > 1)}"] * bool(loras) + ["weights of other models"] * bool(merges)
    return f" with {' and '.join(said)}" if said else ""
