"""The demo's picture: what the base draws and what is left of it with the eraser, prompt by prompt."""

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from demo import prompts
from demo.captions import NOUNS
from host.sampling import adapted_sampling
from trainer.previews import picture_grid
from unhype.hypernetwork import at_strength

SCALE, LABEL, MARGIN = 2, 22, 96


def strip(backbone, eraser, config, judged, size, seed):
    """Pictures of the prompts without and with the eraser behind its switch: two (N, H, W, 3)."""
    text, negative = backbone.encode([p.text for p in judged]), backbone.encode([""]).repeated(len(judged))
    fires = eraser.network.fires(text.condition()).nonzero().flatten()
    factors = at_strength(eraser.network, text.condition().rows(fires), 1.0) if len(fires) else []
    models = [backbone.model, adapted_sampling(backbone, eraser.network.shape.layers, fires, factors)]
    return [
        backbone.decode(backbone.sample(text.conditioning(), negative.conditioning(), size, seed, config.sampling_steps, config.cfg, m))
        for m in models
    ]


def grid_prompts(erased: list[str]) -> tuple[list[prompts.Judged], list[prompts.Judged]]:
    """Single nouns, the erased ones in all their words, and pairs: two with each erased noun, two with none."""
    stays = lambda *nouns: [n for n in nouns if n not in erased]
    words = [(w, noun) for noun in erased for w in NOUNS[noun][1]] + [(n, n) for n in stays("dog", "bear", "pizza", "car", "ghost")]
    right, left, *_ = stays("pizza", "car", *NOUNS)
    asked = [pair for noun in erased for pair in ((noun, right), (left, noun))]
    asked += [pair for pair in (("dog", "apple"), ("book", "frog")) if len(stays(*pair)) == 2]
    return [prompts.held_out(i, w) for i, w in enumerate(words)], [prompts.held_out(i, *((n, n) for n in p)) for i, p in enumerate(asked)]


@torch.inference_mode()
def write_grid(backbone, eraser, config, erased: list[str], path: Path, seed: int = 1) -> None:
    """Four rows: single nouns without and with the eraser, pairs without and with it; words above the pictures."""
    singles, pairs = grid_prompts(erased)
    font = ImageFont.load_default(14)
    rows = []
    for judged, size in ((singles, config.size_of(False)), (pairs, config.size_of(True))):
        without, with_it = (picture_grid(p, len(judged)) for p in strip(backbone, eraser, config, judged, size, seed))
        sheet = Image.new("RGB", (MARGIN + SCALE * without.width, LABEL + 2 * SCALE * without.height + 8), "white")
        draw = ImageDraw.Draw(sheet)
        for i, p in enumerate(judged):
            draw.text((MARGIN + SCALE * size[0] * (i + 0.5), LABEL // 2), " + ".join(p.words), "black", font, "mm")
        for j, (picture, label) in enumerate(((without, "base"), (with_it, "\n".join([*erased, "erased"])))):
            top = LABEL + j * SCALE * size[1]
            draw.multiline_text((MARGIN // 2, top + SCALE * size[1] // 2), label, "black", font, "mm", align="center")
            sheet.paste(picture.resize((SCALE * picture.width, SCALE * picture.height), Image.LANCZOS), (MARGIN, top))
        rows.append(sheet)
    whole = Image.new("RGB", (max(r.width for r in rows), sum(r.height for r in rows)), "white")
    for i, r in enumerate(rows):
        whole.paste(r, (0, sum(x.height for x in rows[:i])))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path)
