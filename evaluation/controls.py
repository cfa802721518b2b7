"""What the eraser is compared with: an ordinary LoRA, its own static mean, and itself with shuffled conditions.

Each has the call of a hypernetwork, (condition, s, off) -> factors, so that all are trained and sampled by the same code.
"""

import dataclasses
import random

import torch
from torch import nn

from trainer.config import Config
from unhype.bake import baked
from unhype.condition import Condition
from unhype.hypernetwork import Factors, Hypernetwork, Shape, as_used, rows_of
from unhype.sketch import in_full


class Lora(nn.Module):
    """An ordinary LoRA of the same rank and layers: one adapter whatever the prompt, scaled by s / S."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.down = nn.ParameterList(torch.randn(shape.rank, n.inputs) / n.inputs**0.5 for n in shape.layers)
        self.up = nn.ParameterList(torch.zeros(n.outputs, shape.rank) for n in shape.layers)

    def forward(self, condition: Condition, s: torch.Tensor, off=None) -> list[Factors]:
        n, strength = len(s), (s / self.shape.steps).view(-1, 1, 1)
        return [Factors(d.expand(n, -1, -1), strength * u.expand(n, -1, -1)) for d, u in zip(self.down, self.up)]


class InWeights(nn.Module):
    """An eraser's adapter and what it rewrites in each prompt's own weights, as a weight patch has them."""

    def __init__(self, network: Hypernetwork, backbone):
        super().__init__()
        self.network, self.shape, self.weight_of = network, network.shape, lambda name: in_full(*backbone.stored_weight(name))

    def forward(self, condition: Condition, s: torch.Tensor, off=None) -> list[Factors]:
        factors, each = as_used(self.network(condition, s, off)), []
        for row in torch.arange(len(s)).split(1):
            each.append(baked(self.shape.layers, rows_of(factors, row), condition.rows(row), self.weight_of))
        return [Factors(torch.cat([f.down for f in layer]), torch.cat([f.up for f in layer])) for layer in zip(*each)]


class Fixed(nn.Module):
    """The same factors for every prompt."""

    def __init__(self, factors: list[Factors]):
        super().__init__()
        self.factors = factors

    def forward(self, condition: Condition, s: torch.Tensor, off=None) -> list[Factors]:
        return [Factors(f.down.expand(len(s), -1, -1), f.up.expand(len(s), -1, -1)) for f in self.factors]


def static_mean(network: Hypernetwork, conditions: Condition) -> Fixed:
    """The hypernetwork's mean adapter over the training target prompts, at s = S."""
    with torch.no_grad():
        factors = network(conditions, torch.full((len(conditions.pooled),), float(network.shape.steps)))
    return Fixed([Factors(f.down.mean(0, keepdim=True), f.up.mean(0, keepdim=True)) for f in factors])


def train_lora(config: Config, backbone, data, shape: Shape) -> Lora:
    """An ordinary LoRA trained as the eraser is: same samples and anchors, task loss, optimizer and steps; no retention loss,
    which for an adapter that ignores the prompt would only shrink it."""
    from trainer.optimizer import new_optimizer
    from trainer.step import training_step

    plain = dataclasses.replace(config, retain_weight=0.0, objective="direct")
    torch.manual_seed(config.seed)
    lora = Lora(shape)
    optimizer = new_optimizer(lora, plain)
    rng = torch.Generator().manual_seed(config.seed)
    for iteration in range(config.iterations):
        training_step(lora, backbone, plain, data, optimizer, rng, iteration)
    return lora.requires_grad_(False)


def shuffled(nouns: list[tuple[str, ...]], seed: int) -> list[int]:
    """For every prompt the index of another one that names none of its nouns, drawn by the seed."""
    rng = random.Random(seed)
    return [rng.choice([j for j in range(len(nouns)) if not set(nouns[i]) & set(nouns[j])]) for i in range(len(nouns))]
