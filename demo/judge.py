"""The judge: a small convolutional classifier with one score per noun, for one cell or for several side by side."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from .captions import NOUNS

WEIGHTS = Path(__file__).with_name("judge.safetensors")
NAMES = list(NOUNS)
PRESENT = 0.5  # a noun is there when its score is above


def block(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class Judge(nn.Module):
    """Pictures (N, 3, H, W) in 0..1 -> logits (N, 25): the highest that any place in the picture gives."""

    names, present = NAMES, PRESENT

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            block(3, 32, 2),
            block(32, 64, 2),
            block(64, 96, 1),
            block(96, 128, 2),
            block(128, 192, 1),
            nn.Dropout(0.2),
        )
        self.place = nn.Conv2d(192, len(NAMES), 8)  # sees a whole 64-pixel cell

    def forward(self, pictures):
        return self.place(self.features(pictures)).amax((2, 3))

    @torch.no_grad()
    def scores(self, pictures) -> torch.Tensor:
        """Scores in 0..1 of ComfyUI pictures (N, H, W, 3): (N, 25)."""
        return torch.cat([self(part.movedim(-1, 1)).sigmoid() for part in pictures.split(64)])


def load_judge(path: Path = WEIGHTS) -> Judge:
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval()
