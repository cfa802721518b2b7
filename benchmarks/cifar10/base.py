"""The CIFAR-10 base through ComfyUI's own classes."""

from pathlib import Path

from benchmarks.cifar10.autoencoder import PATCH, Autoencoder
from demo import base

SAMPLE_SIZE = (64, 64)  # what Backbone.sample(size=) takes for a 32x32 picture: it makes latents of an eighth, the base's are a quarter


def load(weights: Path):
    """MODEL, CLIP and VAE of a base that make_base.py wrote."""
    model, clip, vae = base.load(weights, Autoencoder())
    vae.downscale_ratio = vae.upscale_ratio = PATCH
    return model, clip, vae
