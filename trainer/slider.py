"""How late the adapter begins at a strength below 1: measured where an eraser was trained, so that the strength is a slider."""

import math

import torch

from host.backbone import Backbone
from unhype.adapter import Term, adapter
from unhype.hypernetwork import Hypernetwork, at_strength
from unhype.onset import even, level

from .config import Config

PICTURES, BEGINNINGS = 12, 6
CLOSER = 2  # more beginnings, each halfway between two where the picture changes most


@torch.no_grad()
def measured_onset(backbone: Backbone, network: Hypernetwork, config: Config, targets, progress) -> tuple[float, ...]:
    """The noise levels at which strengths begin (unhype/onset.py); none where the adapter changes nothing.

    The base draws a few target prompts; from steps on its way it is gone on with the adapter.
    """
    progress("measuring how late a strength below 1 begins")
    texts = [t.prompt.text for t in targets if not t.prompt.pair] or [t.prompt.text for t in targets]
    texts = [texts[i * len(texts) // PICTURES] for i in range(PICTURES)]
    late = [Late(backbone, network, config, texts[i : i + config.batch], config.seed + i) for i in range(0, PICTURES, config.batch)]
    changes, steps = {0: 1.0}, config.sampling_steps
    for step in range(max(1, steps // BEGINNINGS), steps, max(1, steps // BEGINNINGS)):
        changes[step] = change_at(late, step)
    for _ in range(CLOSER):
        if (step := between(changes)) is not None:
            changes[step] = change_at(late, step)
    if not all(map(math.isfinite, changes.values())):
        return ()
    order = sorted(changes, reverse=True)[:-1]
    levels = level(backbone.sigmas(steps)[order], backbone.flow).tolist()
    return even(levels, [changes[step] for step in order])


def between(changes: dict[int, float]) -> int | None:
    """The step halfway between the two neighbouring beginnings whose changes differ most, of those that have one between them."""
    order = sorted(changes)
    apart = [(abs(changes[a] - changes[b]), (a + b) // 2) for a, b in zip(order, order[1:]) if b - a > 1]
    return max(apart)[1] if apart else None


def change_at(late: list["Late"], step: int) -> float:
    """How far pictures move with an adapter that begins at a step, as a mean share of how far they move with one from the start."""
    return torch.cat([each.moved(step) / each.whole for each in late]).mean().item()


class Late:
    """Pictures of some texts, drawn by the base, to be gone on with by the adapter from any step."""

    def __init__(self, backbone: Backbone, network: Hypernetwork, config: Config, texts: list[str], seed: int):
        self.backbone, self.config, self.steps = backbone, config, config.sampling_steps
        self.text, self.empty = backbone.encode(texts), backbone.encode([""]).repeated(len(texts))
        positive, negative = self.text.conditioning(), self.empty.conditioning()
        size, every = config.size_of(False), list(range(self.steps))
        kept = backbone.sample(positive, negative, size, seed, self.steps, config.cfg, keep=every)
        self.starts = [x.to(backbone.device) for x, _ in kept]
        factors = at_strength(network, self.text.condition().to(backbone.device), 1.0)
        self.term = Term(torch.arange(len(texts), device=backbone.device), network.shape.layers, factors)
        self.sigmas = backbone.sigmas(self.steps).to(backbone.device)
        self.base = self.drawn(self.steps - 1, [])
        self.whole = self.moved(0)

    def moved(self, first: int) -> torch.Tensor:
        """How far each picture moves with the adapter from the step `first` on, (N,)."""
        return (self.drawn(first, [self.term]) - self.base).square().flatten(1).mean(1).sqrt().cpu()

    def drawn(self, first: int, terms: list[Term]) -> torch.Tensor:
        """The base's latents of the step `first` drawn to their end by Euler's method, with guidance as a sampler has it."""
        x, sigmas, backbone, config = self.starts[first], self.sigmas, self.backbone, self.config
        for i in range(first, self.steps):
            sigma = sigmas[i].expand(len(x))
            with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
                with adapter(backbone.diffusion_model, terms, len(x)):
                    noise = predict(backbone, x, sigma, self.text)
                if config.cfg != 1:
                    without = predict(backbone, x, sigma, self.empty)
                    noise = without + config.cfg * (noise - without)
            x = x + (sigmas[i + 1] - sigmas[i]) * noise
        return x


def predict(backbone: Backbone, x: torch.Tensor, sigma: torch.Tensor, text) -> torch.Tensor:
    tokens, pooled = text.tokens.to(x.device), text.pooled.to(x.device)
    return backbone.predict(x, sigma, tokens, pooled, None if text.mask is None else text.mask.to(x.device)).float()
