"""Settings that the trainer finds, beside the best of some that are given: the share of the wanted change that each reaches.

    python benchmarks/settings_found.py [--only emoji-sd ...] [--out out/settings]

Of every base one concept is trained with rates and steps that are given, and once with none. The share is the verdict's, on
prompts and noise that neither training nor its looks see; seconds are a processor's, of one thread, without what every
training has first (encoding, sampling, switch). What is measured stays in the folder and is not measured again.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch

from benchmarks import pages
from host.backbone import Backbone
from host.load import load_backbone, ready
from host.start import find_comfy, start_comfy
from trainer.config import Config, from_mapping, read_yaml
from trainer.data import Data
from trainer.found.finder import Finder
from trainer.optimizer import new_optimizer
from trainer.prompts.neighbours import resolve
from trainer.run.divergence import Diverged
from trainer.step import training_step
from trainer.train import fit_switch, new_network
from trainer.verdict import HeldOut, measure

REPORT = ROOT / "benchmarks/results/settings.json"
COMMAND = "python benchmarks/settings_found.py"
RATES = (3e-3, 1e-2, 1e-3)  # each with the steps of the base's own config; the best of them with LONGER times as many
LONGER = 2
TIMES = 2  # a base's keys and values, its queries and outputs by as much less: it draws what it drew
WIDER = {"hidden": 256, "rank": 16}


def demo(name: str, changes: dict | None = None) -> tuple[Config, Backbone]:
    values = read_yaml(ROOT / f"trainer/configs/{name}.yaml") | (changes or {})
    config = from_mapping(values, name)
    return config, load_backbone(config.base)


def scaled() -> tuple[Config, Backbone]:
    config, backbone = demo("demo_cat")
    with torch.no_grad():
        for name, p in backbone.diffusion_model.named_parameters():
            if "attn2.to_k" in name or "attn2.to_v" in name:
                p.mul_(TIMES)
            elif "attn2.to_q" in name or name.endswith("attn2.to_out.0.weight"):
                p.div_(TIMES)
    return config, backbone


def cifar10() -> tuple[Config, Backbone]:
    from benchmarks.cifar10 import base, table
    from benchmarks.comparison.settings import TRIALS

    config = table.config_for("unhype", [table.SINGLE[0]], 0, Path("x.safetensors"), TRIALS["unhype"][0])
    return config, ready(Backbone(*base.load(table.BASE)))


def emoji_open() -> tuple[Config, Backbone]:
    from benchmarks.comparison.settings import TRIALS
    from benchmarks.open import words

    base = words.emoji_open()
    return base.config("unhype", [base.order[0]], 0, Path("x.safetensors"), TRIALS["unhype"][0]), load_backbone(base.name)


BASES: dict[str, Callable[[], tuple[Config, Backbone]]] = {
    "emoji-sd": partial(demo, "demo_cat"),
    "emoji-flux": partial(demo, "demo_flux_cat"),
    "cifar10": cifar10,
    "emoji-open": emoji_open,
    f"emoji-sd, keys and values times {TIMES}": scaled,
    f"emoji-sd, hidden {WIDER['hidden']} and rank {WIDER['rank']}": partial(demo, "demo_cat", WIDER),
}


class Bench:
    """One base: what every training of it has first, and the trainings."""

    def __init__(self, config: Config, backbone: Backbone, out: Path):
        config = resolve(replace(config, out=str(out), preview_every=0).for_family(backbone.family), backbone, print)
        self.config, self.backbone = config, backbone
        self.data = Data(config, backbone, print)
        self.held = HeldOut(config, backbone, self.data, print)
        self.network, _ = new_network(config, backbone, self.data)
        fit_switch(config, self.network, self.data)
        self.start = copy.deepcopy(self.network.state_dict())

    def steps(self, config: Config, finder: Finder | None = None) -> int:
        """The training's steps, as train.py makes them; returns how many."""
        optimizer, rng, done = new_optimizer(self.network, config), torch.Generator().manual_seed(config.seed), 0
        while done < config.iterations:
            training_step(self.network, self.backbone, config, self.data, optimizer, rng, done)
            done += 1
            if finder:
                finder.passed(done, self.network)
                config = finder.config()
        return done

    def judged(self) -> dict:
        concepts, kept = measure(self.config, self.backbone, self.network, self.held, print)
        return {"share": round(sum(c.erased for c in concepts) / len(concepts), 4), "moved_if_forced": round(kept["moved_if_forced"], 4)}

    def given(self, rate: float, steps: int) -> dict:
        self.network.load_state_dict(self.start)
        started = time.process_time()
        try:
            self.steps(replace(self.config, learning_rate=rate, iterations=steps))
        except Diverged:
            return {"rate": rate, "steps": steps, "share": None}
        seconds = round(time.process_time() - started, 1)
        return {"rate": rate, "steps": steps, "seconds": seconds, **self.judged()}

    def found(self) -> dict:
        self.network.load_state_dict(self.start)
        seconds = {}
        with timed(seconds, "looks_drawn"):
            finder = Finder(replace(self.config, learning_rate=0.0, iterations=0), self.backbone, self.data.seen(), print)
        at, shares, test = finder.look.at, [], []

        def look(network):
            with timed(seconds, "looks"):
                seen = at(network)
            shares.append([round(seen.share, 4), round(seen.leaked, 4)])
            return seen

        finder.look.at = look
        with timed(seconds, "range_test"):
            config = finder.begin(self.network, partial(training_step, self.network, self.backbone, data=self.data))
        test[:], shares[:], seconds["looks"] = shares, [], 0.0
        with timed(seconds, "steps_and_looks"):
            steps = self.steps(config, finder)
        seconds = {name: round(value, 2) for name, value in seconds.items()}
        return {
            "rate": finder.course.rate,
            "steps": steps,
            "every": finder.every,
            "seconds": seconds,
            "test": test,
            "looks": shares,
            **self.judged(),
        }


