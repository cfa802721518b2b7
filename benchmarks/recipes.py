"""What the recipes of trainer/configs take on models of full size, counted and not run: results/recipes.json and docs/training.md.

    python benchmarks/recipes.py

Memory is the trainer's own count of a training step (host/memory.py), for the fastest way that fits a card of so many GB; the work
is how often the denoiser is asked (trainer/work.py), and the floating point operations of that. GB are of 1024^3 bytes.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import pages
from benchmarks.fullsize import MODELS, WEIGHTS
from host import memory
from host.load import new_model
from host.start import find_comfy, start_comfy
from trainer import dry_run
from trainer.config import from_mapping, read_yaml
from trainer.work import BACKWARD, work

RESULT = ROOT / "benchmarks/results/recipes.json"
COMMAND = "python benchmarks/recipes.py"
BASES = {"sd": (("sd15", "bf16"), ("sdxl", "bf16")), "flux": (("flux", "fp8"),)}
CARDS = (8, 12, 16, 24)  # GB
SIZES = ("rank", "hidden", "queries", "retain_batch")  # of the settings what a step's memory depends on, beside the concepts


def recipes() -> list[Path]:
    return sorted(p for p in (ROOT / "trainer/configs").glob("*.yaml") if not p.name.startswith("demo"))


def row(path: Path, name: str, weights: str, known: dict) -> dict:
    """What a recipe takes on a base. `known` keeps the counts of steps that were counted before."""
    config = from_mapping(read_yaml(path), path.name)
    key = (name, weights, len(config.erase), *(getattr(config, s) for s in SIZES))
    if key not in known:
        model = new_model(*MODELS[name], WEIGHTS[weights], torch.bfloat16, torch.device("meta"))
        known[key] = dry_run.measure(config, model, torch.bfloat16, 0)
    _, family, network, step = known[key]
    config = config.for_family(family)
    plans = {gb: memory.plan(step, config.batch, gb * memory.GB) for gb in CARDS}
    found = work(config, family)
    return {
        "recipe": path.name,
        "model": name,
        "weights": weights,
        "concepts": len(config.erase),
        "size": config.size,
        "iterations": config.iterations,
        "cards": {gb: {"peak_gb": round(plan.peak / memory.GB, 1), "plan": str(plan)} if plan else None for gb, plan in plans.items()},
        "evaluations": {"drawing": found.drawing, "training": found.training, "after": found.strengths + found.verdict + found.previews},
        "pflop": round(step.flops / (1 + BACKWARD) * found.forwards / 1e15, 1),
        "file_mb": round(dry_run.file_bytes(network, config, len(config.erase)) / 1e6, 1),
    }


def main() -> int:
    start_comfy(find_comfy(None))
    known: dict = {}
    rows = []
    for path in recipes():
        for base in BASES[path.stem.rpartition("_")[2]]:
            rows.append(row(path, *base, known))
            print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"rows": rows, "command": COMMAND}, indent=1) + "\n", encoding="utf-8")
    pages.wrote(RESULT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
