"""What is found while an eraser is trained: the rate before, how many steps it takes, and the best weights on the way.

The training goes on at its full rate until both bars hold (least_erased, most_leaked) and a quarter of its steps, of PATIENCE
looks at the least, have reached no GAIN; from there it comes down as one of that length does (optimizer.py). Where that never
is, it ends at Config.most_steps.
"""

import math
from dataclasses import replace

import torch

from ..config import Config
from ..optimizer import DECAY, WARMUP
from .course import KEPT, Course
from .look import Look, Seen
from .rate import find_rate

PATIENCE, PART = 3, 0.25  # looks, and share of the steps so far
GAIN = 0.01  # of the wanted change


class Finder:
    """Looks at a network in training, finds what its settings leave open, and keeps the best weights.

    Args:
        config: as it was given. seen: the prompts that the training reads.
    """

    def __init__(self, config: Config, backbone, seen: set[str], progress):
        self.given, self.progress = config, progress
        self.look = Look(config, backbone, seen)
        self.every = config.look_every or self.look.every
        self.course = Course(config.learning_rate, config.most_steps())
        self.weights: dict[str, torch.Tensor] = {}

    def begin(self, network, step) -> Config:
        """The settings to train with, the learning rate found unless a resumed training has it. step: as find_rate takes it."""
        if not self.course.rate:
            self.course.rate = find_rate(network, self.given, self.look, step, self.progress)
        return self.config()

    def config(self) -> Config:
        return replace(self.given, learning_rate=self.course.rate, iterations=self.course.iterations)

    @property
    def open(self) -> bool:
        """Whether nobody knows yet when it ends."""
        return not self.given.iterations and self.course.iterations == self.given.most_steps()

    def passed(self, done: int, network) -> dict[str, float]:
        """After `done` steps: the figures of a look, where one is due; after the last step the network has the best weights."""
        if done % self.every and done < self.course.iterations:
            return {}
        seen = self.look.at(network)
        if not self.given.iterations:
            self.weigh(done, seen, network)
        return {"erased": round(seen.share, 4), "least_erased": round(min(seen.erased), 4), "leaked": round(seen.leaked, 4)}

    def weigh(self, done: int, seen: Seen, network) -> None:
        """Whether it has come far enough, and whether these are the best weights."""
        course, score = self.course, seen.share - max(0.0, seen.leaked - self.given.most_leaked)
        holds = min(seen.erased) >= self.given.least_erased and seen.leaked <= self.given.most_leaked
        if score > course.best:
            course.best, course.best_at = score, done
            self.weights = {name: p.detach().to("cpu", copy=True) for name, p in trained(network)}
        if not holds or score >= course.reached + GAIN or done < WARMUP * course.iterations:
            course.since, course.reached = done, max(course.reached, score)
        elif self.open and done - course.since >= max(PATIENCE * self.every, PART * done):
            course.iterations = min(course.iterations, math.ceil(done / (1 - DECAY)))
            self.progress(
                f"{seen.share:.0%} of the wanted change is reached on held-out prompts, and no more since step {course.since}: "
                f"it comes to its end, at step {course.iterations}"
            )
        if done == course.iterations and score < course.best - GAIN:
            self.progress(f"back to the weights of step {course.best_at}, which reached more on held-out prompts than the last")
            self.restore(network)

    @torch.no_grad()
    def restore(self, network) -> None:
        for name, p in trained(network):
            p.copy_(self.weights[name])

    # --- the state of a training that is resumed ---

    def saved(self) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and metadata."""
        return {KEPT + name: value for name, value in self.weights.items()}, {"found": self.course.written()}

    def load(self, tensors: dict[str, torch.Tensor], course: Course) -> None:
        """Go on from what a state kept; iterations that are given hold, whatever was found."""
        self.course = replace(course, iterations=self.given.iterations or min(course.iterations, self.given.most_steps()))
        self.weights = {name.removeprefix(KEPT): value for name, value in tensors.items() if name.startswith(KEPT)}

    def metrics(self) -> dict:
        """What an eraser's file says of it."""
        found = {"learning_rate": self.course.rate, "iterations": self.course.iterations, "look_every": self.every}
        return found | ({} if self.given.iterations else {"best": round(self.course.best, 4), "best_at": self.course.best_at})


def trained(network):
    return [(name, p) for name, p in network.named_parameters() if p.requires_grad]
