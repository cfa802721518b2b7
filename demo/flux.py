"""The Flux demo base through ComfyUI's own classes: a small Flux transformer, a small T5, and emoji-sd's CLIP and autoencoder."""

from pathlib import Path

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import comfy.supported_models_base
import comfy.text_encoders.flux
import comfy.utils
import torch

from . import base, versions
from .autoencoder import LATENT_CHANNELS, Autoencoder

WEIGHTS = Path(__file__).with_name("emoji-flux.safetensors")
FLUX = {
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "vec_in_dim": base.TEXT_WIDTH,
    "context_in_dim": base.TEXT_WIDTH,
    "hidden_size": 128,
    "mlp_ratio": 4.0,
    "num_heads": 4,
    "depth": 2,
    "depth_single_blocks": 6,
    "axes_dim": [8, 12, 12],
    "theta": 100,  # Flux's own 10,000 hardly tells neighbours apart on a grid of 8 x 8
    "patch_size": 1,
    "qkv_bias": True,
    "guidance_embed": True,
}
SHIFT = 0.5  # of the noise schedule: Flux's own for its smallest pictures
T5 = {"d_model": base.TEXT_WIDTH, "d_kv": 32, "num_heads": 4, "d_ff": 256, "num_layers": 2}
SHORTEST = 77  # tokens that T5's states are padded to; full-size Flux pads to 256


def new_flux() -> comfy.model_base.Flux:
    """A Flux model of the demo's size, weights uninitialised, fp32."""
    versions.check_patch(FLUX["patch_size"], "emoji-flux")
    config = comfy.supported_models.Flux(versions.flux_sizes(FLUX))
    config.latent_format = base.EmojiLatents()
    config.sampling_settings = {"shift": SHIFT}
    config.set_inference_dtype(torch.float32, None)
    return comfy.model_base.Flux(config, device=comfy.model_management.unet_offload_device())


def new_clip() -> comfy.sd.CLIP:
    """Flux's two tokenizers and text encoders, 128 wide, 3 and 2 layers deep, weights uninitialised, fp32."""
    target = comfy.supported_models_base.ClipTarget(comfy.text_encoders.flux.FluxTokenizer, comfy.text_encoders.flux.FluxClipModel)
    options = {"clip_l_model_config": base.CLIP, "t5xxl_model_config": T5, "dtype": torch.float32}
    return comfy.sd.CLIP(target, model_options=options, tokenizer_data={"t5xxl_min_length": SHORTEST})


def load(weights: Path = WEIGHTS) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE of the Flux demo base."""
    own, shared = base.read(weights), base.read(base.WEIGHTS)
    flux, clip, autoencoder = new_flux(), new_clip(), Autoencoder()
    flux.diffusion_model.load_state_dict(versions.named_as_in(flux.diffusion_model, base.part(own, "flux.")))
    encoders = clip.cond_stage_model
    encoders.t5xxl.transformer.load_state_dict(base.part(own, "t5."))
    base.load_text(encoders.clip_l.transformer, shared)
    autoencoder.load_state_dict(base.part(shared, "vae."))
    flux.requires_grad_(False), encoders.requires_grad_(False)
    return base.patcher(flux, "demo_flux_cat.yaml"), clip, base.new_vae(autoencoder)
