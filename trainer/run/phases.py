"""Where the time of a training goes, and how much of it is left over all of its phases."""

import functools
import time
from pathlib import Path

from .. import slider, verdict
from ..optimizer import BACKWARD
from ..prompts import drawn_alike
from ..samples import drawn_of
from ..settings.fields import Config
from . import progress

SHOWN = 16  # pictures of a preview that are drawn, about


class Phases:
    """The clock of a training: seconds of each phase, one at a time.

    Args:
        started: when it began (time.time()), `imported` seconds of which the import of the host took.
    """

    def __init__(self, started: float, imported: float):
        self.since, self.name = time.time(), "checks"
        self.seconds = {"import": imported, "loading": max(0.0, self.since - started - imported)} if imported else {}

    def begin(self, name: str) -> None:
        """From now on it is this phase."""
        now = time.time()
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + now - self.since
        self.name, self.since = name, now

    def spent(self) -> dict[str, float]:
        """Of every phase so far."""
        self.begin(self.name)
        return {name: round(seconds, 1) for name, seconds in self.seconds.items()}


def in_words(seconds: dict[str, float]) -> str:
    """Phases that took a second and more, the longest first."""
    return ", ".join(f"{name} {value:.0f} s" for name, value in sorted(seconds.items(), key=lambda item: -item[1]) if value >= 1)


def rows_of(config: Config, steps: str) -> dict[str, float]:
    """The phases in which the denoiser works, as progress.py calls them, `steps` the training's own, and how many rows of the pictures'
    size it predicts in each."""
    (width, height), (pair_width, pair_height) = config.size_of(False), config.size_of(True)
    pair, sides, count = pair_width * pair_height / (width * height), 2 if config.cfg != 1 else 1, len(config.erase)
    drawn = drawn_of(config.pictures, count) * (config.sampling_steps * sides + 2 * config.kept_steps)
    if not config.trains():
        return {drawn_alike.WHAT: drawn_alike.asked_for(config), "verdict": verdict.asked_for(config)}
    return {
        drawn_alike.WHAT: drawn_alike.asked_for(config),
        "sampling pictures": drawn,
        "sampling pictures of pairs": drawn * pair,
        steps: config.most_steps() * config.batch * (1 + BACKWARD) * (1 + pair / 2) / 2,
        "strengths": slider.asked_for(config),
        "verdict": verdict.asked_for(config),
        "preview": SHOWN * config.sampling_steps * sides if config.preview_every else 0,
    }


class Plan:
    """What is to come of a training.

    Args:
        rows: of each phase, in their order. row: seconds that a row takes, 0 where nobody knows yet.
    """

    def __init__(self, rows: dict[str, float], row: float = 0.0):
        self.rows, self.row, self.at = rows, row, 0

    def later(self, what: str, whole: float | None) -> float:
        """Seconds of the phases behind `what`, which itself takes `whole` seconds as far as anybody can tell."""
        if what in self.rows:
            self.at = list(self.rows).index(what) + 1
            if whole and self.rows[what]:
                self.row = whole / self.rows[what]
        return self.row * sum(list(self.rows.values())[self.at :])


def planned(train):
    """A training during which everything that tells of the time left knows what is to come."""

    @functools.wraps(train)
    def with_plan(config: Config, backbone, *arguments, **named):
        own = config.for_family(backbone.family)
        with progress.looking_ahead(Plan(rows_of(own, Path(own.out).stem))):
            return train(config, backbone, *arguments, **named)

    return with_plan
