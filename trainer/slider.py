"""How late the adapter begins at a strength below 1: measured where an eraser was trained, so that the strength is a slider."""

import math
from dataclasses import replace

import torch

from host.backbone import Backbone
from host.encode import Text
from unhype.adapter import Term, adapter
from unhype.hypernetwork import Hypernetwork, at_strength
from unhype.onset import even, level, scaled

from .config import Config
from .samples import Asked

PICTURES, BEGINNINGS = 12, 6
FEWEST_STEPS = 8  # a sampling in half of the steps finds the same levels, for no picture is looked at; not in fewer than these
CLOSER, NEAREST = 4, 0.5  # more beginnings, each halfway between two where the picture changes most; steps that lie between two


@torch.no_grad()
def measured_onset(backbone: Backbone, network: Hypernetwork, config: Config, asked: Asked, progress) -> tuple[float, ...]:
    """The noise levels at which strengths begin (unhype/onset.py); none where the adapter changes nothing.

    The base draws a few target prompts; from steps on its way it is gone on with the adapter.
    """
    progress("measuring how late a strength below 1 begins")
    alone = [i for i, t in enumerate(asked.targets) if not t.prompt.pair] or list(range(len(asked.targets)))
    text = asked.text.rows([alone[i * len(alone) // PICTURES] for i in range(PICTURES)])
    steps = steps_of(config)
    config = replace(config, sampling_steps=steps)
    parts = range(0, PICTURES, config.batch)
    late = [Late(backbone, network, config, text.rows(slice(i, i + config.batch)), asked.nothing, config.seed + i) for i in parts]
    changes = {0: 1.0}
    for step in range(max(1, steps // BEGINNINGS), steps, max(1, steps // BEGINNINGS)):
        changes[step] = change_at(late, step)
    for _ in range(CLOSER):
        if (step := between(changes)) is not None:
            changes[step] = change_at(late, step)
    if not all(map(math.isfinite, changes.values())):
        return ()
    order = sorted(changes, reverse=True)[:-1]
    known = level(backbone.sigmas(steps), backbone.flow)
    levels = [torch.lerp(known[int(step)], known[int(step) + 1], step % 1).item() for step in order]
    return even(levels, [changes[step] for step in order])


def asked_for(config: Config) -> int:
    """How many rows the denoiser is asked for; the closer beginnings lie where the pictures decide, counted in the middle."""
    steps, sides = steps_of(config), 2 if config.cfg != 1 else 1
    every = max(1, steps // BEGINNINGS)
    gone_on = sum(steps - step for step in range(every, steps, every)) + CLOSER * steps // 2
    return PICTURES * sides * (steps + 1 + steps + gone_on)


def steps_of(config: Config) -> int:
    """Of the samplings that are measured on."""
    return min(config.sampling_steps, max(FEWEST_STEPS, -(-config.sampling_steps // 2)))


def between(changes: dict[float, float]) -> float | None:
    """The step halfway between the two neighbouring beginnings whose changes differ most, of those that are farther apart than NEAREST."""
    order = sorted(changes)
    apart = [(abs(changes[a] - changes[b]), a, b) for a, b in zip(order, order[1:]) if b - a > NEAREST]
    if not apart:
        return None
    _, a, b = max(apart)
    return (a + b) // 2 if b - a > 1 else (a + b) / 2


def change_at(late: list["Late"], step: float) -> float:
    """How far pictures move with an adapter that begins at a step, as a mean share of how far they move with one from the start."""
    return torch.cat([each.moved(step) / each.whole for each in late]).mean().item()


class Late:
    """Pictures of some prompts, drawn by the base, to be gone on with by the adapter from any step."""

    def __init__(self, backbone: Backbone, network: Hypernetwork, config: Config, text: Text, nothing: Text, seed: int):
        self.backbone, self.config, self.steps = backbone, config, config.sampling_steps
        self.sides = 2 if config.cfg != 1 else 1  # with guidance the empty prompt is asked for in the same batch, as a sampler does
        count, empty = len(text.tokens), nothing.repeated(len(text.tokens))
        self.shown = text.beside(empty) if self.sides > 1 else text
        positive, negative = text.conditioning(), empty.conditioning()
        size, every = config.size_of(False), list(range(self.steps))
        kept = backbone.sample(positive, negative, size, seed, self.steps, config.cfg, keep=every)
        self.starts = [x.to(backbone.device) for x, _ in kept]
        factors = at_strength(network, text.condition().to(backbone.device), 1.0)
        self.rows, self.layers, self.factors = torch.arange(count, device=backbone.device), network.shape.layers, factors
        self.sigmas = backbone.sigmas(self.steps).to(backbone.device)
        self.base = self.drawn(self.steps - 1, self.steps)
        self.whole = self.moved(0)

    def moved(self, begin: float) -> torch.Tensor:
        """How far each picture moves with the adapter from the step `begin` on, (N,)."""
        return (self.drawn(int(begin), begin) - self.base).square().flatten(1).mean(1).sqrt().cpu()

    def carried(self, share: float) -> list[Term]:
        """The adapter, by how much of a step it acts on."""
        if share <= 0:
            return []
        return [Term(self.rows, self.layers, self.factors if share >= 1 else scaled(self.factors, torch.full((len(self.rows),), share)))]

    def drawn(self, first: int, begin: float) -> torch.Tensor:
        """The base's latents of the step `first` drawn to their end by Euler's method, with guidance and with the adapter from the
        step `begin` on, as a sampler has them."""
        x, sigmas, backbone, config = self.starts[first], self.sigmas, self.backbone, self.config
        for i in range(first, self.steps):
            sigma = sigmas[i].expand(len(x))
            rows = len(x) * self.sides
            with (
                torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"),
                adapter(backbone.diffusion_model, self.carried(i + 1 - begin), rows),
            ):
                noise, *without = predict(backbone, x.repeat(self.sides, 1, 1, 1), sigma.repeat(self.sides), self.shown).split(len(x))
            if without:
                noise = without[0] + config.cfg * (noise - without[0])
            x = x + (sigmas[i + 1] - sigmas[i]) * noise
        return x


def predict(backbone: Backbone, x: torch.Tensor, sigma: torch.Tensor, text) -> torch.Tensor:
    tokens, pooled = text.tokens.to(x.device), text.pooled.to(x.device)
    return backbone.predict(x, sigma, tokens, pooled, None if text.mask is None else text.mask.to(x.device)).float()
