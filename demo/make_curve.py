"""Draw the loss curve of the base model's training.

python demo/make_curve.py demo/loss.jsonl demo/loss.png
"""

import json
import math
import sys

from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 900, 420, 60, 40, 20


def draw_curve(log: str, out: str) -> None:
    """The loss over steps, on a logarithmic axis; of steps that a resumed run did twice, the second time."""
    lines = {}
    with open(log) as file:
        for line in file:
            entry = json.loads(line)
            lines[entry["step"]] = entry["loss"]
    last, low, high = max(lines), 0.2, 1.0
    x = lambda step: LEFT + (WIDTH - LEFT - 20) * step / last
    y = lambda loss: TOP + (HEIGHT - TOP - BOTTOM) * math.log(high / loss) / math.log(high / low)
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    for loss in (0.2, 0.3, 0.4, 0.6, 0.8, 1.0):
        draw.line([(LEFT, y(loss)), (WIDTH - 20, y(loss))], fill=(225, 225, 225))
        draw.text((LEFT - 8, y(loss)), str(loss), "black", font, "rm")
    for step in range(0, last + 1, 1000):
        draw.text((x(step), HEIGHT - BOTTOM + 8), str(step), "black", font, "mt")
    draw.text((WIDTH / 2, HEIGHT - 12), "steps; v-prediction loss, mean of 50 steps", "black", font, "mm")
    draw.line([(x(s), y(min(v, high))) for s, v in sorted(lines.items())], fill=(30, 90, 180), width=2)
    image.save(out)


if __name__ == "__main__":
    draw_curve(*sys.argv[1:])
