"""Measure the emoji-open base by its judge: what it draws of the nouns' words, descriptions and pairs.

    python demo/open/measure.py --comfyui COMFYUI [--weights FILE] [--share 0.1] [--out FILE.json]

Prints, and writes as JSON, the fractions that the judge names rightly: of single nouns by every word
that captions held, by their descriptions, by words and descriptions that no caption held, and of pairs both nouns.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

STEPS, CFG, BATCH, SEED = 20, 3.0, 64, 4500
KEYS = {"single": "single_top1", "description": "description_top1", "unseen_words": "unseen_words_top1", "pair": "pair_both_top1"}


@torch.inference_mode()
def scores_of(backbone, judge, prompts: list) -> torch.Tensor:
    """The judge's scores (N, nouns) of one picture of each prompt, each from noise of its own."""
    wide = len(prompts[0].nouns) > 1
    size, found = (128 if wide else 64, 64), []
    empty = backbone.encode([""])
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        text = backbone.encode([p.text for p in part])
        noise = torch.stack([backbone.noise(size, SEED + start + i) for i in range(len(part))])
        positive, negative = text.conditioning(), empty.repeated(len(part)).conditioning()
        latents = backbone.sample(positive, negative, size, SEED, STEPS, CFG, noise=noise)
        found.append(judge.scores(backbone.vae.decode(latents)))
    return torch.cat(found)


def named(scores: torch.Tensor, prompts: list, names: list[str]) -> torch.Tensor:
    """Whether each picture's highest scores are the prompt's nouns, as many as it has: (N,) bool."""
    wanted = torch.tensor([sorted(names.index(n) for n in p.nouns) for p in prompts])
    return (scores.topk(wanted.shape[1]).indices.sort(1).values == wanted).all(1)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", required=True, help="folder of a ComfyUI install")
    p.add_argument("--weights", type=Path, help="the base's file; default: the one of benchmarks/open")
    p.add_argument("--judge", type=Path, help="the judge's file; default: the one of benchmarks/open")
    p.add_argument("--share", type=float, default=1.0, help="of the prompts, for a quick look")
    p.add_argument("--sets", nargs="+", default=[], help="only these of the prompt sets")
    p.add_argument("--out", type=Path)
    args = p.parse_args()
    from host.start import start_comfy

    start_comfy(args.comfyui)
    from demo.open import base
    from demo.open.judge import NAMES, WEIGHTS, load_judge
    from demo.open.prompts import prompt_sets
    from host.backbone import Backbone
    from host.load import ready

    backbone = ready(Backbone(*base.load(args.weights or base.WEIGHTS)))
    judge = load_judge(args.judge or WEIGHTS)
    figures: dict = {"nouns": len(NAMES)}
    for name, prompts in prompt_sets().items():
        if args.sets and name not in args.sets:
            continue
        chosen = prompts[:: max(1, round(1 / args.share))]
        right = named(scores_of(backbone, judge, chosen), chosen, NAMES)
        figures |= {KEYS.get(name, f"{name}_top1"): round(right.float().mean().item(), 4), f"{name}_n": len(chosen)}
        print(json.dumps(figures), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps({"command": "python demo/open/measure.py", "base": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
