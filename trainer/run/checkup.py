"""Looks at a training's health now and then, and warns of each thing that is wrong once."""

from collections import deque

from ..settings.fields import Config
from . import health
from .guard import Guard
from .health import Finding

LATEST = 100  # steps whose gradients are looked at


class Checkup:
    """
    Args:
        conditions: erased, then kept prompts. concepts: with their calibrations, of which doubts.py has warned.
    """

    def __init__(self, optimizer, config: Config, conditions, concepts, guard: Guard, progress):
        self.optimizer, self.config, self.conditions, self.concepts = optimizer, config, conditions, concepts
        self.guard, self.progress = guard, progress
        self.gradients: deque[float] = deque(maxlen=LATEST)
        self.warned: set[str] = set()

    def passed(self, losses: dict[str, float]) -> None:
        self.gradients.append(losses["gradient"])

    def look(self, network) -> list[Finding]:
        found = []
        if self.config.trains():
            found = health.look(network, self.optimizer, self.config.learning_rate, *self.conditions, list(self.gradients))
            found.append(health.left_out(self.guard.left_out, self.guard.left_out + self.guard.steps))
        for finding in found:
            if finding.ill and finding.about not in self.warned:
                self.progress(f"warning: {finding.says}")
                self.warned.add(finding.about)
        return [*found, *(health.switch(c.name, c.calibration) for c in self.concepts)]
