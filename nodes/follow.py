"""A training on its node: the host's progress bar, phase and time left as text, previews, and Cancel."""

import logging
import time
from typing import Any

import comfy.utils
from comfy.model_management import InterruptProcessingException
from PIL import Image

from .tell import show

OFTEN = 0.5  # seconds between two texts
LARGEST = 1024  # pixels of a preview on the node
log = logging.getLogger("unhype")


def duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


class Follower:
    """What a training tells (`say`, `advanced`, `pictured`), and asks whether it is to stop.

    Cancel reaches it as the host's exception, out of any step. Inside, while the training's own steps run, the exception is only
    noted where it comes from the progress bar, so that what was learned is saved first.
    """

    kinds = (InterruptProcessingException,)
    then = "Run goes on from there"

    def __init__(self, node: str | None):
        self.node, self.asked, self.inside, self.told = node, False, False, 0.0
        self.bar = comfy.utils.ProgressBar(1)

    def __enter__(self) -> "Follower":
        self.inside = True
        return self

    def __exit__(self, *_: object) -> None:
        self.inside = False

    def say(self, text: str) -> None:
        log.info("UnHype Train: %s", text)
        show(self.node, text)

    def advanced(self, progress: Any) -> None:
        done, total, now = progress.done, progress.total, time.monotonic()
        self.update(done if total else 0, total or 1)
        if now - self.told < OFTEN:
            return
        self.told, text = now, f"{progress.what}: {done} {progress.unit}s"  # where nobody knows how many there will be
        if total:
            left = (now - progress.started) / max(1, done - progress.first) * (total - done)
            text = f"{progress.what}: {done} of {total} {progress.unit}s, {duration(left)} left"
        show(self.node, text)

    def pictured(self, path: Any) -> None:
        with Image.open(path) as picture:
            self.update(self.bar.current, self.bar.total, ("PNG", picture.convert("RGB"), LARGEST))

    def update(self, done: int, total: int, picture: Any = None) -> None:
        try:
            self.bar.update_absolute(done, total, picture)
        except InterruptProcessingException:
            if not self.inside:
                raise
            self.asked = True
