"""The judge of the CIFAR-10 base: a small convolutional classifier of the ten classes."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.cifar10.words import CLASSES

NAMES = list(CLASSES)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
        Residual(outputs),
    )


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return x + self.norm(self.conv(x)).relu()


class Judge(nn.Module):
    """Pictures (N, 3, 32, 32) in 0..1 -> logits (N, 10)."""

    names = NAMES

    def __init__(self):
        super().__init__()
        self.white = nn.Conv2d(3, 24, 3, padding=1)  # set once by `whiten`
        self.blocks = nn.Sequential(nn.ReLU(), block(48, 64), block(64, 128), block(128, 256), nn.MaxPool2d(4), nn.Flatten())
        self.last = nn.Linear(256, len(NAMES))

    def whiten(self, pictures):
        """Make the first layer the whitened 3x3 patches of pictures (N, 3, H, W) in 0..1, and keep it so."""
        patches = nn.functional.unfold(pictures, 3).transpose(1, 2).flatten(0, 1)
        variance, vectors = torch.linalg.eigh(torch.cov(patches.T))
        kernels = (vectors / (variance + 1e-3).sqrt()).T.flip(0)[: self.white.out_channels]
        with torch.no_grad():
            self.white.weight.copy_(kernels.view_as(self.white.weight))
            self.white.bias.copy_(-kernels @ patches.mean(0))
        self.white.requires_grad_(False)

    def forward(self, pictures):
        white = self.white(pictures)
        return self.last(self.blocks(torch.cat([white, -white], 1)))

    @torch.no_grad()
    def scores(self, pictures) -> torch.Tensor:
        """Probabilities (N, 10), in the order of NAMES, of ComfyUI pictures (N, 32, 32, 3) in 0..1, mirrored ones averaged in."""
        parts = pictures.movedim(-1, 1).split(500)
        return torch.cat([(self(p).softmax(1) + self(p.flip(3)).softmax(1)) / 2 for p in parts])


def load_judge(path: Path) -> Judge:
    judge = Judge()
    judge.load_state_dict(load_file(path))
    return judge.eval()
