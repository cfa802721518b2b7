"""Loading a base through ComfyUI: a demo base, a checkpoint, or a diffusion model with its text encoders and VAE apart."""

import importlib
from pathlib import Path

import torch

from . import versions
from .backbone import Backbone
from .quantised import unquantised

# By name, so that this room does not import the one above it.
DEMOS = {"demo": "demo.base", "demo-flux": "demo.flux"}


def allow_gradients(module: torch.nn.Module) -> None:
    """Let exact gradients through a model of ComfyUI's, also where its blocks add to their input in place after a norm has
    read it (Flux, T5)."""

    def apart(_, args):
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
    return config.get_model({}, prefix, torch.device("meta")).diffusion_model.requires_grad_(False)


def new_model(kind: str, sizes: dict, stored: torch.dtype, compute: torch.dtype, device: torch.device) -> torch.nn.Module:
    """A diffusion model of one of ComfyUI's supported models, of these sizes, its weights not set."""
    import comfy.supported_models

    sizes = versions.flux_sizes(sizes) if kind.startswith("Flux") else sizes
    config = getattr(comfy.supported_models, kind)(dict(sizes))
    for key, value in sizes.items():
        config.unet_config[key] = value
    config.set_inference_dtype(stored, None if stored == compute else compute)
    return config.get_model({}, "", device).diffusion_model.requires_grad_(False)


def find_base(base: str) -> str:
    """The path of a base model's file, as given or by its name in ComfyUI's folders."""
    return find_file(base, ("checkpoints", "diffusion_models"), "base model")


def find_file(name: str, folders: tuple[str, ...], what: str) -> str:
    import folder_paths

    if Path(name).is_file():
        return name
    for folder in folders:
        if path := folder_paths.get_full_path(folder, name):
            return path
    looked = ", ".join(p for folder in folders for p in folder_paths.get_folder_paths(folder))
    raise FileNotFoundError(f"{what} {name!r}: no such file, and not in {looked}. Give the path of one")


def load_backbone(base: str, text_encoders: list[str] = (), vae: str = "") -> Backbone:
    """A demo base, a checkpoint, or a diffusion model with its text encoders and VAE in files of their own."""
    backbone = Backbone(*importlib.import_module(DEMOS[base]).load()) if base in DEMOS else load_files(base, text_encoders, vae)
    return ready(backbone)


def load_files(base: str, text_encoders: list[str], vae: str) -> Backbone:
    """Files by path, or by name in ComfyUI's model folders."""
    import comfy.sd
    import comfy.utils

    path = find_base(base)
    if not text_encoders:
        backbone = Backbone(*comfy.sd.load_checkpoint_guess_config(path, output_vae=True, output_clip=True)[:3])
        if backbone.clip is None:
            raise ValueError(f"base model {path} holds no text encoder: choose a full checkpoint, or give text_encoders and vae")
    else:
        backbone = Backbone(comfy.sd.load_diffusion_model(path), None, None)
        files = [find_file(f, ("text_encoders",), "text encoder") for f in text_encoders]
        kind = getattr(comfy.sd.CLIPType, backbone.family.encoders)
        backbone.clip = comfy.sd.load_clip(files, clip_type=kind)
    if vae:
        backbone.vae = comfy.sd.VAE(sd=comfy.utils.load_torch_file(find_file(vae, ("vae",), "VAE")))
    if backbone.vae is None:
        raise ValueError(f"base model {path} holds no VAE, which draws the previews: give one as vae")
    return backbone


def ready(backbone: Backbone) -> Backbone:
    """The backbone with its own weights in place, frozen, gradients passing through it."""
    backbone.load()
    backbone.diffusion_model.requires_grad_(False)
    allow_gradients(backbone.diffusion_model)
    return backbone
