"""Should the adapter act on the negative prompt as well? Measured on a demo base, through the node's own patching.

    python benchmarks/negative.py --base demo-flux --eraser demo/erasers/demo_flux_cat.safetensors --comfyui COMFYUI

Real CFG, the negative prompt naming what the positive one names ("a cat" against "a cat"), naming it alone ("a dog" against
"a cat"), or empty. Two ways: the adapter on the conditional rows only, which is the default of every family, and on all
rows, each by its own prompt. Added to benchmarks/results/negative.json, one row for each base and case.
"""

import argparse
import dataclasses
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import pages
from demo import prompts
from demo.judge import load_judge
from evaluation.methods import load_pack
from evaluation.metrics import top1
from evaluation.studio import Drawn
from host.encode import Text
from host.load import load_backbone
from host.start import find_comfy, start_comfy
from unhype.checkpoint import load_eraser

CFG, SEEDS, SIZE, STEPS = 3.0, 6, (64, 64), 16
RESULT = ROOT / "benchmarks/results/negative.json"


def conditioning(text: Text, guidance: float) -> list:
    """As CLIPTextEncode and, for Flux, FluxGuidance make it; guidance 1 is the undistilled model's."""
    return [[text.tokens, {"pooled_output": text.pooled, "guidance": guidance}]]


@torch.inference_mode()
def share(backbone, judge, model, judged, negatives, noun) -> float:
    """How often the judge names the noun in pictures of the prompts, each against its negative prompt."""
    every = backbone.encode([p.text for p in judged] + negatives)
    count, scores = len(judged), []
    for seed in range(SEEDS):
        positive, negative = (conditioning(every.rows(rows), 1.0) for rows in (slice(count), slice(count, None)))
        latents = backbone.sample(positive, negative, SIZE, 700 + seed, STEPS, CFG, model)
        scores.append(judge.scores(backbone.decode(latents)))
    return top1(Drawn(torch.stack(scores, 1), None), judged, judge.names, noun)


def measure(base: str, path: Path) -> list[dict]:
    backbone, judge = load_backbone(base), load_judge()
    patching, eraser = load_pack(), load_eraser(path)
    noun = eraser.concepts[0].name
    erased, others = prompts.erased_prompts(noun), prompts.other_prompts(noun)[:16]
    named, nothing = [p.text for p in erased], lambda judged: [""] * len(judged)
    cases = {
        "cat against nothing": (erased, nothing(erased), noun),
        "cat against cat": (erased, named[1:] + named[:1], noun),
        "others against cat": (others, (named * 2)[: len(others)], None),
    }
    family = patching.FAMILIES[eraser.family]
    rows = []
    for case, (judged, negatives, wanted) in cases.items():
        row = {"base": base, "case": case, "cfg": CFG, "n": len(judged) * SEEDS}
        row["no_eraser"] = share(backbone, judge, backbone.model, judged, negatives, wanted)
        for label, conditional_only in (("conditional_rows", True), ("all_rows", False)):
            patching.FAMILIES[family.name] = dataclasses.replace(family, conditional_only=conditional_only)
            model = patching.erase(backbone.model, eraser, 1.0)
            row[label] = share(backbone, judge, model, judged, negatives, wanted)
        patching.FAMILIES[family.name] = family
        rows.append(row)
        print(row, flush=True)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--eraser", type=Path, required=True)
    parser.add_argument("--comfyui")
    arguments = parser.parse_args()
    start_comfy(find_comfy(arguments.comfyui))
    former = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    rows = [r for r in former if r["base"] != arguments.base] + measure(arguments.base, arguments.eraser)
    RESULT.write_text(json.dumps({"rows": rows, "command": "python benchmarks/negative.py"}, indent=1) + "\n", encoding="utf-8")
    pages.wrote(RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
