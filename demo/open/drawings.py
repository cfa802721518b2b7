"""The drawings of the emoji-open base: every noun by four makers, over plain backgrounds."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..captions import BACKGROUNDS
from ..pictures import PACKAGES, fetch_package, on_background, place
from .captions import STYLES
from .nouns import NOUNS

FLAT, EMOJIONE = "@iconify-json/fluent-emoji-flat@1.2.6", "@iconify-json/emojione@1.2.3"
VARIANTS = 4  # of size and place


def svg_drawing(body: str, size: int) -> Image.Image:
    """The body of an SVG of `size` units as an RGBA picture, four times as large as a cell needs."""
    import resvg_py

    svg = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 {size} {size}">{body}</svg>'
    return Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=256, height=256)))).convert("RGBA")


def load_drawings(folder: Path) -> dict[tuple[str, str], Image.Image]:
    """The artwork of every (noun, style) as an RGBA picture, from the packages in `folder`, fetched when they are not there.

    Raises FileNotFoundError naming the package that lacks a noun.
    """
    drawings = {}
    for style, (spec, member) in PACKAGES.items():
        with tarfile.open(fetch_package(spec, folder)) as tar:
            names = set(tar.getnames())
            for noun in NOUNS.values():
                found = [m for m in (member.format(c) for c in (noun.code, noun.code.replace("-fe0f", ""))) if m in names]
                if not found:
                    raise FileNotFoundError(f"{spec} has no picture {noun.code} for the noun {noun.name!r}")
                drawings[noun.name, style] = Image.open(io.BytesIO(tar.extractfile(found[0]).read())).convert("RGBA")
    return drawings | load_icons(FLAT, folder, {noun.name: noun.flat for noun in NOUNS.values()}, "flat")


def load_emojione(folder: Path) -> dict[tuple[str, str], Image.Image]:
    """EmojiOne's artwork of the nouns that it has, as load_drawings: for the judge only, the base is not trained on it."""
    return load_icons(EMOJIONE, folder, {noun.name: noun.emojione for noun in NOUNS.values() if noun.emojione}, "emojione")


def load_icons(spec: str, folder: Path, names: dict[str, str], style: str) -> dict[tuple[str, str], Image.Image]:
    """The icons of these names, by noun, from an npm package of Iconify's. Raises FileNotFoundError naming one that it lacks."""
    with tarfile.open(fetch_package(spec, folder)) as tar:
        found = json.load(tar.extractfile("package/icons.json"))
    icons = found["icons"] | {name: found["icons"][other["parent"]] for name, other in found.get("aliases", {}).items()}
    for noun, name in names.items():
        if name not in icons:
            raise FileNotFoundError(f"{spec} has no icon {name!r} for the noun {noun!r}")
    size = found.get("width", 16)
    return {(noun, style): svg_drawing(icons[name]["body"], icons[name].get("width", size)) for noun, name in names.items()}


def cells(drawings: dict, seed: int) -> dict[tuple[str, str], np.ndarray]:
    """Each drawing in VARIANTS slightly different sizes and places: (VARIANTS, 64, 64, 4) uint8, premultiplied."""
    rng = np.random.default_rng(seed)
    return {
        key: np.stack([place(d, int(rng.integers(53, 57)), *map(int, rng.integers(-1, 2, 2))) for _ in range(VARIANTS)])
        for key, d in drawings.items()
    }


def as_images(pictures: list[np.ndarray]) -> torch.Tensor:
    """Pictures (H, W, 3) in 0..1 -> (N, 3, H, W) in -1..1, as the autoencoder takes them."""
    return torch.tensor(np.stack(pictures)).permute(0, 3, 1, 2) * 2 - 1


class Latents:
    """Latents of every noun in every style, on every background and variant, each encoded once, in fp16."""

    def __init__(self, sheet: dict, autoencoder):
        encode = lambda pictures: autoencoder.encode(as_images(pictures)).half()
        self.cells = {(n, s, b): encode([on_background(c, b) for c in sheet[n, s]]) for n in NOUNS for s in STYLES for b in BACKGROUNDS}
        self.empty = {b: encode([on_background(None, b)]) for b in BACKGROUNDS}

    def of(self, nouns: tuple[str, ...], style: str, background: str, variants) -> torch.Tensor:
        """(32, 8, 8 per noun) of the nouns left to right; of none, the background alone."""
        drawn = [self.cells[n, style, background][v] for n, v in zip(nouns, variants)] or [self.empty[background][0]]
        return torch.cat(drawn, -1).float()
