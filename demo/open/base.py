"""The emoji-open base through ComfyUI's own classes: an SD-layout UNet, MiniLM as its text encoder, an autoencoder."""

from pathlib import Path

import comfy.model_base
import comfy.model_patcher
import comfy.sd

from .. import base, minilm
from ..autoencoder import Autoencoder

# Not in demo/, which a small clone has whole: nobody but who measures needs it.
WEIGHTS = Path(__file__).resolve().parents[2] / "benchmarks" / "open" / "emoji-open.safetensors"
UNET = base.UNET | {"context_dim": 384}  # MiniLM's width


def new_unet() -> comfy.model_base.BaseModel:
    """An SD 1.x model of this base's size, v-prediction, weights at random, fp32."""
    return base.new_unet(UNET)


def load(weights: Path = WEIGHTS) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE of emoji-open; the CLIP is MiniLM as it is.

    Raises FileNotFoundError where the weights or MiniLM's are not there.
    """
    if not weights.is_file():
        raise FileNotFoundError(f"emoji-open's weights are not at {weights}: make them with python demo/open/make_base.py")
    tensors = base.read(weights)
    unet, clip, autoencoder = new_unet(), minilm.load_clip(), Autoencoder()
    unet.diffusion_model.load_state_dict(base.part(tensors, "unet."))
    autoencoder.load_state_dict(base.part(tensors, "vae."))
    unet.requires_grad_(False)
    return base.patcher(unet), clip, base.new_vae(autoencoder)
