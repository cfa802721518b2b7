"""The CIFAR-10 base's autoencoder: 4x4 patches on their first 32 principal components, and linearly back."""

import torch
from torch import nn
from torch.nn import functional as F

from demo.autoencoder import LATENT_CHANNELS

PATCH = 4


class Autoencoder(nn.Module):
    """Pictures (N, 3, H, W) in -1..1 <-> latents (N, 32, H/4, W/4) of about unit variance, scaled as the demo base's."""

    def __init__(self):
        super().__init__()
        dim = 3 * PATCH * PATCH
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("basis", torch.zeros(LATENT_CHANNELS, dim))  # orthonormal rows
        self.register_buffer("scale", torch.ones(LATENT_CHANNELS))  # latent = scale * coefficient

    def encode(self, pictures):
        coefficients = self.basis @ (F.unfold(pictures, PATCH, stride=PATCH) - self.mean[:, None])
        return (self.scale[:, None] * coefficients).unflatten(2, (pictures.shape[2] // PATCH, pictures.shape[3] // PATCH))

    def decode(self, latents, **_):
        patches = self.basis.T @ (latents.flatten(2) / self.scale[:, None]) + self.mean[:, None]
        return F.fold(patches, (latents.shape[2] * PATCH, latents.shape[3] * PATCH), PATCH, stride=PATCH)

    def fit(self, pictures):
        """Set mean, basis and scale from pictures (N, 3, H, W) in -1..1; returns the share of variance that is kept."""
        patches = F.unfold(pictures, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)
        self.mean = patches.mean(0)
        variance, vectors = torch.linalg.eigh(torch.cov(patches.T))
        kept = variance.flip(0)[:LATENT_CHANNELS]
        self.basis = vectors.flip(1)[:, :LATENT_CHANNELS].T.contiguous()
        self.scale = kept.pow(-0.25)
        self.scale = self.scale / (self.scale.square() * kept).mean().sqrt()
        return (kept.sum() / variance.sum()).item()
