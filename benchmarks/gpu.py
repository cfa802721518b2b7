"""What models of full size take on this machine's graphics card, within minutes: out/gpu/gpu.json and a table to paste.

    python dev.py gpu                 (sets up what it needs first; --here: the Python that runs it, and nothing is installed)
    python dev.py gpu --small         tiny models, on any machine: whether every part runs; none of its figures means anything

Of Stable Diffusion 1.5, XL and Flux.1 with random weights, in bf16 and fp8, on the card and in main memory: a training step of
the trainer's, and twenty sampling steps without and with the Eraser; how far the gradients of the two lie apart; and the demo's
training. A part that does not fit the card, or the minutes that are left, is left out with a sentence. GB are of 1024^3 bytes.
It needs no network and no ComfyUI server. --minutes N gives it more or less time (8).
"""

import argparse
import gc
import json
import os
import platform
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from host import devices, memory
from host.start import comfy_version, find_comfy, start_comfy

MODELS, WEIGHTS = ("sd15", "sdxl", "flux"), ("bf16", "fp8")
TITLES = {"sd15": "SD 1.5", "sdxl": "SDXL", "flux": "Flux.1"}
PLACES = {False: "on the card", True: "in main memory"}
CPU, NO_CARD = "cpu", 1  # exit code where there is none
OVERHEAD = 3.0  # how many times as long as its multiplications a part may take, when it is asked whether it fits the time left
DEMO = ROOT / "trainer/configs/demo_cat.yaml"


class Clock:
    def __init__(self, minutes: float):
        self.end = time.monotonic() + 60 * minutes
        self.minutes = minutes

    @property
    def left(self) -> float:
        return self.end - time.monotonic()


def plan_for(step: memory.Step, batch: int, total: int, offload: bool) -> memory.Plan | None:
    """The fastest way that fits with the weights on the card, or in main memory and moved when they are used."""
    for recompute in (True,) if offload else (False, True):
        rows = batch
        while rows:
            peak = step.peak(rows, recompute, offload)
            if peak <= memory.SPARE * total:
                return memory.Plan(rows, recompute, offload, peak)
            rows //= 2
    return None


def room_for(step: memory.Step, weights: str, device: torch.device) -> str:
    """Why a model's weights cannot be made here; empty where they can."""
    from benchmarks.fullsize import WEIGHTS as TYPES

    if not devices.stores(device, TYPES[weights]):
        return f"{weights}: this device takes no weights of that type"
    try:
        import psutil

        free = psutil.virtual_memory().available
    except ImportError:
        return ""
    if step.weights > 0.9 * free:
        return f"its weights of {step.weights / memory.GB:.1f} GB do not fit into {free / memory.GB:.1f} GB of free main memory"
    return ""


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """How far two gradients lie apart, as a share of their length."""
    return ((a - b).norm() / a.norm().clamp_min(1e-30)).item()


def measured(name: str, weights: str, small: bool, clock: Clock, rate: float, progress) -> list[dict]:
    """A row for the weights on the card and one for them in main memory; with `left_out` where there are no figures."""
    from benchmarks import gpu_parts as parts

    device, total = memory.device_memory()
    rows: list[dict] = [{"model": name, "weights": weights, "offloaded": offload} for offload in PLACES]
    left_out = lambda why: [row | {"left_out": why} for row in rows]
    config, _, network, step = parts.counted(name, weights, small, torch.bfloat16)
    seconds = OVERHEAD * 2 * step.flops * config.batch / rate
    if seconds > clock.left:
        return left_out(
            f"a training step would take about {seconds:.0f} s, {max(0, clock.left):.0f} s are left of {clock.minutes:g} minutes"
        )
    if why := room_for(step, weights, device):
        return left_out(why)
    bench, gradients = parts.make(name, weights, small, torch.bfloat16), {}
    recomputed = False
    for row in rows:
        offload = row["offloaded"]
        plan = plan_for(step, config.batch, total, offload)
        if plan is None:
            least = step.peak(1, True, offload) / memory.GB
            row["left_out"] = f"a training step takes {least:.1f} GB with one row, this card has {total / memory.GB:.1f}"
            continue
        if seconds / 2 > clock.left:
            row["left_out"] = f"the {clock.minutes:g} minutes are over"
            continue
        row |= {"plan": str(plan), "counted_gb": plan.peak / memory.GB, "size": config.size, "rows": config.batch}
        if plan.recompute and not recomputed:
            memory.recompute_blocks(bench.backbone.diffusion_model, bench.family)
            recomputed = True
        try:
            found, gradients[offload] = parts.train(bench, plan)
            row |= found | parts.sample(bench, offload)
        except RuntimeError as error:
            if not devices.out_of_memory(error):
                raise
            row["left_out"] = f"it did not fit after all: {plan.peak / memory.GB:.1f} GB were counted, {total / memory.GB:.1f} are there"
        progress(sentence(row))
    if len(gradients) == 2:
        rows[1]["gradients_apart"] = apart(gradients[False], gradients[True])
    return rows


