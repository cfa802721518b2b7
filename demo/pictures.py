"""Pictures for the demo base: emoji of three makers, drawn on plain backgrounds."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from .captions import BACKGROUNDS, NOUNS, STYLES

CELL = 64  # pixels; a picture of one noun is one cell, of two nouns two cells side by side
PACKAGES = {  # style -> npm package, path of a picture in it
    "google": ("emoji-datasource-google@16.0.0", "package/img/google/64/{}.png"),
    "twitter": ("emoji-datasource-twitter@16.0.0", "package/img/twitter/64/{}.png"),
    "fluent": ("@lobehub/fluent-emoji-3d@1.1.0", "package/assets/{}.webp"),
}


def fetch_package(spec: str, folder: Path) -> Path:
    """Download an npm package by name, once.

    Returns the path of its tarball. Raises RuntimeError naming the package when npm fails.
    """
    name, version = spec.rsplit("@", 1)
    tarball = folder / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not tarball.exists():
        folder.mkdir(parents=True, exist_ok=True)
        npm = "npm.cmd" if sys.platform == "win32" else "npm"
        done = subprocess.run([npm, "pack", "--silent", spec], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm could not download {spec}: {done.stderr.strip()[-300:]}; run the command again to go on")
    return tarball


def load_drawings(folder: Path) -> dict[tuple[str, str], Image.Image]:
    """The artwork of every (noun, style) as an RGBA picture, from the packages in `folder`."""
    drawings = {}
    for style in STYLES:
        spec, member = PACKAGES[style]
        with tarfile.open(fetch_package(spec, folder)) as tar:
            names = set(tar.getnames())
            for noun, (code, _) in NOUNS.items():
                found = [m for m in (member.format(c) for c in (code, code.removesuffix("-fe0f"))) if m in names]
                if not found:
                    raise FileNotFoundError(f"{spec} has no picture {code} for the noun {noun!r}")
                drawings[noun, style] = Image.open(io.BytesIO(tar.extractfile(found[0]).read())).convert("RGBA")
    return drawings


def place(drawing: Image.Image, size: int, dx: int, dy: int) -> np.ndarray:
    """A cell with the drawing `size` pixels wide, off its centre by (dx, dy): (64, 64, 4) uint8, premultiplied."""
    cell = Image.new("RGBA", (CELL, CELL))
    corner = (CELL - size) // 2
    cell.paste(drawing.resize((size, size), Image.LANCZOS), (corner + dx, corner + dy))
    pixels = np.asarray(cell).astype(np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    return pixels.round().astype(np.uint8)


def cells(drawings: dict, variants: int, seed: int) -> dict[tuple[str, str], np.ndarray]:
    """Each drawing in `variants` sizes and places: (variants, 64, 64, 4) uint8, premultiplied."""
    rng = np.random.default_rng(seed)
    return {
        key: np.stack([place(d, int(rng.integers(50, 57)), *rng.integers(-2, 3, 2)) for _ in range(variants)])
        for key, d in drawings.items()
    }


def on_background(cell: np.ndarray | None, background: str) -> np.ndarray:
    """A cell over a plain background: (64, 64, 3) float32 in 0..1; without a cell, the background alone."""
    colour = np.asarray(BACKGROUNDS[background], np.float32)
    if cell is None:
        return np.broadcast_to(colour, (CELL, CELL, 3)) / 255
    cell = cell.astype(np.float32)
    return (cell[..., :3] + colour * (1 - cell[..., 3:] / 255)) / 255


def picture(sheet: dict, rng: np.random.Generator, style: str, background: str, *nouns: str) -> np.ndarray:
    """A picture of no, one or two nouns (left to right): (64, 64 or 128, 3) float32 in 0..1."""
    drawn = [on_background(sheet[n, style][rng.integers(len(sheet[n, style]))], background) for n in nouns]
    return np.concatenate(drawn or [on_background(None, background)], axis=1)
