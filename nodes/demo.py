"""UnHypeDemoModel: MODEL, CLIP and VAE of a bundled demo base, so that a graph runs with nothing downloaded."""

import importlib

from comfy_api.latest import io

from .schema import schema

BASES = {"emoji-sd": "base", "emoji-flux": "flux"}  # name -> module in demo/


class UnHypeDemoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UnHypeDemoModel",
            display_name="UnHype Demo Model",
            category="unhype",
            description="A small model that draws 25 emoji in three styles (google, twitter, fluent); everything else becomes a blob. "
            '"a cat, google style, on a blue background" at 64 x 64, "a cat and a bus, google style, on a pink background" at 128 x 64. '
            "The nouns are on its help page.",
            search=["emoji", "example", "test model"],
            inputs=[
                io.Combo.Input(
                    "base",
                    options=list(BASES),
                    tooltip="emoji-sd: a Stable Diffusion 1.x layout, cfg 3. emoji-flux: a Flux layout with T5, guidance distilled, cfg 1.",
                )
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="The denoiser: into UnHype Eraser, then a sampler."),
                io.Clip.Output(display_name="CLIP", tooltip="Its text encoder: into CLIP Text Encode."),
                io.Vae.Output(display_name="VAE", tooltip="Its decoder: into VAE Decode. A picture is 64 or 128 wide and 64 high."),
            ],
        )

    @classmethod
    def validate_inputs(cls, base: object = None, input_types: object = None) -> bool:
        """Let every name pass, also a linked text: only an error of execute is shown where another branch of the graph can run."""
        return True

    @classmethod
    def execute(cls, base: str) -> io.NodeOutput:
        if base not in list(BASES):
            raise ValueError(f"demo base {base!r} is not known, expected one of {', '.join(BASES)}: choose it again")
        return io.NodeOutput(*importlib.import_module(f"..demo.{BASES[base]}", __package__).load())
