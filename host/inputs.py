"""The files that a training is given, each judged by its header: one line says which is wrong before anything is loaded."""

import importlib
from collections.abc import Sequence

from unhype.layers import FAMILIES, Parameters, of_family

from .files import CHECKPOINT, DIFFUSERS, ENCODER, MODEL, VAE, VAE_IN, Found, Shapes, latent_channels, look_at
from .folders import DEMOS, find_base, find_file


def check_files(base: str, text_encoders: Sequence[str] = (), vae: str = "") -> Found:
    """What the base is, by its header; the other files are what they are given as.

    Raises FileNotFoundError and ValueError, naming the file, what it is and what was expected, before anything is loaded.
    """
    if base in DEMOS:
        return look_at(importlib.import_module(DEMOS[base]).WEIGHTS)
    path = find_base(base)
    found = look_at(path)
    kinds = (CHECKPOINT, MODEL, DIFFUSERS) if text_encoders else (CHECKPOINT,)
    titles = ", ".join(family.title for family in FAMILIES.values())
    if found.what not in (CHECKPOINT, MODEL, DIFFUSERS):
        raise ValueError(f"base model {path} is {found.what}, expected a .safetensors checkpoint of {titles}")
    if found.what not in kinds:
        raise ValueError(
            f"base model {path} is {found.what} and holds no text encoder: choose a full checkpoint, or give text_encoders and vae"
        )
    if found.what != DIFFUSERS and found.family is None:
        raise ValueError(f"base model {path} is {found.what} of no family that UnHype knows, expected one of {titles}")
    check_channels(found.denoiser, path)
    for file in text_encoders:
        file = find_file(file, ("text_encoders",), "text encoder")
        if (what := look_at(file).what) != ENCODER:
            raise ValueError(f"text encoder {file} is {what}, expected a .safetensors text encoder (such as clip_l, t5xxl)")
    if vae:
        check_vae(find_file(vae, ("vae",), "VAE"), found)
    elif not any(VAE_IN.fullmatch(name) for name in found.shapes):
        raise ValueError(f"base model {path} holds no VAE, which draws the previews: give one as vae")
    return found


def check_channels(denoiser: Parameters, source: str) -> None:
    """Raise ValueError, naming `source`, for a denoiser (a model, or its Shapes) that is asked with more than noise."""
    shapes = Shapes({name: tuple(p.shape) for name, p in denoiser.named_parameters()})
    family = of_family(shapes)
    takes, makes = latent_channels(shapes, family) if family else (0, 0)
    if takes > makes > 0:
        raise ValueError(
            f"base model {source} takes {takes} latent channels and makes {makes}: it is for inpainting, depth, edges or editing and "
            "wants a picture beside the prompt, which a training has not. Train on the ordinary model that it was made from"
        )


def check_vae(path: str, base: Found) -> None:
    """Raise ValueError unless the file is a VAE of as many latent channels as the base makes."""
    found = look_at(path)
    if found.what != VAE:
        raise ValueError(f"VAE {path} is {found.what}, expected a .safetensors VAE")
    own = next(shape for name, shape in found.shapes.items() if VAE_IN.fullmatch(name))[1]
    if base.family is None:
        return
    wanted = latent_channels(base.denoiser, base.family)[1]
    if wanted and own != wanted:
        raise ValueError(
            f"VAE {path} is of {own} latent channels, expected {wanted} for this {base.family.title} model: choose the VAE of its family"
        )
