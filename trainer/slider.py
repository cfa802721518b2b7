"""How late the adapter begins at a strength below 1: measured where an eraser was trained, so that the strength is a slider."""

import torch

from host.backbone import Backbone
from unhype.adapter import Term, adapter
from unhype.hypernetwork import Hypernetwork, at_strength
from unhype.onset import even, level

from .config import Config

PICTURES, BEGINNINGS = 12, 6


@torch.no_grad()
def measured_onset(backbone: Backbone, network: Hypernetwork, config: Config, targets, progress) -> tuple[float, ...]:
    """The noise levels at which strengths begin (unhype/onset.py); none where the adapter changes nothing.

    The base draws a few target prompts; from steps on its way it is gone on with the adapter.
    """
    progress("measuring how late a strength below 1 begins")
    texts = [t.prompt.text for t in targets if not t.prompt.pair] or [t.prompt.text for t in targets]
    texts = [texts[i * len(texts) // PICTURES] for i in range(PICTURES)]
    parts = [(texts[i : i + config.batch], config.seed + i) for i in range(0, PICTURES, config.batch)]
    changes = torch.cat([changes_of(backbone, network, config, part, seed) for part, seed in parts])
    if not changes.isfinite().all():
        return ()
    levels = level(backbone.sigmas(config.sampling_steps)[beginnings(config)], backbone.flow)[1:].tolist()
    return even(levels[::-1], changes.mean(0).tolist()[::-1])


def beginnings(config: Config) -> list[int]:
    """The steps of a sampling at which the adapter is tried to begin, the first of them first."""
    return list(range(0, config.sampling_steps, max(1, config.sampling_steps // BEGINNINGS)))


def changes_of(backbone: Backbone, network: Hypernetwork, config: Config, texts: list[str], seed: int) -> torch.Tensor:
    """How far pictures of the texts move with an adapter that begins late, as shares of how far they move with one from the start:
    (N, beginnings but the first)."""
    text, empty = backbone.encode(texts), backbone.encode([""]).repeated(len(texts))
    steps = config.sampling_steps
    positive, negative = text.conditioning(), empty.conditioning()
    kept = backbone.sample(positive, negative, config.size_of(False), seed, steps, config.cfg, keep=list(range(steps)))
    factors = at_strength(network, text.condition().to(backbone.device), 1.0)
    term = Term(torch.arange(len(texts), device=backbone.device), network.shape.layers, factors)
    sigmas = backbone.sigmas(steps).to(backbone.device)

    def drawn(x: torch.Tensor, first: int, terms: list[Term]) -> torch.Tensor:
        """Latents x of the step `first` drawn to their end by Euler's method, with guidance as a sampler has it."""
        for i in range(first, steps):
            sigma = sigmas[i].expand(len(x))
            with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
                with adapter(backbone.diffusion_model, terms, len(x)):
                    noise = predict(backbone, x, sigma, text)
                if config.cfg != 1:
                    without = predict(backbone, x, sigma, empty)
                    noise = without + config.cfg * (noise - without)
            x = x + (sigmas[i + 1] - sigmas[i]) * noise
        return x

    starts = [x.to(backbone.device) for x, _ in kept]
    base = drawn(starts[-1], steps - 1, [])
    moved = [(drawn(starts[i], i, [term]) - base).square().flatten(1).mean(1).sqrt() for i in beginnings(config)]
    return torch.stack([m / moved[0] for m in moved[1:]], 1).cpu()


def predict(backbone: Backbone, x: torch.Tensor, sigma: torch.Tensor, text) -> torch.Tensor:
    tokens, pooled = text.tokens.to(x.device), text.pooled.to(x.device)
    return backbone.predict(x, sigma, tokens, pooled, None if text.mask is None else text.mask.to(x.device)).float()
