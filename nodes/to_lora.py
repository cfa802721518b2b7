"""UnHypeToLora: the adapter for one prompt as core's LORA_MODEL."""

from typing import Any

from comfy_api.latest import io

from ..unhype.lora import KEYS, as_lora
from .base import Model
from .loader import UnHype
from .merge import shares
from .patching import check_fits
from .schema import ERASING, schema, strength_input
from .tell import tell
from .weights import one_prompt


class UnHypeToLora(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UnHypeToLora",
            display_name="UnHype to LoRA",
            category="unhype/advanced",
            description="Bakes what the eraser does to one prompt into an ordinary LoRA, for Load LoRA Model, Save LoRA Weights and other "
            "programs. A baked LoRA follows the prompt no more: it acts on every prompt alike, also on those that mean nothing erased.",
            search=[*ERASING, "bake", "export lora"],
            inputs=[
                UnHype.Input("unhype", optional=True, tooltip="From Load UnHype Eraser or Merge UnHype Erasers."),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="The one prompt to bake for, from CLIP Text Encode: one that means the concept, as plain as possible.",
                ),
                strength_input(
                    "1 erases as trained. A LoRA cannot begin later, as UnHype Eraser does below 1: there a picture "
                    "tips over at some strength.",
                ),
                io.String.Input(
                    "concepts",
                    default="",
                    tooltip="Which of the file's concepts to bake in, by name, separated by commas. Empty: all that the prompt means.",
                ),
                io.Combo.Input(
                    "keys",
                    options=list(KEYS),
                    tooltip="How the LoRA names its layers. kohya: lora_unet_..., what ComfyUI, A1111 and Forge read. "
                    "diffusers: what Hugging Face's library reads. ComfyUI reads both.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="The model that the LoRA is for. On Stable Diffusion the eraser also rewrites words, which takes the model's "
                    "weights to bake in: without it the LoRA erases less.",
                ),
            ],
            outputs=[
                io.Custom("LORA_MODEL").Output(
                    display_name="LORA_MODEL",
                    tooltip="For core's Load LoRA Model and Save LoRA Weights. It follows the prompt no more.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        unhype: object = None,
        conditioning: list[list[Any]] | None = None,
        strength: float = 1.0,
        concepts: str = "",
        keys: str = KEYS[0],
        model: Model | None = None,
    ) -> io.NodeOutput:
        parts = shares(unhype, concepts)
        for eraser, _ in parts:
            if model is not None:
                check_fits(eraser, model)
        adapters, told = one_prompt(parts, strength, conditioning, "UnHype to LoRA", model)
        if not adapters:
            raise ValueError(f"there is nothing to bake: {told}. Connect a prompt that means one of the eraser's concepts")
        node = cls.hidden.unique_id if cls.hidden else None
        less = [eraser.source for eraser, _ in parts if eraser.network.rewriting and model is None]
        told += f". {' and '.join(less)} rewrites words too: connect model, or the LoRA erases less" if less else ""
        tell(node, " and ".join(eraser.source for eraser, _ in parts), f"baked for every prompt: {told}")
        return io.NodeOutput(as_lora(adapters, keys))