def demo(small: bool, out: Path, progress) -> dict:
    """The demo's training on this device: seconds, and what its verdict says."""
    from host.load import load_backbone
    from trainer.config import from_mapping, read_yaml
    from trainer.run.lock import only_run
    from trainer.train import train

    values = read_yaml(DEMO) | {"out": str(out / "demo_cat.safetensors"), "preview_every": 0}
    if small:
        values |= {"iterations": 3, "pictures": 4, "sampling_steps": 4, "kept_steps": 2, "retain": ["dog", "bird"], "neighbours": 0}
    config = from_mapping(values, "the demo")
    for old in out.glob("demo_cat.*"):
        if old.is_file():
            old.unlink()
    started = time.perf_counter()
    with only_run(config.out):
        eraser = train(config, load_backbone(config.base), progress=lambda *_: None)
    verdict = eraser.metrics["verdict"]
    found = {
        "iterations": config.iterations,
        "seconds": time.perf_counter() - started,
        "passed": verdict["passed"],
        **verdict["concepts"]["cat"],
    }
    progress(f"the demo trained in {found['seconds']:.0f} s: {found['erased']:.0%} erased, {'passed' if found['passed'] else 'FAILED'}")
    return found


def sentence(row: dict) -> str:
    what = f"{TITLES[row['model']]}, {row['weights']}, weights {PLACES[row['offloaded']]}"
    if "left_out" in row:
        return f"{what}: left out: {row['left_out']}"
    return (
        f"{what}: a training step {row['step_seconds']:.2f} s, {row['step_peak_gb']:.1f} GB "
        f"({row['counted_gb']:.1f} counted; {row['plan']}); "
        f"20 steps {row['sampling_seconds']:.2f} s, {100 * row['eraser_overhead']:+.1f} % with the Eraser"
    )


def table(report: dict) -> str:
    """The figures as Markdown."""
    head = ("model", "weights", "where", "training step", "peak (counted)", "20 sampling steps", "peak", "Eraser adds", "gradients apart")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
    for row in report["parts"]:
        first = [TITLES[row["model"]], row["weights"], PLACES[row["offloaded"]]]
        if "left_out" in row:
            lines.append(f"| {' | '.join(first)} | left out: {row['left_out']} |" + " |" * 5)
            continue
        apart = f"{row['gradients_apart']:.1e}" if "gradients_apart" in row else "-"
        cells = [
            f"{row['step_seconds']:.2f} s",
            f"{row['step_peak_gb']:.1f} ({row['counted_gb']:.1f}) GB",
            f"{row['sampling_seconds']:.2f} s",
        ]
        adds = f"{100 * row['eraser_overhead']:.1f} %" if "eraser_overhead" in row else "-"
        cells += [f"{row['peak_sampling_gb']:.1f} GB", adds, apart]
        lines.append(f"| {' | '.join(first + cells)} |")
    lines += ["", ", ".join(f"{name} {value}" for name, value in report["machine"].items() if value != "")]
    if "seconds" in report["demo"]:
        lines.append(
            f"The demo's training: {report['demo']['seconds']:.0f} s, {100 * report['demo']['erased']:.0f} % of the change reached."
        )
    elif report["demo"]:
        lines.append(f"The demo's training: left out: {report['demo']['left_out']}")
    if report["small"]:
        lines.append("Tiny models: no figure above means anything.")
    return "\n".join(lines) + "\n"


def machine(device: torch.device, total: int) -> dict:
    own = {"card": devices.title(device), "kind": devices.kind(), "gb": round(total / memory.GB, 1), "driver": devices.driver()}
    return own | {"torch": str(torch.__version__), "comfyui": comfy_version(), "system": platform.platform()}


def without_a_card() -> str:
    """What is said on a machine without one."""
    return (
        f"no graphics card was found by torch {torch.__version__}: nothing was measured.\n"
        "On one it would run, of SD 1.5, SDXL and Flux.1 with random weights in bf16 and fp8, on the card and in main memory, a training "
        "step and 20 sampling steps without and with the Eraser, and train the demo, within eight minutes.\n"
        "If there is a card, this torch was built without it: run it with ComfyUI's own Python and --here. "
        "--small runs every part with tiny models on the CPU."
    )


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true"), parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--comfyui"), parser.add_argument("--out", type=Path, default=ROOT / "out" / "gpu")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args(argv)
    if devices.kind() == CPU and not arguments.small:
        print(without_a_card())
        return NO_CARD
    clock = Clock(arguments.minutes)
    if arguments.small:
        os.environ[devices.CPU_ONLY] = "1"
    try:
        start_comfy(find_comfy(arguments.comfyui))
    except FileNotFoundError as error:
        parser.error(str(error))
    from trainer.dry_run import speed

    device, total = memory.device_memory()
    rate = speed(device, torch.bfloat16 if device.type != CPU else torch.float32)
    report = {"command": "python dev.py gpu", "machine": machine(device, total), "small": arguments.small, "tflops": rate / 1e12}
    report |= {"parts": [], "demo": {}}
    print(f"{report['machine']['card']}, {total / memory.GB:.1f} GB, a matrix product at {rate / 1e12:.1f} TFLOPS", flush=True)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    def write() -> None:
        report["seconds"] = 60 * clock.minutes - clock.left
        (out / "gpu.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (out / "gpu.md").write_text(table(report), encoding="utf-8")

    progress = lambda text: print(text, flush=True)
    for name in arguments.models:
        for weights in WEIGHTS:
            rows = measured(name, weights, arguments.small, clock, rate, progress)
            for row in rows if all("left_out" in row for row in rows) else ():
                progress(sentence(row))
            report["parts"] += rows
            write()
            gc.collect()
            devices.forget_peak(device)
        if name == arguments.models[0]:
            report["demo"] = demo(arguments.small, out, progress) if clock.left > 0 else {"left_out": "the minutes are over"}
            write()
    print(f"\n{table(report)}\nwritten to {out / 'gpu.json'} and gpu.md: please send them", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
