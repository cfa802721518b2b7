"""Which layers of which model family carry the adapter."""

import re
from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Layer:
    name: str  # module path inside the diffusion model
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Family:
    name: str
    marks: tuple[str, ...]  # parameters that every model of the family has
    lacks: tuple[str, ...]  # and that none has
    targets: str  # regular expression over module names
    conditional_only: bool  # the adapter stays off the unconditional rows of a CFG batch


# Cross-attention key and value, as the paper has it for Stable Diffusion.
SD1 = Family(
    "sd1",
    ("input_blocks.0.0.weight",),
    ("label_emb.0.0.weight", "joint_blocks.0.x_block.attn.qkv.weight"),
    r".*\.attn2\.to_[kv]",
    conditional_only=True,
)
FAMILIES = {family.name: family for family in (SD1,)}


def family_of(diffusion_model: nn.Module) -> Family:
    """The family of a diffusion model, by the names of its parameters.

    Raises ValueError, naming the model's class, when it is none of the families that can be erased from.
    """
    names = {name for name, _ in diffusion_model.named_parameters()}
    for family in FAMILIES.values():
        if names.issuperset(family.marks) and names.isdisjoint(family.lacks):
            return family
    raise ValueError(
        f"this model ({type(diffusion_model).__name__}) is of no family that UnHype knows ({', '.join(FAMILIES)}): "
        "connect a Stable Diffusion 1.x model. A loader that replaces the layers (Nunchaku) is not supported"
    )


def layer_table(diffusion_model: nn.Module, family: Family) -> tuple[Layer, ...]:
    """Every target layer of the model, in the model's own order."""
    found = tuple(
        Layer(name, module.weight.shape[1], module.weight.shape[0])
        for name, module in diffusion_model.named_modules()
        if re.fullmatch(family.targets, name) and getattr(getattr(module, "weight", None), "ndim", 0) == 2
    )
    if not found:
        raise ValueError(f"this {family.name} model has no layer named like {family.targets}: nothing could be erased")
    return found


def check_layers(wanted: tuple[Layer, ...], diffusion_model: nn.Module, family: Family, source: str) -> None:
    """Raise ValueError, naming `source`, unless every wanted layer is in the model with its shape."""
    has = {layer.name: layer for layer in layer_table(diffusion_model, family)}
    wrong = [layer for layer in wanted if has.get(layer.name) != layer]
    if wrong:
        other = has.get(wrong[0].name)
        shape = f"{other.outputs} x {other.inputs} here" if other else "not in this model"
        raise ValueError(
            f"{source} does not fit this model: {len(wrong)} of its {len(wanted)} layers do not match, the first being "
            f"{wrong[0].name} ({wrong[0].outputs} x {wrong[0].inputs} in the file, {shape}). "
            "Use the base model that the eraser was trained for, or one fine-tuned from it"
        )
