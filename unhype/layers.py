"""Which layers of which model family carry the adapter, and how each family is sampled and trained.

A family is one entry of FAMILIES; nothing else in this repository names one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from torch import nn


@dataclass(frozen=True)
class Layer:
    """A linear layer, or rows of one: ComfyUI's Flux keeps query, key and value in a single matrix."""

    name: str  # module path inside the diffusion model
    inputs: int
    outputs: int  # rows that the adapter acts on
    start: int = 0  # the first of them


@dataclass(frozen=True)
class Target:
    pattern: str  # regular expression over whole module names
    value_rows: bool = False  # of a fused layer only the value, its third block of `inputs` rows


@dataclass(frozen=True)
class Family:
    name: str
    title: str
    marks: dict[str, int]  # parameters that every model of the family has -> their dimensions
    lacks: tuple[str, ...]  # and that none has
    targets: tuple[Target, ...]
    conditional_only: bool  # the adapter stays off the unconditional rows of a CFG batch
    # How its models are sampled where a training says nothing else.
    size: str
    cfg: float
    clip_skips: tuple[int, ...]  # text encoder layers that its users choose, 1 the one that a graph has by itself
    text: str  # regular expression over a parameter whose columns are as wide as token states
    readers: str  # and over the modules that read token states
    vector: str  # parameter whose columns are as wide as the denoiser's vector input; none where there is none
    tokens: int  # states of an ordinary prompt
    retain_batch: int
    anchors: bool  # the adapted layers see the picture too: what stays in it is trained to (trainer/samples.py)
    blocks: str  # regular expression over the modules that are computed again where memory is short
    encoders: str  # how ComfyUI calls the pair of text encoders in files of their own
    ends: tuple[str, str]  # parameters at which latents go in, by their columns, and come out, by their rows
    patch: int = 1  # latents of one token, along a side
    pooled: bool = True  # a pooled embedding is read beside the token states
    masked: bool = False  # the denoiser leaves out the token states that attention_mask hides; others attend to padding as well


# Cross-attention key and value, as the paper has it for Stable Diffusion.
CROSS_ATTENTION = (Target(r".*\.attn2\.to_[kv]"),)
UNET_BLOCKS = r".*\.transformer_blocks\.\d+|(in|out)put_blocks\.\d+\.0|middle_block\.[02]"
UNET, LEVEL0, LABEL = "input_blocks.0.0.weight", "input_blocks.1.1.proj_in.weight", "label_emb.0.0.weight"
MMDIT = "joint_blocks.0.x_block.attn.qkv.weight"

# What all of Stable Diffusion's families have in common.
unet = partial(
    Family,
    targets=CROSS_ATTENTION,
    conditional_only=True,
    text=r".*\.attn2\.to_k\.weight",
    readers=r".*\.attn2\.to_[kv]",
    tokens=77,
    retain_batch=256,
    anchors=False,
    blocks=UNET_BLOCKS,
    encoders="STABLE_DIFFUSION",
    ends=(UNET, "out.2.weight"),
)

