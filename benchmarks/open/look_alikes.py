"""The nouns that are nearest to each: what an eraser damages first."""

from pathlib import Path

import torch

from benchmarks.comparison.cells import base_drawn
from demo.prompts import Judged
from trainer.prompts.templates import fill

from .prompts import kept
from .words import Base

NEAREST = 5


def nearest(base: Base, backbone, judge, folder: Path, each: int) -> dict[str, list[str]]:
    """Of every noun the five nearest, nearest first: in turn by the text encoder and by what the judge takes `each` pictures of it for."""
    names = list(base.wording.nouns)
    return by_both(names, by_encoder(backbone, names), by_judge(base, backbone, judge, folder, each))


def by_encoder(backbone, names: list[str]) -> torch.Tensor:
    """Cosines of the pooled embeddings of "a cat", their mean taken off: (nouns, nouns)."""
    pooled = backbone.encode([fill("a {}", n) for n in names]).pooled
    unit = torch.nn.functional.normalize(pooled - pooled.mean(0), dim=1)
    return unit @ unit.T


def by_judge(base: Base, backbone, judge, folder: Path, each: int) -> torch.Tensor:
    """The judge's mean score of every noun on `each` pictures that the base draws of every noun: (nouns, nouns)."""
    names = list(base.wording.nouns)
    judged: list[Judged] = kept(base, names, each * len(names))  # the nouns in turn
    scores = base_drawn(backbone, judge, judged, 1, folder, base.cfg).scores[:, 0]
    order = [judge.names.index(n) for n in names]
    return scores.view(each, len(names), -1).mean(0)[:, order]


def by_both(names: list[str], *likeness: torch.Tensor) -> dict[str, list[str]]:
    found = {}
    for i, name in enumerate(names):
        ranked = [[names[j] for j in each[i].argsort(descending=True).tolist() if j != i] for each in likeness]
        found[name] = list(dict.fromkeys(n for turn in zip(*ranked) for n in turn))[:NEAREST]
    return found


def of_erased(base: Base, near: dict[str, list[str]], erased: list[str]) -> list[str]:
    """The nouns that stay among the nearest of what is erased."""
    stays = base.others(erased)
    return [n for n in dict.fromkeys(n for e in erased for n in near[e]) if n in stays]
