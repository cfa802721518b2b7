"""UnHypeEraser: MODEL -> MODEL that forgets, prompt by prompt."""

from typing import Any

from comfy_api.latest import io

from .base import Model
from .loader import UnHype
from .merge import shares
from .patching import erase
from .schema import ERASING, schema, strength_input
from .weights import in_weights

ADAPTER, WEIGHTS = "adapter", "weight patch"


class UnHypeEraser(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="UnHypeEraser",
            display_name="UnHype Eraser",
            category="unhype",
            description="Erases the eraser's concepts from every prompt that means one. "
            "Other prompts give the picture they gave before, to the bit. Put it behind a merge of models: a merge takes only weights "
            "from its second model, and the eraser is not in them.",
            search=ERASING,
            inputs=[
                io.Model.Input("model", tooltip="The model that the eraser was trained for, or a fine-tune of it."),
                UnHype.Input("unhype", optional=True, tooltip="From Load UnHype Eraser, Merge UnHype Erasers or UnHype Train."),
                strength_input(
                    "0 leaves the model as it is, 1 erases as trained, above 1 the adapter is scaled up. In between it begins "
                    "later in the sampling, and the picture changes little by little; somewhere on the way a single one may tip over.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Leave it empty: the eraser then reads every prompt that the sampler really uses. "
                    "Connected, this prompt alone decides, whatever is sampled.",
                ),
                io.String.Input(
                    "concepts",
                    default="",
                    optional=True,
                    tooltip='Which of the file\'s concepts to erase, by name, separated by commas: "cat, dog". Empty: all of them. '
                    "The loader shows the names, and the button below offers them.",
                ),
                io.Combo.Input(
                    "apply",
                    options=[ADAPTER, WEIGHTS],
                    default=ADAPTER,
                    optional=True,
                    tooltip="adapter: every prompt has its own, and where nothing is erased the picture stays as it was to the bit. "
                    "weight patch: the weights made for the connected conditioning act on everything that is sampled, the negative "
                    "prompt too; for samplers and tools that do not take the adapter.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="MODEL",
                    tooltip="The model with the eraser; the one that came in is unchanged. Into a sampler, or a merge's first input.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Model,
        unhype: object = None,
        strength: float = 1.0,
        conditioning: list[list[Any]] | None = None,
        concepts: str = "",
        apply: str = ADAPTER,
    ) -> io.NodeOutput:
        # unhype is optional only for the host: a required input that is missing leaves this branch out, and nobody is told.
        parts, node = shares(unhype, concepts), cls.hidden.unique_id if cls.hidden else None
        if apply == WEIGHTS:
            return io.NodeOutput(in_weights(model, parts, strength, conditioning, node))
        for eraser, own in parts:
            model = erase(model, eraser, strength, conditioning, own, node)
        return io.NodeOutput(model)
