"""Train the autoencoder's decoder: sharp pictures from latents that a denoiser left slightly noisy."""

import numpy as np
import torch
from torch.nn import functional as F

from .autoencoder import Autoencoder

BATCH, LEARNING_RATE, NOISE = 48, 2e-3, 0.3


def edges(images):
    """Differences between neighbouring pixels, both ways, flattened."""
    return torch.cat([images.diff(dim=2).flatten(), images.diff(dim=3).flatten()])


def train_decoder(autoencoder: Autoencoder, draw, steps: int, seed: int, progress=print) -> None:
    """Fit `decode` to pictures of one and two nouns, as `draw(rng, count)` gives them; mean and basis stay as they are.

    The loss is the mean absolute error of pixels and of edges; latents get noise of up to 0.3, drawn per picture.
    """
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, (step + 1) / 100, (steps - step) / (0.6 * steps))
        two = step % 3 == 0
        drawn = [draw(rng, 1 + two) for _ in range(BATCH // (1 + two))]
        images = torch.tensor(np.stack(drawn)).permute(0, 3, 1, 2) * 2 - 1
        with torch.no_grad():
            latents = autoencoder.encode(images)
            latents += NOISE * torch.rand(len(latents), 1, 1, 1, generator=generator) * torch.randn(latents.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = autoencoder.decode(latents)
        decoded = decoded.float()
        loss = F.l1_loss(decoded, images) + F.l1_loss(edges(decoded), edges(images))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            progress(f"decoder {step}: {loss.item():.4f}")
