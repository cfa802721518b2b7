"""The comparison of erasers on the demo base: methods side by side, hard prompts, attacks, the switch, and what it all costs.

    python dev.py bench                     hours; made of parts that are kept in out/bench, so that it goes on where it stopped
    python dev.py bench --quick             some minutes: a little of everything, into out/bench-quick
    python dev.py bench --only table curve  some of it, after the tuning: table, curve, controls, switch, hard, attacks
    python dev.py bench --resume            from the parts behind the committed report (benchmarks/results/parts) on
    python dev.py bench --cifar10           the paper's object classes instead, into out/cifar10
    python dev.py bench --open              up to a hundred concepts on the base of real words instead, into out/open
    python dev.py bench --open --first      ten of them, in an hour: what needs no other training than ours, into out/open-first
    python dev.py bench --open --hundred    a hundred of them, in two hours, into out/open-hundred

Writes report.json and report.md with plots and pictures. Work is done by processes of one thread each (--workers).
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from filelock import FileLock, Timeout

from benchmarks.cifar10.table import Cifar10
from benchmarks.comparison import pictures, recipes, report, switch_prompts
from benchmarks.comparison.cells import Scale, cached, cell, cell_path, read
from benchmarks.comparison.emoji import WORDING
from benchmarks.comparison.settings import QUICK, TRIALS, TUNING_NOUNS, TUNING_SEED, key_of
from benchmarks.open.table import ALL, FIRST, HUNDRED, SMALL, Open
from demo.judge import load_judge
from evaluation import attacks, hard_prompts, switch_rates
from host.load import load_backbone
from host.start import find_comfy, start_comfy

PARTS = ("tuning", "table", "curve", "controls", "switch", "hard", "attacks")
SINGLE, FOUR, TWELVE = recipes.ORDER[:6], list(recipes.ORDER[:4]), list(recipes.ORDER[:12])
SEEDS = (0, 1, 2)
EVERY = [*recipes.ORDER, *recipes.ORDER_REST]
ATTACKED = ("unhype", recipes.BASE, "lora-switched", "lora-esd", "lora-stack", "esd-full", "uce")
SHOWN = ("unhype", "lora-esd", "esd-full", "uce", "lora-stack")
CASE_SEED, ATTACK_SEED = 11, 29


class Bench:
    """All jobs of a run, each a file and the work that makes it."""

    def __init__(self, folder: Path, quick: bool, only: list[str]):
        self.folder, self.quick, self.only = folder, quick, only
        self.scale = Scale(erased=8, seeds=1, other_seeds=1, hard=3, attack=2, safe=12, switch=40) if quick else Scale()

    def tools(self):
        return load_backbone("demo"), load_judge()

    def write(self) -> None:
        report.write(self, self.folder)

    def settings(self) -> dict[str, dict]:
        """Of each method the best of its trials; in a quick run the first, made small."""
        if self.quick:
            return {name: trials[0] | QUICK.get(name, QUICK["every"]) for name, trials in TRIALS.items()}
        return {name: report.best(self.trials(name))["settings"] for name in TRIALS}

    def trials(self, name: str) -> list[dict]:
        paths = [(self.tuning_path(name, trial), trial) for trial in TRIALS[name]]
        return [read(path) | {"settings": trial} for path, trial in paths if path.exists()]

    def table(self) -> tuple[list, list]:
        """(method, nouns, seed) of every row: those that everything else stands on, and the rest.

        With one concept lora-stack is lora-esd.
        """
        if self.quick:
            return [(m, ["cat"], 0) for m in ("unhype", "lora-esd", "lora-switched", *recipes.CLOSED_FORMS, *recipes.REWRITING)], []
        sizes = [FOUR, TWELVE, *([n] for n in SINGLE)]
        trained, others = ("lora-esd", "lora-switched", "esd-full"), ("unhype-trajectory", "unhype-authors")
        core = [(m, nouns, 0) for m in ("unhype", "uce") for nouns in sizes] + [(m, FOUR, 0) for m in (*trained, "lora-stack", *others)]
        core += [(m, nouns, 0) for m in (recipes.NARROW, recipes.ADAPTER) for nouns in (FOUR, TWELVE)]
        rest = [("unhype", TWELVE, s) for s in SEEDS[1:]] + [(m, TWELVE, 0) for m in (*trained, *others)]
        rest += [(m, [n], 0) for m in trained for n in SINGLE] + [("lora-stack", TWELVE, 0)]
        rest += [(m, FOUR, s) for m in ("unhype", "uce", *trained, "lora-stack") for s in SEEDS[1:]]
        rest += [(m, [n], 0) for m in others for n in SINGLE] + [(m, FOUR, s) for m in others for s in SEEDS[1:]]
        cheap = [m for m in (*recipes.CLOSED_FORMS, *recipes.REWRITING) if m != "uce"]
        rest += [(m, nouns, 0) for m in cheap for nouns in sizes]
        return core, rest

    def row_job(self, settings, name, nouns, seed):
        path = cell_path(self.folder, name, nouns, seed, recipes.settings_of(name, settings), self.scale)
        return path, lambda tools: cell(*tools, name, nouns, seed, settings, self.scale, self.folder, quiet)

    def jobs(self):
        """(path, work) of everything that was asked for; first the tuning, whose settings all the rest depends on."""
        parts = [] if self.quick else [self.tuning_job(name, trial) for name, trials in TRIALS.items() for trial in trials]
        if not all(path.exists() for path, _ in parts):
            return parts
        settings = self.settings()
        row, part = partial(self.row_job, settings), partial(self.part_job, settings)
        core, rest = self.table() if "table" in self.only else ([], [])
        parts += [row(*r) for r in core]
        nouns = ["cat"] if self.quick else FOUR
        if "switch" in self.only:
            for which in [nouns] if self.quick else [FOUR, TWELVE]:
                parts += [part("safe", which), part("switch", which)]
        if "hard" in self.only:
            cases = ("plain", "weighted 1.4") if self.quick else hard_prompts.CASES
            parts += [part("hard", nouns, case) for case in cases]
        if "attacks" in self.only:
            names = ("unhype", recipes.BASE, "lora-esd") if self.quick else ATTACKED
            kinds = ("paraphrase", "suffix") if self.quick else attacks.ATTACKS
            for kind in kinds:
                parts += [part("attack", nouns, kind, name, forced) for name in names for forced in forced_too(name)]
        if "table" in self.only:
            parts.append(part("pictures", nouns, *(("unhype", "lora-esd", "uce") if self.quick else SHOWN)))
        if "curve" in self.only and not self.quick:
            parts += [row("unhype", EVERY[:k], 0) for k in (2, 8, 20)]
        if "controls" in self.only and not self.quick:
            parts += [row(name, which, 0) for name in recipes.CONTROLS for which in (FOUR, TWELVE)]
        return parts + [row(*r) for r in rest]

    def tuning_path(self, name, trial) -> Path:
        return cell_path(self.folder / "tuning", name, list(TUNING_NOUNS), TUNING_SEED, trial, self.scale)

    def tuning_job(self, name, trial):
        path = self.tuning_path(name, trial)
        own = {name: trial}
        return path, lambda tools: cell(*tools, name, list(TUNING_NOUNS), TUNING_SEED, own, self.scale, self.folder / "tuning", quiet)

    def part_job(self, settings: dict, part: str, nouns: list[str], *what):
        depends = {k: v for name in methods_of(part, what) for k, v in recipes.settings_of(name, settings).items()}
        key = key_of(part, nouns, what, sorted(depends.items()), getattr(self.scale, part, None))
        words = "-".join(str(w).replace(" ", "_") for w in what)
        path = self.folder / part / f"{len(nouns)}-{words}-{key}.json"
        return path, partial(self.part, part, nouns, what, settings)

    def part(self, part: str, nouns: list[str], what: tuple, settings: dict, tools) -> dict:
        backbone, judge = tools
        made = [recipes.make(backbone, m, nouns, 0, settings, self.folder / "models", quiet)[0] for m in methods_of(part, what)]
        if part == "pictures":
            return pictures.write_sheet(backbone, judge, made, nouns, self.folder / "pictures.png")
        (method,) = made
        if part == "hard":
            rows = hard_prompts.table(method, backbone, judge, WORDING, nouns, self.scale.hard, CASE_SEED, cases=what, progress=quiet)
            return rows[0] if rows else {"case": what[0], "n": 0}
        if part == "attack":
            return attacks.attack(what[0], method, backbone, judge, WORDING, nouns, self.scale.attack, ATTACK_SEED, forced=what[2])
        trained = recipes.trained_on(nouns, self.folder / "models", settings)
        if part == "safe":
            texts = switch_prompts.safe_prompts(nouns, trained, self.scale.safe, CASE_SEED)
            return {"nouns": nouns, **switch_rates.identical(backbone, method, texts), "seed": CASE_SEED}
        erased = switch_prompts.erased_prompts(nouns, self.scale.switch, CASE_SEED)
        safe = switch_prompts.safe_prompts(nouns, trained, self.scale.switch, CASE_SEED)
        return {"nouns": nouns, **switch_rates.rates(backbone, method, erased, safe)}


def forced_too(name: str) -> tuple[bool, ...]:
    """Attacks are made on a method, and on the eraser with its switch forced on as well."""
    return (False, True) if name == "unhype" else (False,)


def methods_of(part: str, what: tuple) -> tuple[str, ...]:
    """The methods that a part of the run looks at."""
    return {"pictures": what, "attack": what[1:2]}.get(part, ("unhype",))


def quiet(*_):
    pass


def work(bench: Bench | Cifar10 | Open) -> None:
    """Do every job that nobody else is at, until none is left."""
    start_comfy(find_comfy(None))
    torch.set_num_threads(1)
    tools = bench.tools()
    while True:
        jobs = bench.jobs()
        waiting = [(path, job) for path, job in jobs if not path.exists()]
        if not waiting:
            return
        mine = False
        for path, job in waiting:
            lock = path.with_suffix(".lock")
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                with FileLock(lock, timeout=0):
                    if not path.exists():
                        mine, started = True, time.time()
                        cached(path, lambda job=job: job(tools))
                        done = len(jobs) - len(waiting) + 1
                        print(f"{time.strftime('%H:%M:%S')} {done} done: {path.stem}, {time.time() - started:.0f} s", flush=True)
                        break  # what is to be done next may have changed
            except Timeout:
                continue
        if not mine:
            time.sleep(2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cifar10", action="store_true")
    parser.add_argument("--open", action="store_true")
    parser.add_argument("--first", action="store_true")
    parser.add_argument("--hundred", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    usual = "cifar10" if arguments.cifar10 else "open" if arguments.open else "bench"
    usual += "-quick" * arguments.quick + "-first" * arguments.first + "-hundred" * arguments.hundred
    folder = (arguments.out or ROOT / "out" / usual).resolve()
    bench = Cifar10(folder) if arguments.cifar10 else Bench(folder, arguments.quick, arguments.only)
    if arguments.open:
        asked_for = (e for e in (SMALL, FIRST, HUNDRED) if getattr(arguments, e.option.removeprefix("--")))
        bench = Open(folder, next(asked_for, ALL))
    if arguments.worker:
        work(bench)
        return 0
    if arguments.resume:
        shutil.copytree(ROOT / "benchmarks/results/parts", folder, dirs_exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], "--worker"]
    workers = [subprocess.Popen(command, env=environment) for _ in range(arguments.workers)]
    codes = [w.wait() for w in workers]
    bench.write()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
