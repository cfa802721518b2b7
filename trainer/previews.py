"""Preview pictures while training: base, half and full strength, on erased and on kept prompts."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from host.backbone import Backbone
from host.encode import Text
from host.sampling import adapted_sampling
from unhype.hypernetwork import at_strength

from .config import Config

ROWS = 4  # prompts of each kind
SHOWN = (0.0, 0.5, 1.0)


def picture_grid(pictures: torch.Tensor, columns: int) -> Image.Image:
    """Pictures (N, H, W, 3) in 0..1 in rows of `columns`."""
    n, h, w, _ = pictures.shape
    grid = pictures.reshape(n // columns, columns, h, w, 3).permute(0, 2, 1, 3, 4).reshape(n // columns * h, columns * w, 3)
    return Image.fromarray((grid.clamp(0, 1) * 255).round().to(torch.uint8).numpy().astype(np.uint8))


def shown(backbone: Backbone, targets, retain) -> tuple[Text, Text]:
    """The prompts of a preview, a few erased ones and a few kept ones, and as many empty ones."""
    spread = lambda prompts: [prompts[i * len(prompts) // ROWS] for i in range(min(ROWS, len(prompts)))]
    texts = [t.prompt.text for t in spread([t for t in targets if not t.prompt.pair])] + [
        p.text for p in spread([p for p in retain if not p.pair])
    ]
    text = backbone.encode([*texts, ""])
    return text.rows(slice(-1)), text.rows(slice(-1, None)).repeated(len(texts))


@torch.no_grad()
def write_preview(backbone: Backbone, network, config: Config, prompts: tuple[Text, Text], iteration: int) -> Path:
    """One PNG: a row per strength (none, half, full), erased prompts on the left, kept ones on the right."""
    text, negative = prompts
    count, pictures = len(text.tokens), []
    for strength in SHOWN:
        model = adapted_sampling(
            backbone, network.shape.layers, torch.arange(count), at_strength(network, text.condition().to(backbone.device), strength)
        )
        latents = backbone.sample(
            text.conditioning(), negative.conditioning(), config.size_of(False), config.seed, config.sampling_steps, config.cfg, model
        )
        pictures.append(backbone.decode(latents))
    path = Path(config.out).with_suffix(".previews") / f"{iteration:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture_grid(torch.cat(pictures), count).save(path)
    return path
