"""Keeps the page beside an eraser up to date while it is trained."""

import io
import time
from dataclasses import asdict
from pathlib import Path

import torch
from PIL import Image

from unhype.checkpoint import Concept
from unhype.text import shown

from ..run import processes
from ..run.beside import log_path, page_path, write_text
from ..run.health import Finding
from ..run.phases import in_words as phases_in_words
from ..settings.fields import Config
from . import curves
from .html import Facts, Row, page

LARGEST, SMALL, QUALITY = 320, 160, 85  # pixels of a picture's longer side, of one that is shown by its pixels, and JPEG's quality
LONGEST = 2000  # letters of a setting


def in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def jpeg(picture: torch.Tensor) -> bytes:
    """A picture (H, W, 3) in 0..1, made smaller where it is large."""
    image = Image.fromarray((picture.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
    image.thumbnail((LARGEST, LARGEST))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def rows_of(labels: list[str], strengths: list[str], pictures: torch.Tensor) -> list[Row]:
    """A preview's prompts; pictures: (strengths * prompts, H, W, 3)."""
    small = max(pictures.shape[1:3]) <= SMALL
    by_prompt = pictures.unflatten(0, (len(strengths), len(labels))).transpose(0, 1)
    return [Row(label, dict(zip(strengths, map(jpeg, own))), small) for label, own in zip(labels, by_prompt)]


class Page:
    """The page of a training; inside, it says that this runs, and afterwards how it ended."""

    def __init__(self, config: Config, family: str, concepts: list[Concept], done: int, progress, phases=None):
        out, base = Path(config.out), Path(config.base).name
        settings = asdict(config) | {"out": out.name, "base": base}
        about = [("erased", ", ".join(config.erase)), ("base model", base), ("family", family)]
        about += [(name, str(settings[name])) for name in ("iterations", "learning_rate", "rank", "objective", "size", "seed")]
        every = [(name, shown(value, LONGEST)) for name, value in settings.items()]
        self.facts = Facts(out.stem, [(c.name, c.mapping) for c in concepts], about, every, config.iterations, done)
        self.out, self.first, self.progress, self.phases, self.broken, self.open = out, done, progress, phases, False, False

    def __enter__(self):
        self.refresh(self.first, [])
        return self

    def refresh(
        self, done: int, findings: list[Finding], rows: list[Row] | None = None, seconds: tuple[float | None, float] = (None, 0.0)
    ) -> None:
        """Write it anew after `done` iterations, with what is found of the training's health, the newest preview, and the seconds that
        the steps and what comes behind them will take."""
        self.facts.done, self.facts.findings = done, findings
        if rows is not None:
            self.facts.rows, self.facts.pictured = rows, done
        left = ", the verdict is being worked out" if done == self.facts.iterations > self.first else ""
        if done < self.facts.iterations and seconds[0] is not None:
            left = f", about {in_words(sum(seconds))} left until the verdict"
        self.facts.status = f"Training: step {done} of {'at most ' if self.open else ''}{self.facts.iterations}{left}"
        self.write()

    def expects(self, iterations: int, at_most: bool) -> None:
        """How many steps it will be, or at most."""
        self.facts.iterations, self.open = iterations, at_most

    def heard(self, line: str) -> None:
        """A line of the verdict, which is said as well."""
        self.facts.verdict.append(line)
        self.progress(line)

    def __exit__(self, kind, error, _):
        facts, failed = self.facts, any(line.strip().startswith("FAILED") for line in self.facts.verdict)
        facts.running = False
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            facts.status = f"Stopped after step {facts.done} of {facts.iterations}, and saved: resume it to go on"
        elif kind is not None:
            facts.good, facts.status = False, f"Ended with an error after step {facts.done}: {error}"
        elif not facts.verdict:
            facts.status = "Trained, and not judged"
        else:
            facts.good = not failed
            facts.status = "FAILED: do not rely on this eraser" if failed else "Passed: it erases what it should, and leaves the rest alone"
        self.write()

    def write(self) -> None:
        """A page that cannot be written, of a full disk say, ends no training."""
        if not processes.first():
            return
        self.facts.written = time.strftime("%Y-%m-%d %H:%M")
        self.facts.times = "" if self.phases is None else phases_in_words(self.phases.spent())
        try:
            self.facts.curves = curves.read(log_path(self.out), self.facts.iterations)
            write_text(page_path(self.out), page(self.facts))
        except OSError as error:
            if not self.broken:
                self.progress(f"warning: the page {page_path(self.out)} could not be written ({error}); the training goes on")
            self.broken = True
