"""The files that a training is given, each judged by its header: one line says which is wrong before anything is loaded."""

import importlib
from collections.abc import Sequence

from unhype.files import CHECKPOINT, DENOISER, DIFFUSERS, ENCODER, VAE, Kind, what_is
from unhype.layers import FAMILIES, Parameters, of_family

from .files import Base, Shapes, latent_channels, read_base, read_shapes, vae_channels
from .folders import DEMOS, find_base, find_file


def check_files(base: str, text_encoders: Sequence[str] = (), vae: str = "") -> Base:
    """What the base is, by its header; the other files are what they are given as.

    Raises FileNotFoundError and ValueError, naming the file, what it is and what was expected, before anything is loaded.
    """
    if base in DEMOS:
        return read_base(importlib.import_module(DEMOS[base]).WEIGHTS)
    path = find_base(base)
    kind, titles = what_is(path), ", ".join(family.title for family in FAMILIES.values())
    if kind not in (CHECKPOINT, DENOISER, DIFFUSERS):
        raise wrong(f"base model {path}", kind, f"a .safetensors checkpoint of {titles}")
    if kind != CHECKPOINT and not text_encoders:
        raise ValueError(
            f"base model {path} is {kind.what} and holds no text encoder: choose a full checkpoint, or give text_encoders and vae"
        )
    found = read_base(path)
    if kind != DIFFUSERS and found.family is None:
        raise ValueError(f"base model {path} is {kind.what} of no family that UnHype knows, expected one of {titles}")
    check_channels(found.denoiser, path)
    for file in text_encoders:
        file = find_file(file, ("text_encoders",), "text encoder")
        if (kind := what_is(file)) != ENCODER:
            raise wrong(f"text encoder {file}", kind, "a .safetensors text encoder (such as clip_l, t5xxl)")
    if vae:
        check_vae(find_file(vae, ("vae",), "VAE"), found)
    elif not vae_channels(found.shapes):
        raise ValueError(f"base model {path} holds no VAE, which draws the previews: give one as vae")
    return found


def wrong(given: str, kind: Kind, expected: str) -> ValueError:
    """What is said of a file that is given as something else."""
    return ValueError(f"{given} is {kind.what}, expected {expected}: {kind.advice}")


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


def check_vae(path: str, base: Base) -> None:
    """Raise ValueError unless the file is a VAE of as many latent channels as the base makes."""
    if (kind := what_is(path)) != VAE:
        raise wrong(f"VAE {path}", kind, "a .safetensors VAE of pictures")
    own = vae_channels(read_shapes(path))
    if base.family is None:
        return
    wanted = latent_channels(base.denoiser, base.family)[1]
    if wanted and own != wanted:
        raise ValueError(
            f"VAE {path} is of {own} latent channels, expected {wanted} for this {base.family.title} model: choose the VAE of its family"
        )
