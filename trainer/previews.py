"""Preview pictures while training: base, half and full strength, on erased and on kept prompts, with labels."""

import io
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from host.backbone import Backbone
from host.encode import Text
from host.sampling import adapted_sampling
from unhype.hypernetwork import at_strength
from unhype.onset import onset

from .config import Config
from .page.html import Row
from .page.keeper import rows_of
from .run import beside, progress

ROWS = 4  # prompts of each kind
SHOWN = {"no eraser": 0.0, "half": 0.5, "full": 1.0}
NARROWEST = 160  # pixels of a picture, so that its prompt fits above it
FONT, LINES, GAP = 13, 5, 6  # size of letters, lines of a prompt, pixels around a label


@dataclass
class Shown:
    """The prompts of a preview: a few erased ones, then a few kept ones, and as many empty ones."""

    labels: list[str]
    text: Text
    negative: Text
    without: torch.Tensor | None = None  # (N, H, W, 3) their pictures without an eraser, once they are drawn


def picture_grid(pictures: torch.Tensor, columns: int) -> Image.Image:
    """Pictures (N, H, W, 3) in 0..1 in rows of `columns`."""
    n, h, w, _ = pictures.shape
    grid = pictures.reshape(n // columns, columns, h, w, 3).permute(0, 2, 1, 3, 4).reshape(n // columns * h, columns * w, 3)
    return Image.fromarray((grid.clamp(0, 1) * 255).round().to(torch.uint8).numpy().astype(np.uint8))


def letters() -> ImageFont.ImageFont:
    try:
        return ImageFont.load_default(FONT)
    except TypeError:  # Pillow before 10.1 has one size
        return ImageFont.load_default()


def wrapped(text: str, width: float, font) -> list[str]:
    """A text in lines that are at most `width` pixels wide, LINES of them; what the font has no letters for is escaped."""
    lines = [""]
    for letter in " ".join(text.split()).encode("latin-1", "backslashreplace").decode("latin-1"):
        if font.getlength(lines[-1] + letter) > width:
            line, _, word = lines[-1].rpartition(" ")
            lines[-1:] = [line, word] if line else [lines[-1], ""]
        lines[-1] += letter
    lines = [line.strip() for line in lines]
    return lines if len(lines) <= LINES else [*lines[: LINES - 1], lines[LINES - 1][:-3] + "..."]


def labelled(grid: Image.Image, above: list[str], beside: list[str]) -> Image.Image:
    """A grid of pictures, small ones enlarged, with a text above each column and one beside each row."""
    enlarged = -(-NARROWEST * len(above) // grid.width)
    grid = grid.resize((grid.width * enlarged, grid.height * enlarged), Image.Resampling.NEAREST)
    column, row, font = grid.width // len(above), grid.height // len(beside), letters()
    columns = [wrapped(text, column - 2 * GAP, font) for text in above]
    line = FONT + 3
    top, left = 2 * GAP + line * max(map(len, columns)), int(2 * GAP + max(map(font.getlength, beside)))
    picture = Image.new("RGB", (left + grid.width, top + grid.height), "white")
    picture.paste(grid, (left, top))
    draw = ImageDraw.Draw(picture)
    for i, lines in enumerate(columns):
        for k, text in enumerate(lines):
            draw.text((left + i * column + GAP, GAP + k * line), text, fill="black", font=font)
    for i, text in enumerate(beside):
        draw.text((GAP, top + i * row + row // 2 - FONT // 2), text, fill="black", font=font)
    return picture


def shown(backbone: Backbone, targets, retain) -> Shown:
    """The prompts of a training's previews."""
    spread = lambda prompts: [prompts[i * len(prompts) // ROWS] for i in range(min(ROWS, len(prompts)))]
    erased = [t.prompt.text for t in spread([t for t in targets if not t.prompt.pair])]
    kept = [p.text for p in spread([p for p in retain if not p.pair])]
    text = backbone.encode([*erased, *kept, ""])
    labels = [f"erased: {text}" for text in erased] + [f"kept: {text}" for text in kept]
    return Shown(labels, text.rows(slice(-1)), text.rows(slice(-1, None)).repeated(len(labels)))


@torch.no_grad()
def write_preview(backbone: Backbone, network, config: Config, prompts: Shown, iteration: int, levels: tuple[float, ...]) -> torch.Tensor:
    """One PNG: a row per strength (none, half, full), erased prompts on the left, kept ones on the right.

    `levels` are an eraser's `onset`, once it is measured. Returns its pictures, (strengths * prompts, H, W, 3) in 0..1.
    """
    count, size = len(prompts.labels), config.size_of(False)
    noise = torch.stack([backbone.noise(size, config.seed + row) for row in range(count)])

    def drawn(rows: torch.Tensor, model=None) -> torch.Tensor:
        positive, negative = prompts.text.rows(rows).conditioning(), prompts.negative.rows(rows).conditioning()
        steps, cfg = config.sampling_steps, config.cfg
        return backbone.decode(backbone.sample(positive, negative, size, config.seed, steps, cfg, model, noise=noise[rows]))

    if prompts.without is None:
        prompts.without = drawn(torch.arange(count))
    condition = prompts.text.condition().to(backbone.device)
    rows = network.fires(condition).nonzero().flatten().cpu()  # of the others every picture is that without an eraser
    pictures = []
    for strength in SHOWN.values():
        pictures.append(prompts.without.clone())
        if strength and len(rows):
            factors = at_strength(network, condition.rows(rows.to(backbone.device)), 1.0)
            layers = network.shape.layers
            pictures[-1][rows] = drawn(rows, adapted_sampling(backbone, layers, torch.arange(len(rows)), factors, onset(strength, levels)))
    path = beside.previews_path(config.out) / f"{iteration:06d}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    together = torch.cat(pictures)
    file = io.BytesIO()
    labelled(picture_grid(together, count), prompts.labels, list(SHOWN)).save(file, "PNG")
    beside.write_bytes(path, file.getvalue())
    for follower in progress.followers:
        follower.pictured(path)
    return together


def new_rows(backbone: Backbone, network, config: Config, prompts: Shown, iteration: int, levels: tuple[float, ...]) -> list[Row]:
    """The same preview, drawn and written, as the page shows it."""
    return rows_of(prompts.labels, list(SHOWN), write_preview(backbone, network, config, prompts, iteration, levels))
