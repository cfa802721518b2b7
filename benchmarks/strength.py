"""Does the Eraser's strength move the picture gradually? Measured on both demo bases, through the node's own patching.

    python dev.py bench --strength        writes out/bench/strength.json and a picture of the sweep beside it

The change of a picture is the RMS of its latents against those at strength 0, divided by the same at strength 1: the mean over
SEEDS pictures, each of its own seed and another of the base's captions, and what a single one does. Two ways: `adapter`, whose
strength is how early it begins, and `constant`, one adapter for all steps that is made for the strength, as a weight patch and a
baked LoRA have it.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from demo import prompts
from evaluation.methods import load_pack
from host.load import load_backbone
from host.sampling import adapted_sampling
from host.start import find_comfy, start_comfy
from trainer.previews import labelled, picture_grid
from unhype.checkpoint import load_eraser
from unhype.hypernetwork import at_strength

CASES = {"emoji-sd": ("demo", "demo_cat", 3.0), "emoji-flux": ("demo-flux", "demo_flux_cat", 1.0)}
SEEDS, FIRST, STEPS, SIZE = 32, 900, 16, (64, 64)
WAY = tuple(i / 10 for i in range(11))
BEYOND = (1.25, 1.5, 2.0)
SHOWN, ROWS = (0.0, 0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0), 4
ALLOWED = 0.1  # from the straight line


def distance(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """RMS of each picture's difference: (N,)."""
    return (a - b).square().flatten(1).mean(1).sqrt()


def summary(drawn: dict[float, torch.Tensor]) -> dict:
    """The curve of latents (N, ...) by strength, how far its mean and its single pictures lie from a straight line, and the largest
    change of a single picture between two strengths of WAY that were drawn."""
    changes = {s: distance(x, drawn[0.0]) / distance(drawn[1.0], drawn[0.0]) for s, x in drawn.items()}
    way = [s for s in WAY if s in changes]
    off = torch.stack([(changes[s] - s).abs() for s in way])
    steps = torch.stack([distance(drawn[b], drawn[a]) / distance(drawn[1.0], drawn[0.0]) for a, b in zip(way, way[1:])])
    return {
        "change": {f"{s:g}": round(c.mean().item(), 4) for s, c in changes.items()},
        "worst_from_line": round(max(abs(changes[s].mean().item() - s) for s in way), 4),
        "single_worst_from_line": round(off.amax(0).mean().item(), 4),
        "single_largest_step": round(steps.amax(0).mean().item(), 4),
        "n": len(drawn[0.0]),
    }


@torch.inference_mode()
def measure(name: str, out: Path) -> dict:
    base, file, cfg = CASES[name]
    backbone, patching = load_backbone(base), load_pack()
    eraser = load_eraser(ROOT / f"demo/erasers/{file}.safetensors")
    noun = eraser.concepts[0].name
    text = backbone.encode([prompts.base_prompt(i, (noun, noun)).text for i in range(SEEDS)])
    empty = backbone.encode([""]).repeated(SEEDS)
    noise = torch.stack([backbone.noise(SIZE, FIRST + i) for i in range(SEEDS)])
    draw = lambda model: backbone.sample(text.conditioning(), empty.conditioning(), SIZE, 0, STEPS, cfg, model, noise=noise)
    adapter = {s: draw(patching.erase(backbone.model, eraser, s)) for s in (*WAY, *BEYOND)}
    constant = {s: adapter[s] for s in (0.0, 1.0)}
    for s in WAY[1:-1]:
        factors = at_strength(eraser.network, text.condition(), s)
        constant[s] = draw(adapted_sampling(backbone, eraser.network.shape.layers, torch.arange(SEEDS), factors))
    pictures = torch.stack([backbone.decode(adapter[s][:: SEEDS // ROWS]) for s in SHOWN], 1).flatten(0, 1)
    labelled(picture_grid(pictures, len(SHOWN)), [f"{s:g}" for s in SHOWN], [""] * ROWS).save(out / f"strength_{name}.png")
    return {"adapter": summary(adapter), "constant": summary(constant)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--comfyui")
    start_comfy(find_comfy(parser.parse_args().comfyui))
    out = ROOT / "out/bench"
    out.mkdir(parents=True, exist_ok=True)
    report = {"bases": {name: measure(name, out) for name in CASES}, "steps": STEPS, "command": "python dev.py bench --strength"}
    (out / "strength.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=1))
    far = {name: own["adapter"]["worst_from_line"] for name, own in report["bases"].items()}
    if max(far.values()) > ALLOWED:
        print(f"farther than {ALLOWED} from a straight line: {far}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
