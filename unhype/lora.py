"""An adapter as an ordinary LoRA file has it: names and tensors that other programs load.

Keys are "kohya", lora_unet_ and the module's path in ComfyUI with underscores, or "diffusers", the names of that library
as its LoRA files have them. A fused layer, as Flux has them, is whole in the first, with zeros in the rows that the
adapter leaves alone, and apart in the second.
"""

import re

import torch

from .hypernetwork import Factors
from .layers import Layer

KEYS = ("kohya", "diffusers")
# Name of a fused layer -> how many blocks of `inputs` rows it has: query, key, value, and in linear1 four of the MLP.
FUSED = ((r".*_attn\.qkv", 3), (r"single_blocks\.\d+\.linear1", 7))
# A layer with one kind of rows, or the rows of a fused one that carry the value -> its name in diffusers.
NAMES = (
    (r"double_blocks\.(\d+)\.img_attn\.qkv", r"transformer.transformer_blocks.\1.attn.to_v"),
    (r"double_blocks\.(\d+)\.txt_attn\.qkv", r"transformer.transformer_blocks.\1.attn.add_v_proj"),
    (r"double_blocks\.(\d+)\.img_attn\.proj", r"transformer.transformer_blocks.\1.attn.to_out.0"),
    (r"single_blocks\.(\d+)\.linear1", r"transformer.single_transformer_blocks.\1.attn.to_v"),
)
ATTENTION = re.compile(r"(input_blocks|output_blocks|middle_block)\.(\d+)(?:\.1)?\.(transformer_blocks\.\d+\.attn2)\.(to_[kv])")


def as_lora(adapters: dict[Layer, Factors], keys: str) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA file, fp32, from one pair of factors, down (1, r, in) and up (1, out, r), per layer.

    Raises ValueError for layers that have no name in the keys asked for.
    """
    every = [layer.name for layer in adapters]
    tensors: dict[str, torch.Tensor] = {}
    for layer, factors in adapters.items():
        down, up = factors.down[0].float().contiguous(), factors.up[0].float().contiguous()
        if keys == "kohya":
            name = f"lora_unet_{layer.name.replace('.', '_')}"
            tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": in_place(up, layer)}
            tensors[f"{name}.alpha"] = torch.tensor(float(len(down)))
        elif found := ATTENTION.fullmatch(layer.name):
            block, path, projection = block_name(found, every), found[3], found[4]
            name = f"unet.{block}.{path}.processor.{projection}_lora"
            tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
        else:
            name = flux_name(layer)
            tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    return tensors


def in_place(up: torch.Tensor, layer: Layer) -> torch.Tensor:
    """The up projection (out, r) among zeros in the other rows of a fused layer; itself where the layer has no others."""
    if not layer.start:
        return up
    blocks = next((blocks for pattern, blocks in FUSED if re.fullmatch(pattern, layer.name)), None)
    if blocks is None:
        raise ValueError(f"layer {layer.name} is fused with others in a way that has no kohya name here: choose diffusers keys")
    return torch.nn.functional.pad(up, (0, 0, layer.start, blocks * layer.inputs - layer.start - layer.outputs))


def flux_name(layer: Layer) -> str:
    for pattern, name in NAMES:
        if found := re.fullmatch(pattern, layer.name):
            return found.expand(name)
    raise ValueError(f"layer {layer.name} has no diffusers name here: choose kohya keys")


def block_name(found: re.Match[str], every: list[str]) -> str:
    """The diffusers name of a UNet's block with attention, from the numbers of all of them.

    ComfyUI numbers the blocks through, diffusers by level: on the way down each level has `residual` blocks, which all or none
    have attention, and one that makes the picture smaller; on the way up one more.
    """
    number = int(found[2])
    if found[1] == "middle_block":
        return "mid_block.attentions.0"
    down = {int(m[2]) for name in every if (m := ATTENTION.fullmatch(name)) and m[1] == "input_blocks"}
    residual = max(next(n for n in range(start, start + len(down) + 1) if n not in down) - start for start in down)
    if found[1] == "input_blocks":
        return "down_blocks.{}.attentions.{}".format(*divmod(number - 1, residual + 1))
    return "up_blocks.{}.attentions.{}".format(*divmod(number, residual + 1))
