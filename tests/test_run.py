"""Around a training: one run into a file, stopping it, its log, what it says to any console, its previews' labels."""

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer.previews import NARROWEST, labelled, picture_grid
from trainer.run import beside, progress
from trainer.run.lock import Busy, only_run
from trainer.run.log import Log
from trainer.run.progress import Progress, never_refuse, say, watched
from trainer.run.stop import StopRequest, signals

ROOT = Path(__file__).resolve().parents[1]

# The lock


HOLD = "import sys; from trainer.run.lock import only_run\nwith only_run(sys.argv[1]):\n    print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def holder(tmp_path):
    """Another process that is training into cat.safetensors."""
    out = tmp_path / "cat.safetensors"
    process = subprocess.Popen([sys.executable, "-c", HOLD, out], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process, out
    process.kill()
    process.wait()


def test_a_second_run_into_the_same_file_is_refused_at_once(holder):
    process, out = holder
    for same in (out, out.parent / "." / "cat.safetensors"):
        with (
            pytest.raises(Busy, match="cat.safetensors is being trained by another run: wait .* or give this one another --out"),
            only_run(same),
        ):
            pass
    with only_run(out.with_name("dog.safetensors")):
        pass
    process.communicate("")
    with only_run(out):
        pass
    assert not list(out.parent.iterdir())


def test_the_lock_of_a_killed_run_does_not_hinder(holder):
    process, out = holder
    process.kill()
    process.wait()
    assert beside.lock_path(out).exists()
    with only_run(out):
        pass
    assert not beside.lock_path(out).exists()


def test_what_killed_runs_left_half_written_is_removed_and_nothing_else(tmp_path):
    out = tmp_path / "cat.safetensors"
    own = [".cat.safetensors.77.tmp", ".cat.state.new.8.tmp", ".cat.cache.123456.tmp", ".cat.jsonl.9.tmp", "cat.state.new"]
    others = [".cat.v2.safetensors.77.tmp", ".dog.safetensors.77.tmp", "cat.state", "cat.state.old", "notes.tmp", ".cat.safetensors.tmp"]
    for name in own + others:
        (tmp_path / name).write_bytes(b"half")
    previews = beside.previews_path(out)
    previews.mkdir()
    for name in (".000100.png.7.tmp", "000100.png"):
        (previews / name).write_bytes(b"half")
    with only_run(out):
        assert {p.name for p in tmp_path.iterdir()} == {*others, "cat.running", "cat.previews"}
        assert [p.name for p in previews.iterdir()] == ["000100.png"]


# Stopping


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_every_signal_that_ends_a_process_asks_first_and_raises_then(name):
    number = getattr(signal, name)
    outside = signal.signal(number, signal.default_int_handler)  # the tests may run under nohup
    try:
        with StopRequest() as stop:
            assert not stop.asked
            os.kill(os.getpid(), number)
            assert stop.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
        assert signal.getsignal(number) is signal.default_int_handler
    finally:
        signal.signal(number, outside)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no nohup")
def test_under_nohup_a_closed_terminal_stops_nothing():
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert signal.SIGHUP not in signals() and signal.SIGTERM in signals()
        with StopRequest() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, former)


# The log


def line(iteration: int) -> str:
    return json.dumps({"iteration": iteration, "loss": 0.5, "seconds": 10.0 * iteration})


