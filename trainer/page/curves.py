"""The losses of a training's log as curves, drawn as SVG."""

import json
import math
from html import escape
from pathlib import Path

POINTS = 160  # of a curve at most, each the mean of the steps in its part
WIDTH, HEIGHT = 400, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 26  # pixels around the curve, for its numbers


def read(log: Path, iterations: int) -> dict[str, list[tuple[float, float]]]:
    """Of every figure in a log's lines (iteration, mean) points, in order; the seconds are none."""
    sums: dict[str, dict[int, tuple[float, float, int]]] = {}
    with open(log, encoding="utf-8", errors="replace") as lines:
        for text in lines:
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # half a line
            iteration = line.pop("iteration", None) if isinstance(line, dict) else None
            if type(iteration) is not int:
                continue  # the verdict's
            for name, value in line.items():
                if name != "seconds" and type(value) in (int, float) and math.isfinite(value):
                    part = sums.setdefault(name, {})
                    place = (iteration - 1) * POINTS // max(POINTS, iterations)
                    at, total, count = part.get(place, (0.0, 0.0, 0))
                    part[place] = at + iteration, total + value, count + 1
    return {name: [(at / n, total / n) for _, (at, total, n) in sorted(part.items())] for name, part in sums.items()}


def ticks(highest: float) -> list[float]:
    """Two to five round numbers from 0 to about `highest`."""
    raw = max(highest, 1e-9) / 3
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= raw)
    return [step * i for i in range(math.ceil(highest / step - 1e-9) + 1)] if highest > 0 else [0.0, step]


def chart(points: list[tuple[float, float]], iterations: int, words: str) -> str:
    """An SVG of one curve over the steps of the whole training, from 0 up; words: what a screen reader says of it."""
    marks = ticks(max(value for _, value in points))
    top = marks[-1]
    x = lambda at: LEFT + (WIDTH - LEFT - RIGHT) * at / max(1, iterations)
    y = lambda value: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * max(0.0, value) / top
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(words)}">']
    for mark in marks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">{mark:g}</text>')
    for at, anchor in ((0, "start"), (iterations // 2, "middle"), (iterations, "end")):
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{at}</text>')
    if len(points) == 1:
        parts.append(f'<circle class="curve" cx="{x(points[0][0]):.1f}" cy="{y(points[0][1]):.1f}" r="2"/>')
    else:
        parts.append('<polyline class="curve" points="' + " ".join(f"{x(at):.1f},{y(value):.1f}" for at, value in points) + '"/>')
    return "".join(parts) + "</svg>"
