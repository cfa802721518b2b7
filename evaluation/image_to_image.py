"""Image to image: what is left of a noun when a picture of it is drawn over with it in the prompt.

An eraser guards prompts. At a low denoise most of the picture is the one that was given, whatever the prompt says; and
latents inverted from a picture of a concept bring it back without any text (TINA's attack on prompt guards). Both are
limits of every method that acts on what the prompt asks for: the base's figure stands beside each for that reason.
"""

import torch

from host.backbone import Backbone
from host.sampling import redrawn

from .measure import BATCH, CFG, FIRST_SEED, SIZE, STEPS

GIVEN = 200_000  # seeds of the given pictures' noise, away from all others


@torch.inference_mode()
def given(backbone: Backbone, judged: list, cfg: float = CFG) -> torch.Tensor:
    """The base's own latents of every prompt, (prompts, C, h, w): the pictures that are drawn over."""
    text, empty = backbone.encode([p.text for p in judged]), backbone.encode([""])
    noise, latents = torch.stack([backbone.noise(SIZE, GIVEN + i) for i in range(len(judged))]), []
    for rows in torch.arange(len(judged)).split(BATCH):
        positive, negative = text.rows(rows).conditioning(), empty.repeated(len(rows)).conditioning()
        latents.append(backbone.sample(positive, negative, SIZE, GIVEN, STEPS, cfg, noise=noise[rows]))
    return torch.cat(latents)


@torch.inference_mode()
def drawn_over(backbone: Backbone, judge, model, judged: list, latents: torch.Tensor, denoise: float, cfg: float = CFG) -> torch.Tensor:
    """The judge's scores (prompts, nouns) after a MODEL has drawn over latents (prompts, C, h, w), each with its prompt."""
    text, empty, scores = backbone.encode([p.text for p in judged]), backbone.encode([""]), []
    for rows in torch.arange(len(judged)).split(BATCH):
        positive, negative = text.rows(rows).conditioning(), empty.repeated(len(rows)).conditioning()
        drawn = redrawn(backbone, latents[rows], positive, negative, denoise, FIRST_SEED + int(rows[0]), STEPS, cfg, model)
        scores.append(judge.scores(backbone.decode(drawn)))
    return torch.cat(scores)