class timed:
    """Adds the processor's seconds inside to a dict."""

    def __init__(self, seconds: dict[str, float], name: str):
        self.seconds, self.name = seconds, name

    def __enter__(self):
        self.started = time.process_time()

    def __exit__(self, *_):
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + time.process_time() - self.started


def run(name: str, folder: Path, again: bool) -> None:
    """Measure what is missing of a base, each figure written as it comes."""
    slug = "".join(c if c.isalnum() else "-" for c in name)
    part = folder / f"{slug}.json"
    row = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {"base": name, "given": [], "found": None}
    if again:
        row["found"] = None
    if row["found"] and len(row["given"]) > len(RATES):
        return
    torch.set_num_threads(1)
    config, backbone = BASES[name]()
    bench = Bench(config, backbone, folder / f"{slug}.safetensors")
    row |= {"own": {"rate": config.learning_rate, "steps": config.iterations}}

    def write() -> None:
        part.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")

    if not row["found"]:
        row["found"] = bench.found()
        write()
    tried = {(g["rate"], g["steps"]) for g in row["given"]}
    for rate in RATES:
        if (rate, config.iterations) not in tried:
            row["given"].append(bench.given(rate, config.iterations))
            write()
    if len(row["given"]) == len(RATES):
        best = max(row["given"], key=lambda g: -1e9 if g["share"] is None else g["share"])
        row["given"].append(bench.given(best["rate"], LONGER * config.iterations))
        write()


def report(folder: Path) -> None:
    """settings.json from the bases measured so far, and the pages that show it."""
    rows = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    rows = [row for name in BASES for row in rows if row["base"] == name]
    REPORT.write_text(json.dumps({"rows": rows, "command": COMMAND}, indent=1) + "\n", encoding="utf-8")
    pages.wrote(REPORT)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(BASES), metavar="BASE", default=list(BASES))
    parser.add_argument("--out", type=Path, default=ROOT / "out/settings")
    parser.add_argument("--again", action="store_true", help="find settings anew where they were found before")
    arguments = parser.parse_args()
    start_comfy(find_comfy(None))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.only:
        run(name, arguments.out, arguments.again)
    report(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
