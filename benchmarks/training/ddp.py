"""Two processes of one thread, with twice the batch, beside one: rows a second, and what goes over the wire in a step.

The demo model, runs of one and of two in turn. A step's seconds are those between a run's later steps. The bytes of a step are those
of the hypernetwork's gradient, of models of full size counted without any memory.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch

ROOT = Path(__file__).resolve().parents[2]
PROCESSES, LEAST = 2, 1.6  # and how many times the rows of one they should manage at the least
BATCH, STEPS, FIRST = 16, 80, 20
CONFIG = f"--config trainer/configs/demo_cat.yaml --iterations {STEPS} --save-every {STEPS} --preview-every 0 --overwrite"
FULL_SIZE = ("sd15", "sdxl", "flux")


def ddp(folder: Path, count: int, keep: Callable[[dict], None], known: dict) -> dict:
    """How many times the rows of one process two train, in `count` runs of each, and where their time goes."""
    runs = known.get("runs", [])
    while len(runs) < count:
        runs.append({str(n): one(folder / f"{n}.safetensors", n) for n in (1, PROCESSES)})
        keep({"runs": runs})
    times = [PROCESSES * r["1"]["step_seconds"] / r[str(PROCESSES)]["step_seconds"] for r in runs]
    return {
        "processes": PROCESSES,
        "speedup": round(median(times), 2),
        "lowest": round(min(times), 2),
        "runs": runs,
        "cores": os.cpu_count(),
        "wire_mb": {"demo": runs[0]["1"]["wire_mb"]} | {name: wire_mb(name) for name in FULL_SIZE},
    }


def one(out: Path, processes: int) -> dict:
    """A training by so many processes of one thread."""
    from trainer.run.beside import cache_path, log_path, state_path, text_path

    for path in (text_path(out), cache_path(out)):
        path.unlink(missing_ok=True)
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"] if processes > 1 else []
    script = ["trainer/train.py", *CONFIG.split(), "--batch", str(BATCH * processes), "--out", str(out)]
    subprocess.run([sys.executable, *several, *script], cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    lines = [json.loads(line) for line in log_path(out).read_text(encoding="utf-8").splitlines()]
    seconds = {line["iteration"]: line["seconds"] for line in lines if "iteration" in line}
    phases = next(line["phases"] for line in lines if "phases" in line)
    step = (seconds[STEPS] - seconds[FIRST]) / (STEPS - FIRST)
    return {"step_seconds": round(step, 4), "phases": phases, "wire_mb": trained_mb(state_path(out))}


def trained_mb(state: Path) -> float:
    from safetensors import safe_open

    with safe_open(state, framework="pt") as file:
        moments = [name for name in file.keys() if name.endswith(".exp_avg")]
        return round(4e-6 * sum(file.get_tensor(name).numel() for name in moments), 1)


def wire_mb(name: str) -> float:
    from benchmarks.fullsize import counted

    *_, network = counted(name, "bf16", torch.bfloat16)
    return round(4e-6 * sum(p.numel() for p in network.parameters()), 1)


def missed(found: dict) -> list[str]:
    return [f"{found['speedup']} times the rows, at least {LEAST} are expected"] * (found["speedup"] < LEAST)
