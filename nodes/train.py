"""UnHypeTrain: MODEL, CLIP, VAE and what is to be forgotten -> an eraser, saved into models/unhype."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import folder_paths
from comfy.model_management import InterruptProcessingException
from comfy_api.latest import io

from ..unhype.checkpoint import load_eraser
from .base import Model
from .follow import Follower
from .inside import trainer_module
from .loader import FOLDER, UnHype
from .tell import tell

SETTINGS = "unhype_settings"  # attached to a MODEL: the trainer's config file that fits it
FILES = ("ckpt_name", "unet_name", "base")  # widgets of loaders that name a base model's file
PRESETS = {
    "instant": "no training: words are rewritten alone, in a minute; Stable Diffusion only",
    "quick": "a third of the iterations (100): a first look",
    "normal": "300: for use",
    "thorough": "900: many concepts at once, or a concept that normal leaves",
}


class UnHypeTrain(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="UnHypeTrain",
            display_name="UnHype Train",
            category="unhype",
            description="Trains an eraser on the very model of the graph, LoRAs on it included, and saves it into models/unhype. "
            "Cancel keeps what was learned, and Run goes on from there. What was trained before with the same settings is loaded.",
            inputs=[
                io.Model.Input("model", tooltip="The model to train on, with the LoRAs that it is to be used with. It stays as it is."),
                io.Clip.Input("clip", tooltip="The text encoder of the same loader."),
                io.Vae.Input("vae", tooltip="The VAE of the same loader. It draws the previews."),
                io.String.Input(
                    "erase",
                    multiline=True,
                    default="pizza -> forest",
                    tooltip='What is to be forgotten, a concept a line, and what is drawn instead: "cat, kitty -> forest". '
                    'The words before the arrow all mean the concept. Without an arrow ("cat") something is suggested; '
                    '"cat -> ?animal" lets an animal be suggested.',
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="Of the file in models/unhype. Empty: made of the first concepts. Another eraser of that name is never "
                    "overwritten: this one then gets a number.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default="normal",
                    tooltip=" ".join(f"{name}: {words}." for name, words in PRESETS.items()),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="Of everything that is drawn by lot. Another seed trains another eraser.",
                ),
                io.String.Input(
                    "retain",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="What must stay, separated by commas or lines, beside a list of common things and the concept's nearest "
                    "neighbours, which are kept anyway.",
                ),
            ],
            outputs=[
                UnHype.Output(display_name="UNHYPE", tooltip="The eraser, for the UnHype Eraser node."),
                io.String.Output(display_name="verdict", tooltip="What it erases and what it leaves alone; begins with passed or FAILED."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, preset: object = None, input_types: object = None) -> bool:
        """Let every preset pass, also a linked text: only an error of execute is shown where another branch of the graph can run."""
        return True

    @classmethod
    def execute(
        cls, model: Model, clip: Any, vae: Any, erase: str, name: str = "", preset: str = "normal", seed: int = 0, retain: str = ""
    ) -> io.NodeOutput:
        node, prompt = (cls.hidden.unique_id, cls.hidden.prompt) if cls.hidden else (None, None)
        canvas, graph = trainer_module("trainer.canvas"), trainer_module("host.graph")
        base = file_of(prompt or {}, node) + graph.weights_put_on(model)
        wish = canvas.Wish(erase, name, preset, retain, seed, base, model.attachments.get(SETTINGS, ""))
        config = canvas.config_of(wish)  # before anything is loaded
        follower = Follower(node)
        if graph.left_out(model):
            follower.say("patches of the MODEL other than LoRAs are left out of the training")
        folder = os.path.join(folder_paths.models_dir, FOLDER)
        try:
            with graph.borrowed(model, clip, vae) as backbone, trainer_module("trainer.run.progress").followed_by(follower):
                path, verdict = canvas.trained(wish, backbone, folder, follower.say, follower)
        except KeyboardInterrupt:
            raise InterruptProcessingException from None
        if follower.asked:  # when there was nothing more to stop
            raise InterruptProcessingException
        text = f"{canvas.in_words(verdict, config)}\nsaved as {path.name}"
        tell(node, "UnHype Train", text)
        return io.NodeOutput(load_eraser(path), text, ui=preview_of(path))


def file_of(prompt: dict[str, Any], node: str | None) -> str:
    """The name of the file that a node's MODEL was loaded from, as far as the graph tells."""
    passed: set[str | None] = set()
    while node in prompt and node not in passed:
        passed.add(node)
        inputs = prompt[node]["inputs"]
        if found := [inputs[name] for name in FILES if isinstance(inputs.get(name), str)]:
            return re.split(r"[/\\]", found[0])[-1]
        links = [inputs[name] for name in ("model", "model1") if isinstance(inputs.get(name), list)]
        node = str(links[0][0]) if links else None
    return "a graph's model"


def preview_of(path: Path) -> dict[str, Any] | None:
    """The newest preview of a training as a picture that its node shows."""
    pictures = sorted(path.with_suffix(".previews").glob("*.png"))
    if not pictures:
        return None
    temporary = Path(folder_paths.get_temp_directory())
    temporary.mkdir(parents=True, exist_ok=True)
    name = f"{path.stem}_{pictures[-1].stat().st_mtime_ns}.png"
    shutil.copyfile(pictures[-1], temporary / name)
    return {"images": [{"filename": name, "subfolder": "", "type": "temp"}]}
