"""The autoencoder of the emoji-open base: a fixed basis one way, and a decoder, which can be trained while the UNet is.

    python demo/open/make_autoencoder.py --out out/open

Under --out: basis.safetensors, and decoder.safetensors at the end, which
make_base.py takes into the base when it next writes it.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from demo.autoencoder import Autoencoder
from demo.captions import BACKGROUNDS
from demo.make_decoder import train_decoder
from demo.open import drawings
from demo.open.captions import STYLES
from demo.open.nouns import NOUNS
from demo.pictures import picture

SEED, STEPS, SAMPLES = 41, 2500, 4000
BASIS = ("mean", "basis", "scale")


def draw(sheet: dict, rng: np.random.Generator, nouns: list[str]) -> np.ndarray:
    """A picture of nouns, left to right, in any style on any background: (64, 64 or 128, 3) float32 in 0..1."""
    return picture(sheet, rng, str(rng.choice(STYLES)), str(rng.choice(list(BACKGROUNDS))), *nouns)


def draw_any(sheet: dict, rng: np.random.Generator, count: int) -> np.ndarray:
    return draw(sheet, rng, rng.choice(list(NOUNS), count, replace=False).tolist())


def make_autoencoder(out: Path, sheet: dict) -> Autoencoder:
    """The autoencoder under `out` as far as it is made: its basis always, its decoder where there is one, else an idle one."""
    autoencoder = Autoencoder()
    last = autoencoder.fine[-2]
    torch.nn.init.zeros_(last.weight), torch.nn.init.zeros_(last.bias)
    basis, decoder = out / "basis.safetensors", out / "decoder.safetensors"
    if not basis.exists():
        rng = np.random.default_rng(SEED)
        autoencoder.fit_basis(drawings.as_images([draw_any(sheet, rng, 1) for _ in range(SAMPLES)]))
        save_file({name: getattr(autoencoder, name).contiguous() for name in BASIS}, basis)
    autoencoder.load_state_dict(load_file(basis) | (load_file(decoder) if decoder.exists() else {}), strict=False)
    return autoencoder.requires_grad_(False)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "out/open")
    p.add_argument("--packages", type=Path, help="folder of npm packages; default: packages under --out")
    p.add_argument("--steps", type=int, default=STEPS)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    sheet = drawings.cells(drawings.load_drawings(args.packages or args.out / "packages"), SEED)
    autoencoder = make_autoencoder(args.out, sheet).requires_grad_(True)
    train_decoder(autoencoder, lambda rng, count: draw_any(sheet, rng, count), args.steps, SEED)
    trained = {k: v.contiguous() for k, v in autoencoder.state_dict().items() if k not in BASIS}
    save_file(trained, args.out / "decoder.safetensors")


if __name__ == "__main__":
    main()
