"""A training in several processes is the training of one: same losses, same files, and one goes on where several stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainer.run import processes
from trainer.run.beside import log_path, state_path
from trainer.run.processes import check
from trainer.settings.fields import Config, ConfigError
from trainer.train import MISSED
from unhype.checkpoint import load_eraser

ROOT = Path(__file__).resolve().parents[1]
# A batch of eight, and of pairs four: one each for four processes.
SMALL = "--pictures 8 --sampling-steps 4 --kept-steps 2 --iterations 8 --batch 8 --retain-batch 32 --rank 2 --hidden 16 --save-every 2"
CONFIG = ["--config", str(ROOT / "trainer/configs/demo_cat.yaml"), *SMALL.split(), "--autocast", "none"]
CLOSE = 1e-3  # of a loss: sums in another order, and bits that a smaller batch changes


def launched(count: int, *script: str) -> list[str]:
    several = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"] if count > 1 else []
    return [sys.executable, *several, *script]


def training(count: int, out: Path, *extra: str) -> list[str]:
    return launched(count, str(ROOT / "tests/files/train_few.py"), *CONFIG, "--out", str(out), *extra)


def losses(out: Path) -> list[dict]:
    return [line for text in log_path(out).read_text().splitlines() if "iteration" in (line := json.loads(text))]


def trained(out: Path, count: int, *extra: str) -> Path:
    """The eraser that so many processes have trained."""
    done = subprocess.run(training(count, out, *extra), cwd=out.parent, capture_output=True, text=True, timeout=600)
    assert done.returncode in ((0, MISSED) if count == 1 else (0, 1)), done.stderr  # torchrun has one code for every other than 0
    assert done.stdout.count("verdict, on prompts") == 1 and done.stdout.count("saved ") == 1, done.stderr
    return out


def files_of(out: Path) -> set[str]:
    return {p.suffix for p in out.parent.iterdir() if p.stem == out.stem}


@pytest.fixture(scope="module")
def alone(comfy, tmp_path_factory):
    return trained(tmp_path_factory.mktemp("trained") / "one.safetensors", 1)


def assert_same(out: Path, alone: Path) -> None:
    for mine, its in zip(losses(out), losses(alone), strict=True):
        for name in ("loss", "task", "retain", "gradient"):
            assert mine[name] == pytest.approx(its[name], rel=CLOSE, abs=1e-5), (mine, its)
    mine, its = (load_eraser(path).network.state_dict() for path in (out, alone))
    for name in its:
        assert torch.allclose(mine[name], its[name], rtol=1e-2, atol=1e-3), name


@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_train_what_one_trains(alone, count):
    out = trained(alone.with_stem(f"by-{count}"), count)
    assert_same(out, alone)
    assert files_of(out) == files_of(alone)


def test_one_goes_on_where_two_were_stopped(alone):
    out = alone.with_stem("stopped")
    process = subprocess.Popen(training(2, out), cwd=out.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while not state_path(out).exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=300)
    assert "stopped at iteration" in said and process.returncode != 0, said
    assert not out.exists()
    trained(out, 1, "--resume")
    assert_same(out, alone)


def test_what_processes_put_together_is_what_each_made(tmp_path):
    for count in (2, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        done = subprocess.run(launched(count, str(ROOT / "tests/files/processes_alone.py"), str(folder)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert sorted(p.name for p in folder.iterdir()) == [str(i) for i in range(count)]


def test_a_batch_that_is_too_small_is_refused(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 4)
    check(Config(batch=8, retain_batch=4))
    with pytest.raises(ConfigError, match="batch is 4, too few for 4 processes to share: make it 8 or more"):
        check(Config(batch=4, retain_batch=64))
    with pytest.raises(ConfigError, match="retain_batch is 3, too few"):
        check(Config(batch=8, retain_batch=3))
    monkeypatch.setattr(processes, "count", lambda: 1)
    check(Config(batch=1, retain_batch=0))
