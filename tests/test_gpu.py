"""`python dev.py gpu`, every part of it with tiny models on the CPU; and what it says where something does not fit or is not there."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import gpu
from host import devices, memory

ROOT = Path(__file__).resolve().parents[1]
STEP = memory.Step(
    weights=10 * memory.GB, network=0, retain=0, kept=(4 * memory.GB,) * 2, recomputed=(memory.GB,) * 2, largest_block=0, flops=10
)


def test_without_a_card_it_says_so_and_what_it_would_do(monkeypatch, capsys):
    monkeypatch.setattr(devices, "kind", lambda: "cpu")
    assert gpu.main([]) == gpu.NO_CARD
    said = capsys.readouterr().out
    assert "no graphics card was found" in said and "SD 1.5, SDXL and Flux.1" in said and "--here" in said and "--small" in said


def test_the_weights_lie_where_they_are_asked_to():
    plan = lambda gb, offload: gpu.plan_for(STEP, 4, gb * memory.GB, offload)
    assert plan(40, False) == memory.Plan(4, False, False, STEP.peak(4, False, False))
    assert (plan(22, False).rows, plan(22, False).recompute) == (2, False) and plan(14, False).recompute
    assert plan(9, False) is None and plan(9, True).offload and plan(9, True).recompute and plan(1, True) is None


def test_what_the_minutes_or_the_memory_do_not_hold_is_left_out_with_a_sentence(comfy, monkeypatch):
    heard = []
    run = lambda clock, rate=1e15: gpu.measured("sd15", "bf16", True, clock, rate, heard.append)
    rows = run(gpu.Clock(1), rate=1.0)
    assert (
        all("a training step would take about" in row["left_out"] and "of 1 minutes" in row["left_out"] for row in rows) and len(rows) == 2
    )
    monkeypatch.setattr(memory, "device_memory", lambda: (torch.device("cpu"), memory.GB // 2))
    rows = run(gpu.Clock(1))
    assert all(row["left_out"] == "a training step takes 0.9 GB with one row, this card has 0.5" for row in rows)
    monkeypatch.setattr(devices, "stores", lambda device, kind: False)
    assert "takes no weights of that type" in run(gpu.Clock(1))[0]["left_out"]


def test_main_memory_that_is_too_small_is_said(monkeypatch):
    import psutil

    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 * memory.GB))
    assert "weights of 10.0 GB do not fit into 8.0 GB of free main memory" in gpu.room_for(STEP, "bf16", torch.device("cpu"))
    assert gpu.room_for(dataclasses.replace(STEP, weights=memory.GB), "bf16", torch.device("cpu")) == ""


def test_memory_that_runs_out_all_the_same_ends_one_part_only(comfy, monkeypatch):
    from benchmarks import gpu_parts

    full = lambda bench, plan: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory"))
    monkeypatch.setattr(gpu_parts, "train", full)
    rows = gpu.measured("sd15", "bf16", True, gpu.Clock(5), 1e15, lambda _: None)
    assert all("did not fit after all" in row["left_out"] for row in rows)


@pytest.mark.parametrize("model", gpu.MODELS)
def test_every_part_runs_with_tiny_models(comfy, few_texts, tmp_path, capsys, monkeypatch, model):
    monkeypatch.setattr("trainer.train.measured_onset", lambda *_: ())
    monkeypatch.setenv(devices.CPU_ONLY, "1")  # as --small does, and as it was afterwards
    trained = []
    if model != gpu.MODELS[0]:  # once is enough
        monkeypatch.setattr(gpu, "demo", lambda *_: trained.append(1) or {"left_out": "it was"})
    assert gpu.main(["--small", "--out", str(tmp_path), "--models", model]) == 0
    report = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    rows = report["parts"]
    assert [(row["model"], row["weights"], row["offloaded"]) for row in rows] == [(model, w, o) for w in gpu.WEIGHTS for o in (False, True)]
    for row in rows:
        assert min(row["step_seconds"], row["sampling_seconds"], row["with_eraser_seconds"], row["step_peak_gb"], row["counted_gb"]) > 0
        if row["offloaded"]:
            assert row["gradients_apart"] < 0.05
    demo = report["demo"]
    assert "left_out" in demo if trained else demo["iterations"] == 3 and demo["seconds"] > 0 and 0 <= demo["misses"] <= 1
    table = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert table in capsys.readouterr().out and table.count("| in main memory |") == 2 and "no figure above means anything" in table


def test_it_needs_no_more_than_this_python_and_a_comfyui(comfy, monkeypatch):
    """`dev.py gpu --here` as people run it; on a machine without a card it ends with what it would do."""
    done = subprocess.run([sys.executable, ROOT / "dev.py", "gpu", "--here"], capture_output=True, text=True)
    assert done.returncode == gpu.NO_CARD and "no graphics card was found" in done.stdout and "Traceback" not in done.stderr
