"""Models to time the node on: the demo's, and blocks as wide as Stable Diffusion 1.5's and Flux's with random weights."""

import sys
from typing import Any, NamedTuple

import torch

from benchmarks.fullsize import FLUX, SD15
from host import trials

PACK = "unhype_pack"
RANK, STEPS, HIDDEN, QUERIES, BOTTLENECK = 4, 300, 64, 4, 12  # the trainer's own


class Case(NamedTuple):
    """A model, an eraser for it, and what is sampled."""

    model: Any  # a ModelPatcher
    eraser: Any
    positive: list
    negative: list
    latents: tuple[int, ...]
    cfg: float
    keys: str  # of its layers in a LoRA file


class Sizes(NamedTuple):
    kind: str  # of comfy.supported_models
    config: dict[str, Any]
    tokens: int
    text: int  # width of a token state
    latents: tuple[int, ...]
    cfg: float
    keys: str


# Blocks of full width, few of them, at small pictures: the fewer the numbers of a step, the more the node's part in it shows.
LEVELS = {"channel_mult": (1, 2), "num_res_blocks": [1, 1], "transformer_depth": [1, 1], "transformer_depth_output": [1] * 4}
SHAPES = {
    "sd15": Sizes("SD15", SD15 | LEVELS, 77, 768, (1, 4, 32, 32), 7.5, "kohya"),
    "flux": Sizes("Flux", FLUX | {"depth": 1, "depth_single_blocks": 1}, 256, 4096, (1, 16, 8, 8), 1.0, "diffusers"),
}
POOLED = 768


def part(name: str) -> Any:
    """A module of the pack as ComfyUI has imported it."""
    return sys.modules[f"{PACK}.{name}"]


def demo() -> Case:
    from host.load import load_backbone

    backbone = load_backbone("demo")
    eraser = part("unhype.checkpoint").load_eraser(part("nodes.loader").BUNDLED / "demo_cat.safetensors")
    encode = lambda text: backbone.encode([text]).conditioning()
    return Case(backbone.model, eraser, encode("a cat, google style, on a blue background"), encode(""), (4, 32, 8, 8), 3.0, "kohya")


def random(name: str) -> Case:
    """A model of SHAPES and an eraser of the size that the trainer gives it."""
    sizes = SHAPES[name]
    patcher = trials.random_model(sizes.kind, sizes.config)
    prompt = lambda: [[torch.randn(1, sizes.tokens, sizes.text), {"pooled_output": torch.randn(1, POOLED)}]]
    return Case(patcher, eraser_for(patcher.model.diffusion_model, sizes), prompt(), prompt(), sizes.latents, sizes.cfg, sizes.keys)


def eraser_for(diffusion_model: torch.nn.Module, sizes: Sizes) -> Any:
    layers, hypernetwork, checkpoint = part("unhype.layers"), part("unhype.hypernetwork"), part("unhype.checkpoint")
    family = layers.family_of(diffusion_model)
    table = layers.layer_table(diffusion_model, family)
    shape = hypernetwork.Shape(table, RANK, STEPS, HIDDEN, QUERIES, POOLED, sizes.text, 1, BOTTLENECK)
    network = hypernetwork.Hypernetwork(shape).requires_grad_(False).eval()
    return checkpoint.Eraser(network, family.name, [checkpoint.Concept("cat", "forest")], source=f"{family.name}.safetensors")
