"""Trainings that are killed at random moments and resumed, each compared to the bit with one that nobody disturbed.

One process imports everything; every training is a fork of it, so that a kill costs seconds. The training is a very small one of
the demo base: a few steps, saved after every second, a part of the bundled texts, a short fit of the switch, and prompts that were
encoded before. It is killed up to EACH times by any of four signals, one in INSIDE while a file is being saved, the others after a
random share of the processor time that an undisturbed run takes; after each the same command is given again, and then with the
option that it asks for.
"""

import json
import os
import random
import re
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from host.backbone import Backbone
from host.load import load_backbone
from trainer import data, previews, reading, slider, state, switch, verdict
from trainer import train as training
from trainer.page import keeper
from trainer.run import log, sealed
from unhype import checkpoint

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
EACH, INSIDE = 4, 4
POLL = 5e-4  # seconds between two looks at a run
TEXTS, FIT, VOCABULARY, PICTURES = 200, 20, 100, 2  # every so many of the written texts; iterations of the switch; words; pictures drawn
SETTINGS = {
    "base": "demo",
    "erase": ["cat -> forest"],
    "templates": ["a {}, google style, on a blue background", "a {} and a {other}, google style, on a blue background"],
    "retain": ["dog", "bear", "fish", "car"],
    "neighbours": 0,
    "clip_skips": [1],
    "size": "64x64",
    "pair_size": "64x64",
    "pictures": 4,
    "pair_prompts": 16,
    "sampling_steps": 2,
    "cfg": 1.0,
    "kept_steps": 1,
    "rank": 2,
    "hidden": 16,
    "iterations": 6,
    "batch": 4,
    "retain_batch": 16,
    "preview_every": 4,
    "save_every": 2,
    "least_erased": 0.0,
    "most_misses": 1.0,
    "most_false_alarms": 1.0,
}
FIRST_STATES = 1 << 20  # bytes of a file, beyond which the disk is full: the caches fit, a state does not
OF_TIME = ("train_seconds", "host_import_seconds", "train_peak_mb", "phases")  # of the metrics: no two runs have them alike


def remembered(function: Callable) -> Callable:
    known: dict = {}

    def asked(self, *arguments):
        key = repr(arguments)
        if key not in known:
            known[key] = function(self, *arguments)
        return known[key]

    return asked


