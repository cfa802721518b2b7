"""The demo base's autoencoder: 8x8 patches on a fixed basis one way, a small convolutional decoder back."""

import torch
from torch import nn
from torch.nn import functional as F

PATCH = 8
LATENT_CHANNELS = 32
WIDTH = 96


class Residual(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class PatchBasis(nn.Module):
    """Pictures (N, 3, H, W) in -1..1 <-> latents (N, 32, H/p, W/p) of about unit variance, linearly, by p x p patches.

    The encoder is the principal components of the patches, each divided by the square root of its own
    deviation, so that fine detail is not drowned in noise.
    """

    def __init__(self, patch: int):
        super().__init__()
        self.patch = patch
        dim = 3 * patch * patch
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("basis", torch.zeros(LATENT_CHANNELS, dim))  # orthonormal rows
        self.register_buffer("scale", torch.ones(LATENT_CHANNELS))  # latent = scale * coefficient

    def encode(self, pictures):
        coefficients = F.unfold(pictures, self.patch, stride=self.patch) - self.mean[:, None]  # (N, 3 p p, L)
        latents = self.scale[:, None] * (self.basis @ coefficients)
        return latents.unflatten(2, (pictures.shape[2] // self.patch, pictures.shape[3] // self.patch))

    def decode_linear(self, latents):
        coefficients = latents.flatten(2) / self.scale[:, None]
        patches = self.basis.T @ coefficients + self.mean[:, None]
        return F.fold(patches, (latents.shape[2] * self.patch, latents.shape[3] * self.patch), self.patch, stride=self.patch)

    def fit_basis(self, pictures):
        """Set mean, basis and scale from pictures (N, 3, H, W); returns the share of their variance that is kept."""
        patches = F.unfold(pictures, self.patch, stride=self.patch).transpose(1, 2).flatten(0, 1)  # (N L, 3 p p)
        self.mean = patches.mean(0)
        variance, vectors = torch.linalg.eigh(torch.cov(patches.T))
        total = variance.sum()
        variance, vectors = variance.flip(0)[:LATENT_CHANNELS], vectors.flip(1)[:, :LATENT_CHANNELS]
        self.basis = vectors.T.contiguous()
        self.scale = variance.pow(-0.25)
        self.scale = self.scale / (self.scale.square() * variance).mean().sqrt()
        return (variance.sum() / total).item()


class Autoencoder(PatchBasis):
    """The basis one way; back, a decoder that adds to the linear inverse what a linear map cannot draw: sharp edges."""

    def __init__(self):
        super().__init__(PATCH)
        self.inward = nn.Conv2d(LATENT_CHANNELS, WIDTH, 3, padding=1)
        self.coarse = nn.Sequential(Residual(WIDTH), Residual(WIDTH), nn.Conv2d(WIDTH, WIDTH * 2, 1), nn.PixelShuffle(2))
        self.fine = nn.Sequential(Residual(WIDTH // 2), nn.Conv2d(WIDTH // 2, 3 * 16, 3, padding=1), nn.PixelShuffle(4))

    def decode(self, latents, **_):
        return self.decode_linear(latents) + self.fine(self.coarse(self.inward(latents)))
