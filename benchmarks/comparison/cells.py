"""One line of the comparison: a method, the nouns erased, a seed -> accuracies, H_o and cost.

Each is written to a file when it is done, so that a run goes on where the last one ended.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from demo.judge import Judge
from evaluation import measure
from evaluation.metrics import harmonic, top1
from unhype.checkpoint import write_atomically

from . import recipes
from .settings import key_of

ACCURACY = {"erased": "acc_e", "words": "acc_g", "others": "acc_s"}


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    erased: int = 256  # pictures of erased nouns, and of their held-out words, at least
    seeds: int = 8  # of the noise, of each of these prompts, at least
    other_seeds: int = 2
    # Of the bench's parts, by their names:
    hard: int = 200  # prompts a case
    attack: int = 16  # prompts an attack
    safe: int = 500  # prompts
    switch: int = 1500  # prompts

    def of_row(self) -> tuple[int, int, int]:
        """What a line of the comparison depends on."""
        return self.erased, self.seeds, self.other_seeds


def cached(path: Path, work) -> dict:
    """The JSON at `path`, made by `work` and written whole where it is not there."""
    if not path.exists():
        result = work()
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    return read(path)


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def base_drawn(backbone, judge: Judge, judged: list, seeds: int, folder: Path, cfg: float, size=measure.SIZE) -> measure.Drawn:
    """The base model's own pictures of prompts, kept in a file: every cell with the same prompts shares them."""
    wide = [] if size == measure.SIZE else [size]
    path = folder / "base" / f"{key_of([p.text for p in judged], seeds, *wide)}.safetensors"
    if not path.exists():
        write_atomically(measure.draw(backbone, judge, backbone.model, judged, seeds, cfg=cfg, size=size)._asdict(), path, {})
    return measure.Drawn(**load_file(path))


def cell_path(folder: Path, name: str, nouns: list[str], seed: int, settings: dict, scale: Scale) -> Path:
    key = key_of(name, nouns, seed, sorted(settings.items()), scale.of_row())
    return folder / "cells" / f"{name}-{len(nouns)}-{nouns[0]}-{seed}-{key}.json"


@torch.no_grad()
def norms(network, condition) -> list[float]:
    """The adapter's size on each prompt, || theta_S - theta_0 ||."""
    return network.squared_change(condition, torch.full((len(condition.pooled),), float(network.shape.steps))).sqrt().tolist()


def cell(
    backbone,
    judge: Judge,
    name: str,
    nouns: list[str],
    seed: int,
    settings: dict,
    scale: Scale,
    folder: Path,
    progress,
    protocol: measure.Protocol = recipes.EMOJI,
    make=recipes.make,
) -> dict:
    """Train the method (or read it) and measure it; a row of the report. Where nothing is left to keep, acc_s and H_o are None."""
    method, cost = make(backbone, name, nouns, seed, settings, folder / "models", progress, protocol.configure)
    row = {"base": protocol.base, "method": name, "erased": len(nouns), "nouns": nouns, "seed": seed, "n": {}}
    for key, judged in protocol.prompt_sets(nouns).items():
        short = ACCURACY[key]
        if not judged:
            row |= {short: None, f"{short}_base": None, f"{short}_probability": None}
            continue
        seeds = scale.other_seeds if key == "others" else max(scale.seeds, -(-scale.erased // len(judged)))
        base = base_drawn(backbone, judge, judged, seeds, folder, protocol.cfg)
        found = measure.with_method(backbone, judge, method, judged, seeds, base, protocol.cfg)
        row |= {
            short: top1(found, judged, protocol.names, least=protocol.least),
            f"{short}_base": top1(base, judged, protocol.names, least=protocol.least),
            f"{short}_probability": measure.probability(found, judged, protocol.names),
        }
        row["n"][short] = found.scores[..., 0].numel()
        if hasattr(method.network, "squared_change"):
            size = norms(method.network, backbone.encode([p.text for p in judged]).condition())
            row[f"norm_{key}"] = sum(size) / len(size)
        if key == "others":
            row["others_change"] = measure.change(found, base)
            if method.forced is not None and len(nouns) > 1:
                forced = measure.draw(backbone, judge, method.forced, judged, seeds, cfg=protocol.cfg)
                row |= {
                    "acc_s_forced": top1(forced, judged, protocol.names, least=protocol.least),
                    "others_change_forced": measure.change(forced, base),
                }
    every = row["acc_s"] is not None
    row["h_o"] = harmonic(row["acc_e"], row["acc_g"], row["acc_s"]) if every else None
    row["h_c"] = harmonic(row["acc_e"], None, row["acc_s"]) if every else None
    row["h_o_probability"] = harmonic(row["acc_e_probability"], row["acc_g_probability"], row["acc_s_probability"]) if every else None
    row["h_o_share"] = row["h_o"] / harmonic(0.0, 0.0, row["acc_s_base"]) if every else None
    return row | vars(cost)