def prepare() -> None:
    """What all runs have in common, once, in the process that they are forked from."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    backbone, texts = load_backbone("demo"), reading.written()[::TEXTS]
    training.load_backbone = lambda *_: backbone
    reading.written = lambda: texts
    switch.ITERATIONS, data.VOCABULARY, slider.PICTURES, verdict.PICTURES, previews.ROWS = FIT, VOCABULARY, PICTURES, PICTURES, 1
    for name in ("encode", "one_chunk", "near_words", "pieces", "vocabulary"):
        setattr(Backbone, name, remembered(getattr(Backbone, name)))


class Saves:
    """Tells through a pipe when a file begins to be saved and when it is: b"<" and b">"."""

    def __init__(self):
        self.read, self.write = os.pipe()
        os.set_blocking(self.read, False)
        self.seen = b""

    def announced(self, write: Callable) -> Callable:
        def saved(*arguments):
            os.write(self.write, b"<")
            write(*arguments)
            os.write(self.write, b">")

        return saved

    def look(self) -> bytes:
        try:
            self.seen += os.read(self.read, 4096)
        except BlockingIOError:
            pass
        return self.seen

    def close(self) -> None:
        self.look()
        os.close(self.read), os.close(self.write)


class Run:
    """A training in a process of its own."""

    def __init__(self, out: Path, *options: str, limit: int = 0):
        config = out.with_suffix(".yaml")
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(SETTINGS), encoding="utf-8")  # JSON is YAML
        self.log, self.saves, self.code = out.with_suffix(".said"), Saves(), 0
        self.log.write_text("", encoding="utf-8")
        self.process = os.fork()
        if not self.process:
            self.child(["--config", str(config), "--out", str(out / "cat.safetensors"), *options], limit)

    def child(self, arguments: list[str], limit: int) -> None:
        code = 99
        try:
            for number in SIGNALS[1:]:
                signal.signal(number, signal.SIG_DFL)  # under nohup, or in the background, some are ignored
            said = os.open(self.log, os.O_WRONLY)
            os.dup2(said, 1), os.dup2(said, 2)
            if limit:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            every = ((sealed, "write_atomically"), (checkpoint, "write_atomically"), (log, "write_text"), (keeper, "write_text"))
            for module, name in (*every, (state, "save_state")):
                setattr(module, name, self.saves.announced(getattr(module, name)))
            code = training.main(arguments)
        except KeyboardInterrupt:
            code = 130
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)

    def seconds(self) -> float:
        """Processor time that it has taken so far."""
        try:
            return time.clock_gettime((~self.process << 3) | 2)  # Linux's name for another process's clock
        except OSError:
            return 0.0

    def running(self) -> bool:
        if self.process:
            found, status = os.waitpid(self.process, os.WNOHANG)
            if found:
                self.process, self.code = 0, os.waitstatus_to_exitcode(status)
                self.saves.close()
        return bool(self.process)

    def inside(self) -> bool:
        """Whether a file is being saved, or was when it ended."""
        seen = self.saves.look() if self.process else self.saves.seen
        return seen.count(b"<") > seen.count(b">")

    def ended(self) -> int:
        """Its exit code, negative for the signal that ended it."""
        while self.running():
            self.saves.look()
            time.sleep(20 * POLL)
        return self.code

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")


def killed(run: Run, number: int, after: float, save: int = 0, delay: float = 0.0) -> bool:
    """Send a signal to a run after so many seconds of its processor time, or where `save` is given so many seconds after that many
    saves have begun; returns whether it ended a training that was not done."""
    due = (lambda: run.saves.look().count(b"<") >= save) if save else (lambda: run.seconds() >= after)
    while run.running() and not due():
        run.saves.look()
        time.sleep(POLL)
    time.sleep(delay)
    if run.running():
        os.kill(run.process, number)
    return run.ended() in (-number, 130)


def resumed_by(out: Path) -> tuple[str, ...]:
    """The option that the plain command, given again, asks for; none where it would simply begin. Raises AssertionError where it
    ends with anything else."""
    if not any(out.glob("*")):
        return ()
    run = Run(out)
    while run.running() and "encoding" not in run.said():
        time.sleep(POLL)
    if run.running():
        os.kill(run.process, signal.SIGKILL)
    if run.ended() != 1:
        return ()
    option = re.findall("--(?:resume|overwrite)", run.said())
    assert option and "error: out:" in run.said() and len(run.said()) < 500, run.said()
    return (option[0],)


def content(path: Path):
    """What a file of a training holds, without what only tells the time."""
    if path.suffix in (".safetensors", ".state", ".cache"):
        with safe_open(path, framework="pt") as file:
            held = {name: (str(t.dtype), tuple(t.shape), t.numpy().tobytes()) for name in file.keys() for t in [file.get_tensor(name)]}
            said = dict(file.metadata())
        if path.suffix == ".safetensors":
            meta = json.loads(said["unhype"])
            meta["metrics"] = {k: v for k, v in meta["metrics"].items() if k not in OF_TIME}
            meta["metrics"]["verdict"].pop("seconds")
            said = meta
        return held, said
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for line in lines:
            line.pop("seconds", None), line.pop("phases", None), line.get("verdict", {}).pop("seconds", None)
        return lines
    return None  # the page tells the time; the state before the newest is of whatever step the run was stopped after


def folder(out: Path) -> dict:
    return {path.relative_to(out).as_posix(): content(path) for path in sorted(out.rglob("*")) if path.is_file()}


def different(out: Path, undisturbed: dict) -> list[str]:
    """The files of a finished training that are not as an undisturbed one left them, or that it did not leave."""
    found = folder(out)
    gone = found.keys() ^ undisturbed.keys()
    return sorted(gone | {name for name in found.keys() & undisturbed.keys() if found[name] != undisturbed[name]})


def undisturbed(out: Path) -> tuple[dict, float]:
    """What a training that nobody disturbs leaves, once in this process, so that all its prompts are remembered, and once in one of
    its own; and the processor time of that."""
    former = {number: signal.getsignal(number) for number in SIGNALS[1:]}
    config = out.with_suffix(".yaml")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(json.dumps(SETTINGS), encoding="utf-8")
    assert training.main(["--config", str(config), "--out", str(out / "cat.safetensors"), "--overwrite"]) == 0
    for number, handler in former.items():
        signal.signal(number, handler)
    again, seconds = Run(out.with_name("again"), "--overwrite"), 0.0
    while again.running():
        seconds = again.seconds() or seconds
        again.saves.look()
        time.sleep(POLL)
    found = folder(out)
    assert again.code == 0 and not different(out.with_name("again"), found), "two undisturbed trainings are not alike"
    return found, seconds


def chain(out: Path, seed: int, most: int, whole: float, expected: dict, inside_next: Callable[[], bool]) -> dict:
    """One training, killed up to `most` times; what is wrong with what it left in the end."""
    shutil.rmtree(out, ignore_errors=True)
    rng, found = random.Random(seed), {"n": 0, "inside": 0, "signals": []}
    while True:
        last = found["n"] >= most
        run = Run(out, *resumed_by(out))
        number = rng.choice(SIGNALS)
        drawn = rng.uniform(0, 0.9 * whole), rng.randint(3, 9), rng.uniform(0, 0.02)
        inside = inside_next()
        if not last and killed(run, number, drawn[0], *(drawn[1:] if inside else ())):
            found["n"] += 1
            found["inside"] += run.inside()
            found["signals"].append(signal.Signals(number).name)
            continue
        code = run.ended()
        return found | {"wrong": [f"exit code {code}"] * bool(code) + different(out, expected)}


def kills(folder: Path, count: int, keep: Callable[[dict], None], known: dict) -> dict:
    """`count` kills in chains of EACH; `known` are those that were made before, `keep` is given all of them after each chain."""
    prepare()
    expected, whole = undisturbed(folder / "undisturbed")
    own = {"n": 0, "identical": 0, "inside": 0, "signals": {}, "trainings": 0, "wrong": []} | known
    while own["n"] < count:
        inside = lambda: INSIDE * own["inside"] <= own["n"]
        seed = own["trainings"]
        found = chain(folder / f"{seed}", seed, min(EACH, count - own["n"]), whole, expected, inside)
        own["trainings"] += 1
        own["n"] += found["n"]
        own["inside"] += found["inside"]
        for name in found["signals"]:
            own["signals"][name] = own["signals"].get(name, 0) + 1
        if found["wrong"]:
            own["wrong"].append({"training": seed, "files": found["wrong"]})
        else:
            own["identical"] += found["n"]
            shutil.rmtree(folder / f"{seed}")
        keep(own)
    return own | {"others": others(folder, expected)}


def others(folder: Path, expected: dict) -> dict[str, bool]:
    """What else befalls a training, and whether it is as it should be."""
    return {
        "cut off": cut_off(folder / "cut", expected),
        "disk full": disk_full(folder / "full", expected),
        "two at once": twice(folder / "two", expected),
    }


def stopped_after(out: Path, saves: int) -> None:
    """A training that is killed after so many states."""
    shutil.rmtree(out, ignore_errors=True)
    run = Run(out)
    while run.running() and run.saves.look().count(b"<<>>") < saves:
        time.sleep(POLL)
    os.kill(run.process, signal.SIGKILL)
    assert run.ended() == -signal.SIGKILL


def cut_off(out: Path, expected: dict) -> bool:
    """The newest state is cut off: the one before it is taken."""
    stopped_after(out, 2)
    newest = out / "cat.state"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    run = Run(out, "--resume")
    return run.ended() == 0 and "the state before it is taken" in run.said() and not different(out, expected)


def disk_full(out: Path, expected: dict) -> bool:
    """Files cannot grow as large as a state: it ends with the reason, and goes on once there is room."""
    shutil.rmtree(out, ignore_errors=True)
    run = Run(out, limit=FIRST_STATES)
    ended = run.ended() == 1 and "could not be saved" in run.said() and not list(out.glob(".*.tmp"))
    return ended and Run(out, *resumed_by(out)).ended() == 0 and not different(out, expected)


def twice(out: Path, expected: dict) -> bool:
    """A second run into the same file is refused, and the first one ends as if alone."""
    shutil.rmtree(out, ignore_errors=True)
    first = Run(out)
    while first.running() and b">" not in first.saves.look():
        time.sleep(POLL)
    second = Run(out.with_name("two"), "--overwrite")
    refused = second.ended() == 1 and "is being trained by another run" in second.said()
    return refused and first.ended() == 0 and not different(out, expected)


def missed(found: dict) -> list[str]:
    return [
        *([f"{found['identical']} of {found['n']} identical"] if found["identical"] < found["n"] else []),
        *([f"{found['inside']} of {found['n']} inside a save"] if INSIDE * found["inside"] < found["n"] else []),
        *(name for name, good in found["others"].items() if not good),
    ]
