"""Findings as a picture that is read at the size of a node: bars about each concept's threshold, layers as a strip."""

import math

import torch
from PIL import Image, ImageColor, ImageDraw, ImageFont

from .findings import Finding, Findings, in_short

MOST = 12  # concepts that are drawn
WIDTH, EDGE, ROW, LINE = 720, 24, 54, 34
LEFT, RIGHT = 250, 560  # where the bars begin and end, their thresholds half way
GROUND, TEXT, FAINT, FIRES, RESTS, LEAST = "#202024", "#f0f0f0", "#a0a0a8", "#ff9a3c", "#5b7fa6", "#33333a"


def draw(findings: Findings, source: str, places: dict[str, str]) -> torch.Tensor:
    """The picture as an IMAGE (1, H, W, 3). `places` says by a concept's name where in the prompt it stands."""
    shown, fired = findings.concepts[:MOST], sum(f.prompts > 0 for f in findings.concepts)
    height = 132 + sum(ROW + LINE * (f.prompts > 0) for f in shown) + 132
    image = Image.new("RGB", (WIDTH, height), GROUND)
    pen = ImageDraw.Draw(image)
    words(pen, (EDGE, 18), heading(findings, fired), 38, FIRES if fired else TEXT)
    hidden = len(findings.concepts) - len(shown)
    words(pen, (EDGE, 72), source + (f", nearest {len(shown)} of {len(findings.concepts)}" if hidden else ""), 22, FAINT, RIGHT - EDGE)
    words(pen, (RIGHT + 14, 82), "score / threshold", 18, FAINT)
    y, most = 120, max([abs(f.margin) for f in shown if math.isfinite(f.margin)] or [1.0])
    for finding in shown:
        y = bar(pen, y, finding, most or 1.0, places.get(finding.name, ""))
    strip(pen, y + 16, findings)
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return pixels.reshape(1, height, WIDTH, 3).float() / 255


def heading(findings: Findings, fired: int) -> str:
    names = ", ".join(f.name for f in findings.concepts if f.prompts)
    return f"erases {names}" if fired else "nothing is erased"


def bar(pen: ImageDraw.ImageDraw, y: int, finding: Finding, most: float, place: str) -> int:
    """A concept's row from y on; the next row's y."""
    fires, middle = finding.prompts > 0, (LEFT + RIGHT) // 2
    share = max(-1.0, min(1.0, finding.margin / most)) if math.isfinite(finding.margin) else -1.0
    end = middle + round(share * (RIGHT - LEFT) / 2)
    words(pen, (EDGE, y), finding.name, 28, TEXT if fires else FAINT, LEFT - EDGE - 10)
    pen.rectangle((LEFT, y + 6, RIGHT, y + 32), LEAST)
    pen.rectangle((min(middle, end), y + 6, max(middle, end), y + 32), FIRES if fires else RESTS)
    pen.line((middle, y, middle, y + 38), TEXT, 3)
    score = f"{finding.score:.1f}" if math.isfinite(finding.score) else "empty"
    words(pen, (RIGHT + 14, y), f"{score} / {finding.threshold:.1f}", 26, TEXT if fires else FAINT)
    if fires:
        words(pen, (2 * EDGE, y + 40), place, 22, FIRES, WIDTH - 3 * EDGE)
    return y + ROW + LINE * fires


def strip(pen: ImageDraw.ImageDraw, y: int, findings: Findings) -> None:
    """Every layer's weight change, the brighter the larger."""
    strengths = findings.strengths
    most = max((size for _, size in strengths), default=0.0)
    strongest = next(i for i, (_, size) in enumerate(strengths, 1) if size == most)
    words(pen, (EDGE, y), in_short(findings, f"adapter in {len(strengths)} layers, the strongest is number {strongest}"), 22, FAINT)
    width = (WIDTH - 2 * EDGE) / len(strengths)
    for i, (_, size) in enumerate(strengths):
        x = EDGE + i * width
        pen.rectangle((round(x), y + 36, round(x + width) - 2 * (width > 6), y + 84), mixed(size / most if most else 0.0))


def mixed(share: float) -> tuple[int, int, int]:
    """A colour from LEAST to FIRES."""
    first, last = ImageColor.getrgb(LEAST), ImageColor.getrgb(FIRES)
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(first, last))
    return red, green, blue


def words(pen: ImageDraw.ImageDraw, at: tuple[int, int], text: str, size: int, colour: str, room: int = WIDTH - 2 * EDGE) -> None:
    """A line of text, cut where it would leave its room."""
    font = ImageFont.load_default(size)
    while text and pen.textlength(text, font) > room:
        text = text[:-2].rstrip(".") + "." if len(text) > 2 else ""
    pen.text(at, text, colour, font)
