"""What a training does about steps that give no numbers: each is left out; after several in a row it goes back to the last good
weights with smaller steps; where that does not help either, it ends with the reason."""

from statistics import median

import torch

from ..optimizer import SMALLER
from .divergence import ADVICE, Diverged

IN_A_ROW = 3  # steps without a result, after which it goes back
MOST = 3  # times that it goes back
EVERY, LOOKED_AT = 20, 5  # steps between two looks whether the weights are good, and losses that are looked at
WORSE = 2.0  # task loss of weights that are not: without an adapter it is 1 at most


class Guard:
    """Keeps the last good weights of what an optimizer trains, and how many steps were left out.

    An optimizer's groups hold in `returns` how often it went back, which makes its steps smaller (optimizer.py) and is saved
    with the state. The good weights are not: a resumed training has those that it was resumed from.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, progress):
        self.optimizer, self.progress = optimizer, progress
        self.row = self.left_out = self.steps = 0
        self.losses: list[float] = []
        self.keep()

    def trained(self) -> list[torch.Tensor]:
        return [p for group in self.optimizer.param_groups for p in group["params"]]

    def keep(self) -> None:
        self.good = [p.detach().to("cpu", copy=True) for p in self.trained()]

    def passed(self, losses: dict[str, float]) -> None:
        """A step was made; its losses, of which the task's says whether the weights are good."""
        self.row, self.steps = 0, self.steps + 1
        self.losses = [*self.losses, *([losses["task"]] if "task" in losses else [])][-LOOKED_AT:]
        if self.steps % EVERY == 0 and median(self.losses or [0.0]) < WORSE:
            self.keep()

    def failed(self, error: Diverged) -> None:
        """A step gave no numbers and was left out. Raises Diverged where going back has not helped."""
        self.row, self.left_out = self.row + 1, self.left_out + 1
        if self.row == 1:
            self.progress(f"warning: {str(error).partition(':')[0]}: the step is left out")
        if self.row < IN_A_ROW:
            return
        returns = self.optimizer.param_groups[0]["returns"]
        if returns == MOST:
            raise Diverged(
                f"{str(error).partition(':')[0]}, and did so {MOST + 1} times, at last with steps of "
                f"{SMALLER**MOST:.1%} of the size: {ADVICE}, and start over with --overwrite"
            )
        for group in self.optimizer.param_groups:
            group["returns"] = returns + 1
        self.settle()
        self.row = 0
        self.progress(f"warning: {IN_A_ROW} steps in a row gave no numbers: back to the last good weights, with a smaller learning rate")

    def ended(self) -> None:
        """All steps are made. Raises Diverged where most of them gave no numbers."""
        self.settle()
        if self.left_out > self.steps:
            raise Diverged(
                f"the training diverged: {self.left_out} of {self.left_out + self.steps} steps gave no numbers: {ADVICE}, "
                "and start over with --overwrite"
            )

    def settle(self) -> None:
        """Where the step before failed or spoiled the weights, put the good ones back: called before weights are saved."""
        if self.row or not all(p.isfinite().all() for p in self.trained()):
            with torch.no_grad():
                for p, good in zip(self.trained(), self.good):
                    p.copy_(good)
            self.optimizer.state.clear()
