"""Loading a base through ComfyUI: a demo base, a checkpoint, or a diffusion model with its text encoders and VAE apart."""

import importlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch

from unhype.layers import Family, family_of

from . import versions
from .backbone import Backbone
from .folders import DEMOS, find_base, find_file
from .inputs import check_channels, check_files
from .quantised import unquantised


def allow_gradients(module: torch.nn.Module) -> None:
    """Let exact gradients through a model of ComfyUI's, also where its blocks add to their input in place after a norm has
    read it (Flux, T5)."""

    def apart(_: torch.nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(a.clone() if torch.is_grad_enabled() and a.requires_grad else a for a in args)

    for m in module.modules():
        if "LayerNorm" in type(m).__name__:
            m.register_forward_pre_hook(apart)
    module.forward = versions.for_gradients(module.forward)


def prefix_of(tensors: dict[str, torch.Tensor]) -> str:
    """What the names of a checkpoint's diffusion model begin with."""
    import comfy.model_detection

    prefix = comfy.model_detection.unet_prefix_from_state_dict(tensors)
    return prefix if any(name.startswith(prefix) for name in tensors) else ""


def shapes_of(tensors: dict[str, torch.Tensor], base: str, compute: torch.dtype) -> torch.nn.Module:
    """The diffusion model of a checkpoint whose tensors are on the meta device, its weights as most of them are stored,
    quantised ones as plain ones of 8 bits.

    Raises ValueError, naming the base, where ComfyUI knows none like it.
    """
    import comfy.model_detection

    tensors = unquantised(tensors)
    prefix = prefix_of(tensors)
    config = comfy.model_detection.model_config_from_unet(tensors, prefix)
    if config is None:
        raise ValueError(f"base model {base} holds no diffusion model that ComfyUI knows: choose another file")
    kinds = [t.dtype for name, t in tensors.items() if name.startswith(prefix) and t.is_floating_point() and len(t.shape) == 2]
    stored = max(set(kinds), key=kinds.count)
    config.set_inference_dtype(stored, None if stored == compute else compute)
    model: torch.nn.Module = config.get_model({}, prefix, torch.device("meta")).diffusion_model
    return model.requires_grad_(False)


def new_model(kind: str, sizes: dict[str, Any], stored: torch.dtype, compute: torch.dtype, device: torch.device) -> torch.nn.Module:
    """A diffusion model of one of ComfyUI's supported models, of these sizes, its weights not set."""
    import comfy.supported_models

    sizes = versions.flux_sizes(sizes) if kind.startswith("Flux") else sizes
    config = getattr(comfy.supported_models, kind)(dict(sizes))
    for key, value in sizes.items():
        config.unet_config[key] = value
    config.set_inference_dtype(stored, None if stored == compute else compute)
    model: torch.nn.Module = config.get_model({}, "", device).diffusion_model
    return model.requires_grad_(False)


def load_backbone(base: str, text_encoders: Sequence[str] = (), vae: str = "") -> Backbone:
    """A demo base, a checkpoint, or a diffusion model with its text encoders and VAE in files of their own."""
    backbone = Backbone(*importlib.import_module(DEMOS[base]).load()) if base in DEMOS else load_files(base, text_encoders, vae)
    check_channels(backbone.diffusion_model, base)
    return ready(backbone)


def load_files(base: str, text_encoders: Sequence[str], vae: str) -> Backbone:
    """Files by path, or by name in ComfyUI's model folders."""
    import comfy.sd
    import comfy.utils

    check_files(base, text_encoders, vae)
    path = find_base(base)
    if not text_encoders:
        backbone = Backbone(*comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=True)[:3])
        if backbone.clip is None:
            raise ValueError(f"base model {path} holds no text encoder: choose a full checkpoint, or give text_encoders and vae")
    else:
        backbone = Backbone(comfy.sd.load_diffusion_model(path), None, None)
        backbone.clip = clip_of(text_encoders, backbone.family)
    if vae:
        backbone.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(find_file(vae, ("vae",), "VAE")))
    if backbone.vae is None:
        raise ValueError(f"base model {path} holds no VAE, which draws the previews: give one as vae")
    own, wanted = backbone.vae.latent_channels, backbone.model.get_model_object("latent_format").latent_channels
    if own != wanted:
        raise ValueError(f"VAE {vae or path} is of {own} latent channels, expected {wanted} for {path}: choose its family's VAE")
    return backbone


def clip_of(text_encoders: Sequence[str], family: Family) -> Any:
    """A CLIP of files of their own."""
    import comfy.sd

    files = [find_file(f, ("text_encoders",), "text encoder") for f in text_encoders]
    return comfy.sd.load_clip(files, clip_type=getattr(comfy.sd.CLIPType, family.encoders))


def load_text(base: str, text_encoders: Sequence[str], diffusion_model: torch.nn.Module) -> Backbone:
    """A backbone that encodes prompts and can do nothing else: its text encoders alone are loaded.

    Args:
        diffusion_model: the base's, on the meta device.
    """
    import comfy.sd

    if base in DEMOS:
        return load_backbone(base)
    if text_encoders:
        clip = clip_of(text_encoders, family_of(diffusion_model))
    else:
        clip = comfy.sd.load_checkpoint_guess_config(find_base(base), output_vae=False, output_clip=True, output_model=False)[1]
        if clip is None:
            raise ValueError(f"base model {base} holds no text encoder: choose a full checkpoint, or give text_encoders and vae")
    return Backbone(SimpleNamespace(model=SimpleNamespace(diffusion_model=diffusion_model)), clip, None)


def ready(backbone: Backbone) -> Backbone:
    """The backbone with its own weights in place, frozen, gradients passing through it."""
    backbone.load()
    backbone.diffusion_model.requires_grad_(False)
    allow_gradients(backbone.diffusion_model)
    return backbone
