"""The paper's object protocol on the CIFAR-10 base: airplane, ship and bird one at a time, and all ten classes at once.

    python dev.py bench --cifar10

Parts are kept in out/cifar10, as those of the other comparison are in out/bench; writes cifar10.json and cifar10.md,
and the other comparison's report.json takes the rows over.
"""

import json
from functools import partial
from pathlib import Path

from safetensors import safe_open

from benchmarks.cifar10 import prompts, words
from benchmarks.cifar10.judge import NAMES, load_judge
from benchmarks.comparison import recipes
from benchmarks.comparison.cells import Scale, cell, cell_path, read
from benchmarks.comparison.report import percent, table
from benchmarks.comparison.settings import TRIALS
from evaluation import measure
from trainer.config import Config

HERE = Path(__file__).parent
BASE, JUDGE = HERE / "cifar10-sd.safetensors", HERE / "judge.safetensors"
SINGLE, METHODS = ("airplane", "ship", "bird"), ("unhype", "uce", "lora-esd")
SCALE = Scale(erased=64, seeds=1)


def config_for(method: str, nouns: list[str], seed: int, out: Path, settings: dict) -> Config:
    """The demo's recipe on the CIFAR-10 base's own words: every other class is retained."""
    own = {
        "base": "cifar10",
        "erase": [f"{n} -> {words.MAPPING}" for n in nouns],
        "templates": list(words.TRAINING_TEMPLATES),
        "retain": [n for n in words.CLASSES if n not in nouns],
    }
    return recipes.demo_recipe(method, nouns, seed, out, settings, own)


def prompt_sets(nouns: list[str]) -> dict[str, list]:
    others = {p.text: p for n in nouns for p in prompts.other_prompts(n) if p.nouns[0] not in nouns}
    return {
        "erased": [p for n in nouns for p in prompts.class_prompts(n)],
        "words": [p for n in nouns for p in prompts.synonym_prompts(n)],
        "others": list(others.values()),
    }


# The judge was taught to be undecided, 0.1 for each class, on pictures that show none: its highest score says nothing then.
PROTOCOL = measure.Protocol("cifar10", NAMES, prompt_sets, config_for, cfg=5.0, least=0.5)


class Cifar10:
    """All jobs of a run on the CIFAR-10 base, each a file and the work that makes it."""

    def __init__(self, folder: Path):
        self.folder = folder
        # The first trial of each method: the other base's tuning is not this one's.
        self.settings = {name: trials[0] for name, trials in TRIALS.items()}

    def tools(self):
        from benchmarks.cifar10.base import load
        from host.backbone import Backbone
        from host.load import ready

        return ready(Backbone(*load(BASE))), load_judge(JUDGE)

    def jobs(self):
        return [self.job(name, nouns) for name in METHODS for nouns in (*([n] for n in SINGLE), list(words.CLASSES))]

    def job(self, name: str, nouns: list[str]):
        path = cell_path(self.folder, name, nouns, 0, self.settings[name], SCALE)
        work = partial(cell, name=name, nouns=nouns, seed=0, settings=self.settings, scale=SCALE, folder=self.folder)
        return path, lambda tools: work(*tools, progress=lambda *_: None, protocol=PROTOCOL)

    def write(self) -> None:
        """cifar10.json and cifar10.md from the parts that are there."""
        jobs = self.jobs()
        rows = [read(path) for path, _ in jobs if path.exists()]
        with safe_open(JUDGE, framework="pt") as file:
            judge = {k: float(v) for k, v in file.metadata().items()}
        report = {"rows": rows, "judge": judge, "missing_parts": len(jobs) - len(rows), "command": "python dev.py bench --cifar10"}
        (self.folder / "cifar10.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        (self.folder / "cifar10.md").write_text(page(report), encoding="utf-8")
        print(f"{self.folder / 'cifar10.md'}: {len(rows)} of {len(jobs)} rows")


def page(report: dict) -> str:
    """cifar10.md."""
    text = [
        f"# CIFAR-10's classes, erased\n\nMade by `{report['command']}`. "
        "Figures in percent; accuracies are top-1, in brackets the base's own.\n",
        "The base is small and was trained on a CPU, from the demo base on, on 400 typical pictures of each class "
        "(benchmarks/cifar10/make_base.py). The judge was trained on the real training pictures and names "
        f"{percent(report['judge']['test_accuracy'])} % of the {report['judge']['test_n']:.0f} test pictures rightly. "
        f"It counts as naming a class at {PROTOCOL.least} or more: it was taught to be undecided where none is shown, and by its "
        "bare first place (about 0.12) even the base's own foliage would be a ship.\n",
    ]
    if report["missing_parts"]:
        text.append(f"**Not finished: {report['missing_parts']} rows are missing.** The same command goes on.\n")
    return "\n".join([*text, rows_table(report["rows"])])


def rows_table(rows: list[dict]) -> str:
    """A line for each method and set of erased classes."""
    beside = lambda r, key: "-" if r[key] is None else f"{percent(r[key])} ({percent(r[f'{key}_base'])})"
    lines = [
        [
            ", ".join(r["nouns"]) if len(r["nouns"]) < 4 else f"all {len(r['nouns'])}",
            r["method"],
            *(beside(r, key) for key in ("acc_e", "acc_g", "acc_s")),
            percent(r["h_o"]),
            percent(r["h_o_share"]),
            f"{r['train_seconds']:.0f} s",
        ]
        for r in sorted(rows, key=lambda r: (len(r["nouns"]), r["nouns"]))
    ]
    header = ["erased", "method", "Acc_e", "Acc_g", "Acc_s", "H_o", "share of a perfect eraser's", "training"]
    return table(header, lines)