@pytest.mark.parametrize(
    "beyond",
    [
        "",
        line(4) + "\n" + line(5) + "\n",
        line(4)[:9],
        '{"verdict": {}}\n' + line(4),
        "\0\0\0",
        '{"iteration": "4"}\n',
        "[1]\n",
        "[" * 9999,
    ],
)
def test_a_log_is_cut_back_to_where_a_resumed_run_goes_on(tmp_path, beyond):
    path = tmp_path / "cat.jsonl"
    path.write_text("\n".join(map(line, (1, 2, 3))) + "\n" + beyond, encoding="utf-8")
    with Log(path, 3) as log:
        assert log.seconds == 30
        log.write(iteration=4, loss=0.1, seconds=31.0)
    assert [json.loads(text)["iteration"] for text in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_new_run_begins_a_new_log(tmp_path):
    path = tmp_path / "cat.jsonl"
    path.write_text(line(1) + "\n", encoding="utf-8")
    with Log(path, 0) as log:
        assert log.seconds == 0
    assert path.read_text() == ""


# What it says


class Console(io.TextIOWrapper):
    def __init__(self, code: str, errors: str = "strict"):
        super().__init__(io.BytesIO(), encoding=code, errors=errors)

    def said(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)


class Gone(Console):
    """A terminal that was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize(
    "code, shown", [("ascii", r"\U0001f431 caf\xe9"), ("cp1252", "\\U0001f431 caf\xe9"), ("utf-8", "\N{CAT FACE} caf\xe9")]
)
def test_a_console_without_the_letters_of_a_concept_shows_escapes(monkeypatch, code, shown):
    for error, stream in ((False, "stdout"), (True, "stderr")):
        console = Console(code)
        monkeypatch.setattr(sys, stream, console)
        say("\N{CAT FACE} caf\xe9", error)
        never_refuse()
        print("\N{CAT FACE} caf\xe9", file=console)
        assert console.said().splitlines() == [shown] * 2


def test_a_console_that_is_gone_ends_no_run(monkeypatch):
    for stream in (Gone("utf-8"), None):
        monkeypatch.setattr(sys, "stdout", stream)
        never_refuse()
        say("saved")
    closed = Console("utf-8")
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("saved")


def test_a_log_file_gets_a_line_a_minute_and_no_bar(monkeypatch):
    console, said = Console("utf-8"), []
    monkeypatch.setattr(sys, "stderr", console)
    with Progress("cat", 300, 100, say=said.append) as bar:
        for _ in range(50):
            bar.advance(loss=0.5)
        assert not said
        monkeypatch.setattr(progress, "EVERY", 0)
        bar.advance(loss=0.25)
    assert len(said) == 1 and said[0].startswith("cat: 151 of 300 steps, ") and said[0].endswith("left, loss 0.250")
    assert console.said() == ""


def test_encoding_many_prompts_is_followed(demo_base, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    said = []
    with watched(demo_base, "encoding", 70, said.append):
        demo_base.encode(["a cat"] * 70)
    assert [text.split(" prompts")[0] for text in said] == ["encoding: 32 of 70", "encoding: 64 of 70", "encoding: 70 of 70"]
    demo_base.encode(["a cat"])
    assert len(said) == 3


@pytest.fixture(scope="module")
def demo_base(comfy):
    from host.load import load_backbone

    return load_backbone("demo")


# Previews


def test_previews_say_what_their_rows_and_columns_are():
    """Every label is written inside its own column and row, whatever its length and letters, and hides no picture."""
    pictures = torch.zeros(6, 64, 64, 3)
    grid = picture_grid(pictures, 2)
    texts = ["erased: a \N{CAT FACE} in " + "a park and " * 40, "kept: " + "m" * 300 + "\nnew line"]
    shown = torch.tensor(list(labelled(grid, texts, ["none", "half", "full"]).convert("L").tobytes()))
    whole = labelled(grid, texts, ["none", "half", "full"])
    shown = shown.view(whole.height, whole.width)
    cell = -(-NARROWEST // 64) * 64
    left, top = whole.width - 2 * cell, whole.height - 3 * cell
    assert (shown[top:, left:] == 0).all() and min(left, top) > 20
    ink = lambda part: bool((part < 128).any())
    assert ink(shown[:top, left : left + cell]) and ink(shown[:top, left + cell :]) and not ink(shown[:top, :left])
    assert not ink(shown[:top, left + cell - 2 : left + cell + 2]) and not ink(shown[:top, -2:])
    assert all(ink(shown[top + i * cell : top + (i + 1) * cell, :left]) for i in range(3))
