"""What the dry run says of a training's work is what a real one takes."""

import pytest
import torch

from trainer import slider
from trainer.config import from_mapping
from trainer.prompts import drawn_alike
from trainer.work import work

SMALL = {"learning_rate": 5e-4, "templates": ["a {}", "a photo of a {}", "a {} and a {other}"], "retain": ["dog", "bird"], "neighbours": 0}
SMALL |= {
    "pictures": 4,
    "sampling_steps": 4,
    "kept_steps": 2,
    "batch": 4,
    "retain_batch": 16,
    "learning_rate": 5e-4,
    "size": "64x64",
    "clip_skips": [1],
}


class Counted:
    """Rows that a base's denoiser is asked for, with gradients and without; from the first step on its text encoder is gone, as on a
    graphics card."""

    def __init__(self, backbone):
        self.backbone, self.with_gradient, self.without = backbone, 0, 0
        self.handle = backbone.diffusion_model.register_forward_pre_hook(self.count)

    def count(self, module, given):
        if torch.is_grad_enabled():
            self.with_gradient += len(given[0])
            self.backbone.clip = None
        else:
            self.without += len(given[0])


@pytest.mark.parametrize("base, iterations", [("demo", 5), ("demo-flux", 7)])
def test_the_count_is_what_a_training_asks_for(comfy, few_texts, tmp_path, base, iterations):
    from host.load import load_backbone
    from trainer.train import train

    values = {
        "base": base,
        "erase": ["cat -> forest"],
        "out": str(tmp_path / "a.safetensors"),
        "iterations": iterations,
        "preview_every": 3,
    }
    config = from_mapping(values | SMALL, "a.yaml")
    backbone = load_backbone(base)
    asked = Counted(backbone)
    train(config, backbone, progress=lambda *_: None)
    asked.handle.remove()
    said = work(config.for_family(backbone.family), backbone.family)
    assert asked.with_gradient == said.training
    others, sides = said.evaluations - said.training, 1 if base == "demo-flux" else 2
    unknown = drawn_alike.LOOKED * 2 * len(drawn_alike.KEPT)  # words that are looked at closer, in two templates
    unknown += slider.CLOSER * slider.PICTURES * sides * SMALL["sampling_steps"] / 2  # where the pictures decide from which step on
    assert abs(asked.without - others) <= unknown + 0.02 * others, said  # and it is asked once whether it works at all
    assert said.forwards == said.evaluations + 2 * said.training
