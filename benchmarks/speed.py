"""What the eraser costs: loading, one adapter, and sampling without it, on a safe prompt and on an erased one.

    python dev.py bench --speed        writes out/bench/speed.json

Whole samplings of the demo model, interleaved so that a busy machine burdens all alike; medians.
"""

import asyncio
import importlib.util
import json
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from host.load import load_backbone
from host.start import find_comfy, start_comfy

ROUNDS, STEPS, BATCH = 9, 16, 4
PROMPTS = {"erased": "a cat, google style, on a blue background", "safe": "a dog, google style, on a blue background"}


def load_pack():
    spec = importlib.util.spec_from_file_location("unhype_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules["unhype_pack"] = module
    spec.loader.exec_module(module)
    asyncio.run(module.comfy_entrypoint())
    return (
        sys.modules["unhype_pack.nodes.patching"],
        sys.modules["unhype_pack.unhype.checkpoint"],
        sys.modules["unhype_pack.unhype.hypernetwork"],
    )


def seconds(work, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.inference_mode()
def main() -> int:
    start_comfy(find_comfy(None))
    start = time.perf_counter()
    patching, checkpoint, hypernetwork = load_pack()
    report = {"pack_import_seconds": time.perf_counter() - start}
    path = ROOT / "demo/erasers/demo_cat.safetensors"
    report["load_seconds"] = seconds(lambda: checkpoint.load_eraser(path), ROUNDS)
    report["file_mb"] = path.stat().st_size / 1e6
    eraser, backbone = checkpoint.load_eraser(path), load_backbone("demo")
    texts = {name: backbone.encode([text] * BATCH) for name, text in PROMPTS.items()}
    condition = texts["erased"].condition()
    report["one_adapter_seconds"] = seconds(lambda: hypernetwork.at_strength(eraser.network, condition.rows([0]), 1.0), ROUNDS)

    empty = backbone.encode([""] * BATCH)
    erased_model = patching.erase(backbone.model, eraser, 1.0)
    runs = {"without": ("erased", backbone.model), "safe_prompt": ("safe", erased_model), "erased_prompt": ("erased", erased_model)}
    times = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, (prompt, model) in runs.items():
            start = time.perf_counter()
            backbone.sample(texts[prompt].conditioning(), empty.conditioning(), (64, 64), 1, STEPS, 3.0, model)
            times[name].append(time.perf_counter() - start)
    report["sampling_seconds"] = {name: statistics.median(t) for name, t in times.items()}
    base = report["sampling_seconds"]["without"]
    report["overhead"] = {name: report["sampling_seconds"][name] / base - 1 for name in ("safe_prompt", "erased_prompt")}
    report |= {
        "steps": STEPS,
        "batch": BATCH,
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "command": "python dev.py bench --speed",
    }
    out = ROOT / "out/bench/speed.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
