"""The commands that kill trainings and read hostile files: a few of each, and that they see what they look for."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.training import bench, fuzz, kills
from benchmarks.training.fuzz import Kind
from trainer.run.sealed import Damaged, write_sealed

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked and their limits set as Linux has them")


def test_hostile_files_of_every_kind_are_refused_clearly_or_load(tmp_path):
    kept = []
    found = fuzz.fuzz(tmp_path, 350, kept.append, {})
    assert found["wrong"] == [] and fuzz.missed(found) == []
    assert found["n"] == found["clean_errors"] + found["loads"] == 350 and kept
    assert all(counts["error"] > 20 for counts in found["kinds"].values()) and len(found["kinds"]) == 7
    assert sum(counts["load"] > 0 for counts in found["kinds"].values()) > 4


def raises(error: Exception):
    def load(path):
        raise error

    return load


def endless(path):
    while True:
        pass


def greedy(path):
    torch.zeros(1 << 28)


def busy(path):
    exec("1 + 1")


def writing(path):
    path.with_name("other").write_text("")


def crashing(path):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    "load, why",
    [
        (endless, "took more than"),
        (greedy, "can't allocate memory"),
        (busy, "not asked for: compile"),
        (writing, "not asked for: open"),
        (crashing, "ended with -9"),
        (raises(RuntimeError("x")), "RuntimeError"),
        (raises(Damaged("cat.x " + "x" * 500)), "an error of 506 letters"),
        (raises(Damaged("no name")), "does not name the file"),
        (raises(Damaged("cat.x \x1b[2J")), "moves a cursor"),
    ],
)
def test_each_kind_of_fault_is_seen(tmp_path, monkeypatch, load, why):
    monkeypatch.setattr(fuzz, "SECONDS", 0.3)
    kind = Kind("cat.x", b"valid", lambda valid, rng: valid, load, (Damaged,))
    found = fuzz.results({"x": kind}, tmp_path, range(2))
    assert [result for _, _, result, _ in found][-1] == "fault" and why in found[-1][3]
    assert (tmp_path / "wrong" / f"{found[-1][0]}-cat.x").read_bytes() == b"valid"


def test_what_a_change_of_one_bit_does_is_seen(tmp_path):
    for name, value in (("one", 1.0), ("same", 1.0), ("other", 1.0000001)):
        (tmp_path / name).mkdir()
        write_sealed({"x": torch.tensor([value])}, tmp_path / name / "cat.state", {"iteration": "4"})
    expected = kills.folder(tmp_path / "one")
    assert kills.different(tmp_path / "same", expected) == [] and kills.different(tmp_path / "other", expected) == ["cat.state"]
    (tmp_path / "same" / ".cat.state.7.tmp").write_bytes(b"")
    assert kills.different(tmp_path / "same", expected) == [".cat.state.7.tmp"]


SCRIPT = """
import json, sys
from pathlib import Path
from benchmarks.training import kills
from host.start import find_comfy, start_comfy
start_comfy(find_comfy(None))
print(json.dumps(kills.kills(Path(sys.argv[1]), 3, lambda found: None, {})))
"""


def test_killed_trainings_are_resumed_to_the_bit(comfy, tmp_path):
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["n"] == found["identical"] == 3 and found["wrong"] == []
    assert found["others"] == {"cut off": True, "disk full": True, "two at once": True}


def test_sections_are_put_into_one_report(tmp_path):
    report = tmp_path / "train.json"
    report.write_text(json.dumps({"schedules": [{"name": "ours"}], "kills": {"n": 1}}))
    bench.report_with("kills", {"n": 2}, report)
    assert json.loads(report.read_text()) == {"schedules": [{"name": "ours"}], "kills": {"n": 2}, "command": "python dev.py bench --train"}
