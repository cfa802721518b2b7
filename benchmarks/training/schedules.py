"""What it takes until a training erases: rows that the denoiser is asked for, and seconds, to a held-out H_o of 95.

`ours` is the trainer's way: pictures drawn once serve all steps; how late strengths begin and the verdict are counted too. `authors` is
the paper's: for every step a rollout of its own (rollouts.py) and three passes, a prompt at a time, by the objective of the authors'
code, at our learning rate, which is higher than theirs; it has no switch, and its adapters are on for every prompt. `behind` is the same
with our switch in front of it. `lora` is an ordinary LoRA trained with ESD's loss on pictures drawn once. Seconds are those of one
processor core, without imports; what has no switch reads no text, and what it reads here is not counted. Looks at H_o are not counted,
neither in rows nor in seconds; they come after every quarter more steps, FIRST at the least.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.comparison import recipes
from benchmarks.comparison.cells import base_drawn, cached
from benchmarks.comparison.meter import Meter
from benchmarks.comparison.settings import EDIT, HYPERNETWORK
from benchmarks.training.rollouts import STEPS, Rollouts
from demo.judge import load_judge
from evaluation import baselines, controls, measure
from evaluation.methods import Method, edited, switched
from evaluation.metrics import harmonic, top1
from host.load import load_backbone
from trainer.data import Data
from trainer.optimizer import new_optimizer
from trainer.slider import measured_onset
from trainer.step import training_step
from trainer.train import fit_switch, new_network
from trainer.verdict import HeldOut, judge
from unhype.checkpoint import Concept, Eraser

NOUN, BAR = "cat", 0.95
NAMES = ("ours", "lora", "behind", "authors")
CAP = 12  # times the rows of ours, where the others are stopped
EVALUATIONS, SECONDS = 1 / 10, 1 / 5  # of the authors', that ours may take at the most
FIRST, GROWTH = 5, 1.25  # steps between two looks at the least, and of one to those of the one before
SEEDS, OTHER_SEEDS = 4, 1  # of the noise, of a prompt that is looked at: 32 pictures of the noun, as many of its other words, 48 of others
SETTINGS = {
    "ours": HYPERNETWORK | {"learning_rate": 3e-3, "guidance": 0.5},
    # What keeps safe prompts would only shrink an adapter that ignores the prompt.
    "lora": EDIT | {"learning_rate": 3e-3, "retain_weight": 0.0},
    "authors": HYPERNETWORK | {"learning_rate": 3e-3, "batch": 1},
}
SETTINGS["behind"] = SETTINGS["authors"]
METHOD = {"ours": "unhype", "lora": "lora-esd", "behind": "unhype-authors", "authors": "unhype-authors"}
silent = lambda *_: None


class Looker:
    """Judges pictures of a method on prompts that no training sees."""

    def __init__(self, backbone, folder: Path):
        self.backbone, self.judge = backbone, load_judge()
        self.sets = recipes.EMOJI.prompt_sets([NOUN])
        self.seeds = {"erased": SEEDS, "words": SEEDS, "others": OTHER_SEEDS}
        self.base = {k: base_drawn(backbone, self.judge, p, self.seeds[k], folder, measure.CFG) for k, p in self.sets.items()}

    def h_o(self, method) -> float:
        """H_o; where the noun itself is drawn too often for BAR, the most that it can be."""
        found = {"words": 0.0, "others": 1.0}
        for name in ("erased", "words", "others"):
            drawn = measure.with_method(self.backbone, self.judge, method, self.sets[name], self.seeds[name], self.base[name])
            found[name] = top1(drawn, self.sets[name], recipes.EMOJI.names)
            if harmonic(found["erased"], found["words"], found["others"]) < BAR:
                break
        return harmonic(found["erased"], found["words"], found["others"])


def trained(backbone, looker: Looker, name: str, seed: int, settings: dict, cap: int, folder: Path, most: int = 0) -> dict:
    """A row: how many rows and seconds until a look finds BAR; at `cap` rows (0: none) or after all steps h_o says how far it is.

    most: steps of the training; 0: the settings' own.
    """
    config = recipes.config_for(METHOD[name], [NOUN], seed, folder / f"{name}-{seed}.safetensors", settings)
    config = replace(config, iterations=most) if most else config
    meter = Meter(backbone.diffusion_model)
    try:
        for left in folder.glob("*.cache"):
            left.unlink()
        data, network, method, after = PREPARED[name](config, backbone, meter)
        optimizer, rng = new_optimizer(network, config), torch.Generator().manual_seed(seed)
        course, reached, iteration, due = [], 0.0, 0, FIRST
        while iteration < config.iterations and not (cap and meter.rows >= cap):
            training_step(network, backbone, config, data, optimizer, rng, iteration)
            iteration += 1
            if iteration == due or iteration == config.iterations or cap and meter.rows >= cap:
                due = max(iteration + FIRST, round(iteration * GROWTH))
                with meter.paused():
                    reached = looker.h_o(method())
                    backbone.load()
                course.append([iteration, meter.rows, round(meter.seconds, 1), round(reached, 4)])
                if reached >= BAR:
                    break
        after()
        own = {"name": name, "seed": seed, "denoiser_evaluations": meter.rows, "seconds": round(meter.seconds, 1)}
        return own | {"h_o": round(reached, 4), "reached": reached >= BAR, "steps": iteration, "course": course}
    finally:
        meter.handle.remove()


def behind_switch(config, backbone, data):
    """A new network with its switch fitted, and a function that makes the method of it."""
    network, family = new_network(config, backbone, data)
    concepts = [Concept(e.name, e.mapping) for e in config.erased()]
    for concept, calibration in zip(concepts, fit_switch(config, network, data)):
        concept.calibration = calibration
    return network, lambda: switched(config.objective, backbone, Eraser(network, family, concepts))


def ours(config, backbone, meter):
    data = Data(config, backbone, silent)
    held_out = HeldOut(config, backbone, data, silent)
    network, method = behind_switch(config, backbone, data)

    def after():
        measured_onset(backbone, network, config, data.asked, silent)
        judge(config, backbone, network, held_out, silent)

    return data, network, method, after


def behind(config, backbone, meter):
    data = Rollouts(config, backbone, silent)
    return data, *behind_switch(config, backbone, data), silent


def authors(config, backbone, meter):
    data, network, method, after = behind(config, backbone, meter)
    meter.anew()
    return data, network, lambda: Method("authors", method().forced), after


def lora(config, backbone, meter):
    data = Data(config, backbone, silent, unconditional=True, phase=lambda name: meter.anew())
    torch.manual_seed(config.seed)
    network = controls.Lora(recipes.shape_of(backbone, config))
    return data, network, lambda: edited("lora", backbone, baselines.lora_weights(network)), silent


PREPARED = {"ours": ours, "lora": lora, "behind": behind, "authors": authors}


def schedules(folder: Path, count: int, keep: Callable[[dict], None], known: dict) -> dict:
    """The rows of `count` seeds of each, seed by seed: ours first, by whose rows the others are stopped."""
    torch.set_num_threads(1)
    backbone = load_backbone("demo")
    looker, rows = Looker(backbone, folder), []
    for seed in range(count):
        cap = 0
        for name in NAMES:
            # A rollout goes half of its steps in the mean, with two rows each.
            steps = -(-cap // (STEPS + 2)) if name in ("behind", "authors") else 0
            path = folder / f"{name}-{seed}.json"
            rows.append(cached(path, partial(trained, backbone, looker, name, seed, SETTINGS[name], cap, folder, steps)))
            print(json.dumps({key: value for key, value in rows[-1].items() if key != "course"}), flush=True)
            keep(found := {"rows": rows, "cap": CAP, "bar": BAR})
            cap = cap or CAP * rows[-1]["denoiser_evaluations"]
    return found


def of(found: dict, name: str) -> list[dict]:
    return [row for row in found["rows"] if row["name"] == name]


def missed(found: dict) -> list[str]:
    own, theirs = of(found, "ours"), {row["seed"]: row for row in of(found, "authors")}
    lines = [f"ours reached {row['h_o']:.3f} with seed {row['seed']}" for row in own if not row["reached"]]
    lines += [f"the authors' schedule was not measured with seed {row['seed']}" for row in own if row["seed"] not in theirs]
    for key, share in (("denoiser_evaluations", EVALUATIONS), ("seconds", SECONDS)):
        for row in own:
            other = theirs.get(row["seed"])
            if other and row[key] > share * other[key]:
                lines.append(f"seed {row['seed']}: {row[key]} {key}, at most {share:.0%} of {other[key]} are expected")
    return lines
