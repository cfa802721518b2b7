"""How a training step is fitted into memory, and what a dry run says."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from host import memory
from host.memory import GB, MOMENTARY, Step
from trainer import dry_run

ROOT = Path(__file__).resolve().parents[1]
STEP = Step(
    weights=10 * GB, network=GB, retain=GB // 2, kept=(2 * GB, 2 * GB), recomputed=(GB, GB // 2), largest_block=GB // 4, flops=10**12
)


@pytest.mark.parametrize(
    "card, expected",
    [
        (48, (8, False, False)),
        (24, (4, False, False)),
        (16, (1, False, False)),
        (15.2, (2, True, False)),
        (12, (8, True, True)),
        (4, (1, True, True)),
    ],
)
def test_the_fastest_way_that_fits_is_taken(card, expected):
    plan = memory.plan(STEP, 8, card * GB)
    assert (plan.rows, plan.recompute, plan.offload) == expected
    assert plan.peak == STEP.peak(*expected) <= memory.SPARE * card * GB


def test_nothing_fits_into_too_little():
    assert memory.plan(STEP, 8, 2 * GB) is None


def test_the_peak_adds_up():
    assert STEP.peak(3, False, False) == (10 + 1 + 6 + 0.5) * GB + MOMENTARY
    assert STEP.peak(3, True, True) == (0.25 + 1 + 2 + 0.5) * GB + MOMENTARY


def test_a_header_is_read_without_its_data(tmp_path):
    tensors = {"a": torch.zeros(3, 5, dtype=torch.float8_e4m3fn), "b": torch.zeros(2, dtype=torch.bfloat16)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"made": "here"})
    found = dry_run.header(str(tmp_path / "x.safetensors"))
    assert {k: (tuple(v.shape), v.dtype) for k, v in found.items()} == {k: (tuple(v.shape), v.dtype) for k, v in tensors.items()}
    assert all(v.is_meta for v in found.values())


def test_a_header_of_another_kind_is_refused(tmp_path):
    save_file({"a": torch.zeros(2, dtype=torch.complex64)}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"x.safetensors holds tensors of type C64"):
        dry_run.header(str(tmp_path / "x.safetensors"))
    raw = json.dumps({"a": {"dtype": "X9", "shape": [1], "data_offsets": [0, 1]}}).encode()
    for content, found in ((struct.pack("<Q", len(raw)) + raw + b"0", "X9"), (struct.pack("<Q", 1 << 60) + b"{}", "header")):
        (tmp_path / "y.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match=rf"y.safetensors is no safetensors file.*{found}"):
            dry_run.header(str(tmp_path / "y.safetensors"))
    with pytest.raises(ValueError, match=r"x.gguf: a dry run reads the header of a .safetensors file"):
        dry_run.header("x.gguf")


def test_a_dry_run_says_what_it_takes_and_writes_nothing(comfy, tmp_path):
    command = [sys.executable, ROOT / "trainer/train.py", "--base", "demo", "--erase", "cat -> forest", "--size", "64x64"]
    command += ["--retain", "dog", "cat statue"]
    done = subprocess.run([*command, "--out", tmp_path / "x.safetensors", "--dry-run"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Stable Diffusion 1.x, 18 layers" in done.stdout and "a card of 8 GB" in done.stdout and "16 rows at a time" in done.stdout
    assert "ComfyUI " in done.stdout and "main memory: " in done.stdout and "the denoiser is asked " in done.stdout
    assert "warning: retain keeps 'cat statue' with the erased word 'cat' inside" in done.stdout
    assert not list(tmp_path.iterdir())


# The bars for the file at the default rank, whatever the number of concepts up to 100.
@pytest.mark.parametrize("name, most", [("sd15", 20), ("sdxl", 60), ("flux", 120)])
def test_files_of_full_size_models_are_small(comfy, name, most):
    from benchmarks import fullsize
    from trainer.config import Config
    from unhype.layers import family_of

    model = fullsize.make(name, "bf16", torch.bfloat16, torch.device("meta"))
    config = Config(base=name, erase=[f"c{i} -> forest" for i in range(100)], out="x.safetensors")
    network = dry_run.new_network(model, family_of(model), config)
    assert 1 < dry_run.file_bytes(network, config, 100) / 1e6 <= most


def test_a_saved_eraser_has_the_size_that_was_said(tmp_path):
    from trainer.config import Config
    from unhype.checkpoint import Concept, Eraser, save_eraser
    from unhype.fold import folded
    from unhype.hypernetwork import Hypernetwork, Shape
    from unhype.layers import Layer

    config = Config(hidden=16, bottleneck=8)
    network = Hypernetwork(Shape((Layer("a", 64, 32), Layer("b", 64, 64, 128)), 4, 10, 16, 2, 24, 32, 1))
    small, _ = folded(network, torch.randn(50, 16), config.bottleneck)
    save_eraser(Eraser(small, "flux", [Concept("cat", "forest")]), tmp_path / "x.safetensors")
    size = (tmp_path / "x.safetensors").stat().st_size
    assert 0 < size - dry_run.file_bytes(network, config) < 6000  # the header


@pytest.mark.parametrize("name, prefix", [("sd15", "model.diffusion_model."), ("sdxl", "model.diffusion_model."), ("flux", "")])
def test_a_full_size_model_is_known_by_its_header(comfy, name, prefix):
    from benchmarks import fullsize
    from host.load import shapes_of
    from unhype.layers import family_of, layer_table

    model = fullsize.make(name, "bf16", torch.bfloat16, torch.device("meta"))
    found = shapes_of({prefix + k: v for k, v in model.state_dict().items()}, name, torch.bfloat16)
    family = family_of(model)
    assert family_of(found) is family and layer_table(found, family) == layer_table(model, family)
    assert len(layer_table(found, family)) == {"sd15": 32, "sdxl": 140, "flux": 95}[name]
    assert next(found.parameters()).is_meta and next(found.parameters()).dtype == torch.bfloat16
