"""Sampling prompt sets with every method under test, on the same noise, and having the pictures judged."""

from dataclasses import dataclass

import torch

from host.sampling import adapted_sampling
from unhype.checkpoint import Eraser
from unhype.condition import stack_conditions
from unhype.hypernetwork import as_used, rows_of

from . import controls

FIRST_SEED = 1000
BATCH = 48


@dataclass
class Arm:
    """A method under test: an adapter per prompt, from the condition of the prompt itself or of another."""

    name: str
    network: object  # (condition, s) -> factors; None: no adapter
    shuffle: bool = False


@dataclass
class Drawn:
    """What was drawn for one prompt set: judge's scores per sample, in the order prompt by prompt, seed by seed."""

    scores: torch.Tensor  # (prompts, seeds, nouns)
    latents: torch.Tensor  # (prompts, seeds, C, h, w)


class Studio:
    """Samples prompt sets with an arm's adapters and has them judged, at so many seeds from the `first` on."""

    def __init__(self, backbone, eraser: Eraser, config, judge, sets: dict, seeds: int, first: int = 0):
        self.backbone, self.eraser, self.config, self.judge, self.sets = backbone, eraser, config, judge, sets
        self.seeds, self.first = seeds, first
        self.text = {name: backbone.encode([p.text for p in prompts]) for name, prompts in sets.items()}
        every = [(name, i) for name, prompts in sets.items() for i in range(len(prompts))]
        other = controls.shuffled([sets[name][i].nouns for name, i in every], FIRST_SEED)
        self.partner = {every[i]: every[j] for i, j in enumerate(other)}
        self.base: dict[str, Drawn] = {}

    def condition(self, name: str, shuffle: bool):
        own = self.text[name].condition()
        if not shuffle:
            return own
        partners = [self.partner[name, i] for i in range(len(own.pooled))]
        return stack_conditions([self.text[n].condition().rows([i]) for n, i in partners])

    @torch.inference_mode()
    def draw(self, name: str, arm: Arm, forced: bool, reuse: bool) -> Drawn:
        """Sample a prompt set. With `reuse`, prompts on which the switch is off are taken from the base's pictures."""
        prompts, text = self.sets[name], self.text[name]
        size = self.config.size_of(len(prompts[0].nouns) > 1)
        fires = torch.full((len(prompts),), arm.network is not None)
        if arm.network is not None and not forced:
            fires = self.eraser.network.fires(text.condition())
        chosen = fires.nonzero().flatten() if reuse else torch.arange(len(prompts))
        network = self.eraser.network
        factors = None
        if fires.any():
            condition = self.condition(name, arm.shuffle).rows(fires)
            factors = as_used(arm.network(condition, torch.full((int(fires.sum()),), float(network.shape.steps))))
        pair_of = torch.cumsum(fires, 0) - 1
        scores = self.base[name].scores.clone() if reuse else torch.zeros(len(prompts), self.seeds, len(self.judge.names))
        latents = self.base[name].latents.clone() if reuse else None
        empty = self.backbone.encode([""])
        for seed in range(self.seeds):
            for start in range(0, len(chosen), BATCH):
                rows = chosen[start : start + BATCH]
                acting = fires[rows].nonzero().flatten()
                picked = rows_of(factors, pair_of[rows[acting]]) if len(acting) else []
                model = adapted_sampling(self.backbone, network.shape.layers, acting, picked)
                noise = torch.stack([self.backbone.noise(size, FIRST_SEED + 1000 * (self.first + seed) + int(r)) for r in rows])
                drawn = self.backbone.sample(
                    text.rows(rows).conditioning(),
                    empty.repeated(len(rows)).conditioning(),
                    size,
                    FIRST_SEED + self.first + seed,
                    self.config.sampling_steps,
                    self.config.cfg,
                    model,
                    noise=noise,
                )
                if latents is None:
                    latents = torch.zeros(len(prompts), self.seeds, *drawn.shape[1:])
                latents[rows, seed] = drawn
                scores[rows, seed] = self.judge.scores(self.backbone.decode(drawn))
        return Drawn(scores, latents)
