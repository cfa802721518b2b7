"""One sheet of pictures: the same prompts and noise, a row for the base model and one for each method."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from demo.captions import NOUNS
from demo.prompts import held_out
from evaluation import measure

OTHERS = ("dog", "pig", "bus", "apple")
SCALE, LABEL, MARGIN = 2, 20, 110


def prompts(nouns: list[str]) -> list:
    """Each erased noun under its name and a held-out word, and some other nouns."""
    words = [(w, n) for n in nouns for w in NOUNS[n][1][:2]] + [(n, n) for n in OTHERS if n not in nouns]
    return [held_out(i, w) for i, w in enumerate(words)]


def write_sheet(backbone, judge, methods: list, nouns: list[str], path: Path) -> dict:
    """Draw the sheet; returns what is on it."""
    judged = prompts(nouns)
    models = {"base": backbone.model, **{m.name: m.model for m in methods}}
    width, height = (SCALE * n for n in measure.SIZE)
    sheet = Image.new("RGB", (MARGIN + width * len(judged), LABEL + height * len(models)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, p in enumerate(judged):
        draw.text((MARGIN + width * (column + 0.5), LABEL // 2), p.words[0], "black", font, "mm")
    for row, (name, model) in enumerate(models.items()):
        draw.text((MARGIN // 2, LABEL + height * (row + 0.5)), name, "black", font, "mm")
        for column, pixels in enumerate(measure.draw(backbone, judge, model, judged, 1).pictures[:, 0]):
            picture = Image.fromarray(pixels.numpy()).resize((width, height), Image.LANCZOS)
            sheet.paste(picture, (MARGIN + width * column, LABEL + height * row))
    sheet.save(path)
    return {"nouns": nouns, "methods": list(models), "prompts": [p.text for p in judged], "file": path.name}
