"""Acc_e, Acc_g, Acc_s and H_o of a method on a small base, judged on held-out prompts (protocol: CIFAR-10's of the paper)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch

from host.backbone import Backbone

from .methods import Method

SIZE, STEPS, CFG, BATCH = (64, 64), 8, 3.0, 48
FIRST_SEED = 5000  # of the noise; training and tuning use others


@dataclass(frozen=True)
class Protocol:
    """A base model's own part of the comparison."""

    base: str
    names: list[str]  # what the judge tells apart, in its order
    prompt_sets: Callable  # nouns -> erased, words, others: lists of Judged
    configure: Callable  # (method, nouns, seed, out, settings) -> Config
    cfg: float = CFG
    least: float = 0.0  # score below which the judge names nothing


class Drawn(NamedTuple):
    """Pictures of prompts and what the judge says of them."""

    scores: torch.Tensor  # (prompts, seeds, nouns)
    pictures: torch.Tensor  # (prompts, seeds, H, W, 3) uint8


@torch.inference_mode()
def draw(backbone: Backbone, judge, model, judged: list, seeds: int, chosen: list[int] | None = None, cfg: float = CFG, size=SIZE) -> Drawn:
    """A MODEL's pictures of the chosen prompts (all).

    The noise depends on a prompt's number and the seed only, so that every method starts from the same.
    """
    chosen = list(range(len(judged))) if chosen is None else chosen
    every = [(i, s) for i in chosen for s in range(seeds)]
    text, empty = backbone.encode([p.text for p in judged]), backbone.encode([""])
    scores, pictures = [], []
    for start in range(0, len(every), BATCH):
        part = every[start : start + BATCH]
        noise = torch.stack([backbone.noise(size, FIRST_SEED + 1000 * s + i) for i, s in part])
        rows = text.rows([i for i, _ in part]).conditioning()
        latents = backbone.sample(rows, empty.repeated(len(part)).conditioning(), size, FIRST_SEED, STEPS, cfg, model, noise=noise)
        drawn = backbone.decode(latents)
        scores.append(judge.scores(drawn))
        pictures.append((drawn.clamp(0, 1) * 255).round().to(torch.uint8))
    return Drawn(*(torch.cat(parts).unflatten(0, (len(chosen), seeds)) for parts in (scores, pictures)))


def with_method(backbone, judge, method: Method, judged: list, seeds: int, base: Drawn, cfg: float = CFG, size=SIZE) -> Drawn:
    """Pictures with a method; where its switch is off they are the base's own, to the bit, and are not drawn again."""
    if method.network is None:
        return draw(backbone, judge, method.model, judged, seeds, cfg=cfg, size=size)
    fires = method.network.fires(backbone.encode([p.text for p in judged]).condition()).nonzero().flatten().tolist()
    found = Drawn(base.scores.clone(), base.pictures.clone())
    if fires:
        drawn = draw(backbone, judge, method.model, judged, seeds, fires, cfg, size)
        found.scores[fires], found.pictures[fires] = drawn.scores, drawn.pictures
    return found


def change(found: Drawn, base: Drawn) -> float:
    """How far the pictures are from the base's, root mean square over pixels, in 0..1."""
    return (found.pictures.float() - base.pictures.float()).div(255).square().mean().sqrt().item()


def probability(found: Drawn, judged: list, names: list[str]) -> float:
    """The judge's mean probability of each prompt's noun, its scores of all nouns (`names`) brought to a sum of 1."""
    scores = found.scores / found.scores.sum(-1, keepdim=True).clamp_min(1e-9)
    wanted = torch.tensor([names.index(p.nouns[0]) for p in judged])[:, None, None].expand(-1, scores.shape[1], 1)
    return scores.gather(2, wanted).mean().item()
