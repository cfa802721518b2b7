"""Models of full size: what a training step takes by the dry run's count, and what it really takes on this machine.

    python dev.py bench --fullsize          into benchmarks/results/fullsize.json

The models have random weights and full-size shapes. Where there is no graphics card the steps are run on the CPU, in fp32,
and the rows say so; of Flux in bf16 a few blocks only ("flux-3+6": three double and six single ones of 19 and 38). A row whose
train_peak_gb is null was only counted. GB are of 1024^3 bytes. Each row is a process of its own; the largest takes 18 GB.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import pages
from host import devices, memory
from host.load import allow_gradients, new_model
from host.start import find_comfy, start_comfy
from trainer import dry_run
from trainer.config import Config
from unhype.adapter import Term, adapter
from unhype.hypernetwork import Hypernetwork, at_strength
from unhype.layers import family_of

RESULT = ROOT / "benchmarks/results/fullsize.json"
SD15 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": (1, 2, 4, 4),
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1] * 9 + [0] * 3,
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "legacy": False,
}
SDXL = SD15 | {
    "channel_mult": (1, 2, 4),
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "use_linear_in_transformer": True,
    "num_classes": "sequential",
    "adm_in_channels": 2816,
}
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
    "theta": 10_000,
    "patch_size": 2,
    "qkv_bias": True,
    "guidance_embed": True,
}
MODELS = {
    "sd15": ("SD15", SD15),
    "sdxl": ("SDXL", SDXL),
    "flux": ("Flux", FLUX),
    "flux-3+6": ("Flux", FLUX | {"depth": 3, "depth_single_blocks": 6}),
    "flux-1+2": ("Flux", FLUX | {"depth": 1, "depth_single_blocks": 2}),
}
WEIGHTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
BARS = {("sd15", "bf16"): 6, ("sdxl", "bf16"): 10, ("flux", "bf16"): 24, ("flux", "fp8"): 16}  # GB
REALLY = (("sd15", "bf16"), ("sdxl", "bf16"), ("flux", "fp8"), ("flux-1+2", "bf16"), ("flux-3+6", "bf16"))
ROWS = 2
# glibc keeps small pieces that were freed, 1.7 GB of them with flux-3+6: above this many bytes it gives them back.
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}


def make(name: str, weights: str, compute: torch.dtype, device: torch.device) -> torch.nn.Module:
    """A diffusion model of full-size shapes with weights of that type, all the same small number."""
    kind, sizes = MODELS[name]
    model = new_model(kind, sizes, WEIGHTS[weights], compute, device)
    if device.type != "meta":
        for parameter in model.parameters():
            parameter.data.copy_(torch.tensor(0.01))
    return model


def counted(name: str, weights: str, compute: torch.dtype) -> tuple[Config, memory.Step, Hypernetwork]:
    model = make(name, weights, compute, torch.device("meta"))
    family = family_of(model)
    config = Config(base=name, erase=["cat -> forest"], out="x.safetensors").for_family(family)
    network = dry_run.new_network(model, family, config)
    inputs = dry_run.inputs_of(model, family, config.size_of(False), family.tokens, compute, "meta")
    return config, memory.measure(model, family, network, inputs, config.retain_batch), network


def estimate(name: str, weights: str) -> dict:
    """A row of a model of full size that is only counted: the plan for a card of the bar's size."""
    config, step, network = counted(name, weights, torch.bfloat16)
    bar = BARS[name, weights]
    plan = memory.plan(step, config.batch, bar * memory.GB)
    return {
        "model": name,
        "weights": weights,
        "device": "none: counted only",
        "size": config.size,
        "train_peak_gb": None,
        "train_step_seconds": None,
        "sample_step_overhead": None,
        "estimated_peak_gb": round(plan.peak / memory.GB, 2) if plan else None,
        "card_gb": bar,
        "plan": str(plan) if plan else "does not fit",
        "step_tflop": round(step.flops * config.batch / 1e12, 1),
        "eraser_file_mb": round(dry_run.file_bytes(network, config) / 1e6, 1),
        "eraser_file_mb_100_concepts": round(dry_run.file_bytes(network, config, 100) / 1e6, 1),
    }


def run(name: str, weights: str) -> dict:
    """A row that is really run on this machine's CPU in fp32: one training step, and sampling steps with and without adapter."""
    compute, device = torch.float32, torch.device("cpu")
    config, step, _ = counted(name, weights, compute)
    memory.plain_attention()
    before = devices.peak(device)
    model = make(name, weights, compute, device)
    family = family_of(model)
    allow_gradients(model)
    memory.recompute_blocks(model, family)
    network = dry_run.new_network(model, family, config, device)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad])
    inputs = dry_run.inputs_of(model, family, config.size_of(False), family.tokens, compute, device)
    batch = {key: value.expand(ROWS, *value.shape[1:]) for key, value in inputs.items()}
    condition = memory.empty_condition(network, ROWS, family.tokens, device)
    x, times = batch.pop("x"), torch.full((ROWS,), 0.5)

    def predict(factors=None):
        if factors is None:
            return model(x, times, transformer_options={}, **batch)
        with adapter(model, [Term(torch.arange(ROWS), network.shape.layers, factors)], ROWS):
            return model(x, times, transformer_options={}, **batch)

    started = time.perf_counter()
    with adapter(model, [Term(torch.arange(ROWS), network.shape.layers, network(condition, torch.ones(ROWS)))], ROWS):
        loss = model(x, times, transformer_options={}, **batch).float().square().mean()
        retained = memory.empty_condition(network, config.retain_batch, family.tokens, device)
        loss = loss + network.squared_change(retained, torch.ones(config.retain_batch)).mean()
        loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - started
    taken = devices.peak(device) - before
    with torch.inference_mode():
        factors = at_strength(network, condition, 1.0)
        spent = {}
        for label, adapted in (("plain", None), ("erased", factors)):
            started = time.perf_counter()
            predict(adapted)
            spent[label] = time.perf_counter() - started
    counted_peak = step.peak(ROWS, True, False)
    return {
        "model": name,
        "weights": weights,
        "device": "cpu, fp32",
        "size": config.size,
        "rows": ROWS,
        "train_peak_gb": round(taken / memory.GB, 2),
        "train_step_seconds": round(seconds, 1),
        "sample_step_overhead": round(spent["erased"] / spent["plain"] - 1, 3),
        "estimated_peak_gb": round(counted_peak / memory.GB, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--row", nargs=3, metavar=("KIND", "MODEL", "WEIGHTS"), help="one row, estimate or run, to the standard output")
    arguments = parser.parse_args()
    if arguments.row:
        start_comfy(find_comfy(None))
        kind, *case = arguments.row
        print(json.dumps((estimate if kind == "estimate" else run)(*case)))
        return 0
    rows = []
    for kind, cases in (("estimate", BARS), ("run", REALLY)):
        for case in cases:
            command = [sys.executable, __file__, "--row", kind, *case]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=os.environ | GIVEN_BACK)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(rows[-1], flush=True)
            report = {"rows": rows, "command": "python dev.py bench --fullsize"}
            arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    pages.wrote(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