FAMILIES = {
    family.name: family
    for family in (
        unet(
            "sd1",
            "Stable Diffusion 1.x",
            marks={UNET: 4, LEVEL0: 4},
            lacks=(LABEL, MMDIT),
            size="512x512",
            cfg=7.5,
            clip_skips=(1, 2),
            vector="",
        ),
        unet(
            "sd2",
            "Stable Diffusion 2.x",
            marks={UNET: 4, LEVEL0: 2},
            lacks=(LABEL, MMDIT),
            size="768x768",
            cfg=7.5,
            clip_skips=(1,),
            vector="",
        ),
        unet(
            "sdxl",
            "Stable Diffusion XL",
            marks={UNET: 4, LABEL: 2},
            lacks=(LEVEL0, MMDIT),
            size="1024x1024",
            cfg=7.0,
            clip_skips=(1,),
            vector=LABEL,
        ),
        # The paper's to_v, add_v_proj and to_out.0 in diffusers' names.
        Family(
            "flux",
            "Flux.1",
            marks={"txt_in.weight": 2, "vector_in.in_layer.weight": 2, "double_blocks.0.img_attn.qkv.weight": 2},
            lacks=("double_stream_modulation_img.lin.weight", "distilled_guidance_layer.in_proj.weight"),
            targets=(
                Target(r"double_blocks\.\d+\.(img|txt)_attn\.qkv", value_rows=True),
                Target(r"double_blocks\.\d+\.img_attn\.proj"),
                Target(r"single_blocks\.\d+\.linear1", value_rows=True),
            ),
            conditional_only=True,
            size="512x512",
            cfg=1.0,
            clip_skips=(1,),
            text=r"txt_in\.weight",
            readers=r"(.*\.)?txt_in",
            vector="vector_in.in_layer.weight",
            tokens=256,
            retain_batch=32,
            anchors=True,
            blocks=r"(double|single)_blocks\.\d+",
            encoders="FLUX",
            ends=("img_in.weight", "final_layer.linear.weight"),
            patch=2,
        ),
    )
}


class Parameters(Protocol):
    """A model, or what stands in its place where only names and shapes are asked for."""

    def named_parameters(self) -> Iterable[tuple[str, Any]]: ...

    def named_modules(self) -> Iterable[tuple[str, Any]]: ...


def shape_of(module: nn.Module) -> tuple[int, int] | None:
    """Rows and columns of a module's matrix as the module itself has them; None where it has none.

    A quantised weight may hold two numbers a byte, and be missing until the model is loaded.
    """
    rows, columns = getattr(module, "out_features", None), getattr(module, "in_features", None)
    if isinstance(rows, int) and isinstance(columns, int):
        return rows, columns
    shape = tuple(getattr(getattr(module, "weight", None), "shape", ()))
    return (shape[0], shape[1]) if len(shape) == 2 else None


def matrices(diffusion_model: Parameters) -> dict[str, tuple[int, int]]:
    """The names of a model's matrices, as its state has them, and their rows and columns."""
    return {f"{name}.weight": shape for name, m in diffusion_model.named_modules() if (shape := shape_of(m))}


def of_family(diffusion_model: Parameters) -> Family | None:
    """The family of a diffusion model, by its parameters' names and dimensions; None where it is none of FAMILIES."""
    dimensions = {name: len(parameter.shape) for name, parameter in diffusion_model.named_parameters()}
    dimensions |= dict.fromkeys(matrices(diffusion_model), 2)
    for family in FAMILIES.values():
        if dimensions.items() >= family.marks.items() and dimensions.keys().isdisjoint(family.lacks):
            return family
    return None


def family_of(diffusion_model: nn.Module) -> Family:
    """The family of a diffusion model.

    Raises ValueError, naming the model's class, when it is none of the families that can be erased from.
    """
    if family := of_family(diffusion_model):
        return family
    raise ValueError(
        f"this model ({type(diffusion_model).__name__}) is of no family that UnHype knows: "
        f"connect {', '.join(f.title for f in FAMILIES.values())}. A loader that replaces the layers (Nunchaku) is not supported"
    )


def layer_table(diffusion_model: nn.Module, family: Family) -> tuple[Layer, ...]:
    """Every target layer of the model, in the model's own order."""
    found = tuple(layer for name, module in diffusion_model.named_modules() if (layer := as_layer(name, module, family)))
    if not found:
        patterns = " or ".join(t.pattern for t in family.targets)
        raise ValueError(f"this {family.title} model has no layer named like {patterns}: nothing could be erased")
    return found


def as_layer(name: str, module: nn.Module, family: Family) -> Layer | None:
    """The module as a target layer; None where it is none."""
    shape = shape_of(module)
    target = next((t for t in family.targets if re.fullmatch(t.pattern, name)), None)
    if target is None or shape is None:
        return None
    rows, inputs = shape
    return Layer(name, inputs, inputs, 2 * inputs) if target.value_rows else Layer(name, inputs, rows)


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
