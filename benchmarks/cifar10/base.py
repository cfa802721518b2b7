"""The CIFAR-10 base through ComfyUI's own classes."""

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.utils
import torch

from benchmarks.cifar10.autoencoder import PATCH, Autoencoder
from demo.base import new_clip, new_unet, new_vae

SAMPLE_SIZE = (64, 64)  # what Backbone.sample(size=) takes for a 32x32 picture: it makes latents of an eighth, the base's are a quarter


def load(weights: Path) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """MODEL, CLIP and VAE of a base that make_base.py wrote."""
    tensors = comfy.utils.load_torch_file(str(weights), safe_load=True)
    part = lambda prefix: {k.removeprefix(prefix): v.float() for k, v in tensors.items() if k.startswith(prefix)}
    unet, clip, autoencoder = new_unet(), new_clip(), Autoencoder()
    unet.diffusion_model.load_state_dict(part("unet."))
    text = clip.cond_stage_model.clip_l.transformer
    text.text_model.load_state_dict(part("text."))
    torch.nn.init.eye_(text.text_projection.weight)
    autoencoder.load_state_dict(part("vae."))
    unet.requires_grad_(False), clip.cond_stage_model.requires_grad_(False)
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    vae = new_vae(autoencoder)
    vae.downscale_ratio = vae.upscale_ratio = PATCH
    return comfy.model_patcher.ModelPatcher(unet, load_device=device, offload_device=offload), clip, vae
