"""What an eraser sees in a conditioning: each concept's score and where it stands, and how strong the adapter would be."""

from typing import Any, NamedTuple

import torch

from ..unhype.checkpoint import Eraser
from ..unhype.hypernetwork import Factors, at_strength
from ..unhype.text import shown
from .patching import read_conditioning

NAME = 40  # letters of a name
WHERE = "the connected conditioning"


class Finding(NamedTuple):
    """One concept."""

    name: str
    score: float  # the highest of all prompts
    threshold: float
    prompts: int  # of these, on how many it fires
    row: int  # the prompt of the highest score
    tokens: list[int]  # where it stands in that prompt, the highest first: those above the threshold, else the nearest one

    @property
    def margin(self) -> float:
        return self.score - self.threshold


class Findings(NamedTuple):
    concepts: list[Finding]  # the surest first
    prompts: int
    states: list[torch.Tensor]  # each prompt's token states (T, D)
    strengths: list[tuple[str, float]]  # layer, size of its weight change for the prompt that fires most surely
    rewrites: bool  # whether what layers read of that prompt is rewritten


def look(erasers: tuple[Eraser, ...], conditioning: list[list[Any]]) -> Findings:
    """Read a conditioning as the eraser nodes do. Raises ValueError where it cannot be read."""
    concepts: list[Finding] = []
    strengths: dict[str, float] = {}
    rewrites = False
    for eraser in erasers:
        condition = read_conditioning(conditioning, WHERE, eraser)
        network = eraser.network
        scores, threshold = network.scores(condition), network.switch.threshold
        each = network.switch.per_token(network.standardise.states(condition.tokens)).masked_fill(~condition.mask[..., None], -torch.inf)
        for k, concept in enumerate(eraser.concepts):
            row = int(scores[:, k].argmax())
            order = each[row, :, k].argsort(descending=True)
            above = int((each[row, :, k] > threshold[k]).sum())
            tokens = order[: max(1, above)].tolist() if scores[row, k].isfinite() else []
            prompts = int((scores[:, k] > threshold[k]).sum())
            name = shown(concept.name, NAME)
            concepts.append(Finding(name, scores[row, k].item(), threshold[k].item(), prompts, row, tokens))
        surest = int((scores - threshold).amax(1).argmax())
        one = condition.rows([surest])
        fires = bool(network.fires(one)[0])
        rewrites |= fires and network.rewriting is not None
        factors = at_strength(network, one, 1.0) if fires else [None] * len(network.shape.layers)
        for layer, pair in zip(network.shape.layers, factors):
            strengths[layer.name] = (strengths.get(layer.name, 0.0) ** 2 + (size(pair) ** 2 if pair else 0.0)) ** 0.5
    states = [state for tokens, _ in conditioning for state in tokens]
    return Findings(sorted(concepts, key=lambda f: -f.margin), len(states), states, list(strengths.items()), rewrites)


def in_short(findings: Findings, adapter: str) -> str:
    """What is done to the picture, of which `adapter` tells the adapter's part."""
    if not any(strength for _, strength in findings.strengths):
        return "words are rewritten, without an adapter" if findings.rewrites else "no adapter: the picture stays as it was, to the bit"
    return f"{adapter}, words are rewritten too" if findings.rewrites else adapter


def size(factors: Factors) -> float:
    """|| up @ down || of one pair, without writing the matrix out."""
    up, down = factors.up[0], factors.down[0]
    return float(((up.T @ up) * (down @ down.T)).sum().clamp_min(0).sqrt())
