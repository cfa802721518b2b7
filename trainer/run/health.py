"""A training's health in plain words, each worked out from the network and its prompts."""

from typing import NamedTuple

import torch

from unhype.condition import Condition
from unhype.hypernetwork import LONGEST, gram

from ..optimizer import SMALLER

LOOKED_AT = 64  # prompts of each kind
PRECISION = torch.finfo(torch.float32).eps / 2  # a smaller change, as a share of a weight, is lost in rounding
SHORT, GROWN, LONG = 1e-3, 1.0, LONGEST / 2  # lengths: none; long enough to be judged (trained ones are 4 to 100); about to be cut
ALIKE = 0.01  # spread of adapters, as a share of their length, below which the prompt is not read
LEAK = 0.5  # length of a kept prompt's adapter, as a share of an erased one's
MANY = 0.01  # share of steps that are left out


class Finding(NamedTuple):
    about: str
    says: str
    ill: bool = False


@torch.no_grad()
def step_size(optimizer: torch.optim.Adam, learning_rate: float) -> float | None:
    """|| step || / || weights || of Adam's next step at the highest learning rate; None before the first step."""
    step = weights = 0.0
    for group in optimizer.param_groups:
        rate, (first, second) = group["share"] * SMALLER ** group["returns"] * learning_rate, group["betas"]
        for p in group["params"]:
            if found := optimizer.state.get(p):
                count = float(found["step"])
                mean, square = found["exp_avg"] / (1 - first**count), found["exp_avg_sq"] / (1 - second**count)
                step += (rate * mean / (square.sqrt() + group["eps"])).square().sum().item()
                weights += p.square().sum().item()
    return (step / weights) ** 0.5 if weights else None


def some(condition: Condition) -> Condition:
    """LOOKED_AT of its prompts at most, from first to last."""
    count = len(condition.pooled)
    return condition.rows(torch.linspace(0, count - 1, min(count, LOOKED_AT)).long())


def whole(network, condition: Condition) -> tuple[Condition, torch.Tensor]:
    """The condition on the network's device, and s = S for each of its rows."""
    condition = condition.to(network.least.device)
    return condition, torch.full((len(condition.pooled),), float(network.shape.steps), device=network.least.device)


@torch.no_grad()
def length(network, condition: Condition) -> float:
    """Median || H(c, S) - H(c, 0) || over the prompts."""
    return network.squared_change(*whole(network, condition)).sqrt().median().item()


@torch.no_grad()
def spread(network, condition: Condition) -> float:
    """Root mean square distance of the prompts' adapters from their mean, as a share of their length."""
    _, h, *_ = network.hidden(*whole(network, condition), None)
    total = sum(gram(head) for head in network.heads)
    square = lambda v: ((v @ total) * v).sum(1).mean().clamp_min(0).item()
    return (square(h - h.mean(0)) / max(square(h), 1e-30)) ** 0.5


def learning(gradients: list[float], step: float | None) -> Finding:
    """Whether a gradient arrives, and whether steps change the weights; gradients: norms of the latest steps."""
    if gradients and not max(gradients) > 0:
        return Finding("learning", "the gradient is zero: nothing is learned. Start over with another seed or a larger hidden", True)
    if step is None:
        return Finding("learning", "no step has been made yet")
    says = f"a step changes the weights by {step:.2g} of their size"
    if step < PRECISION:
        return Finding("learning", f"{says}, which is less than their precision: nothing is learned. Raise learning_rate", True)
    return Finding("learning", says)


def adapters(erased: float) -> Finding:
    """erased: length of the adapters of prompts that name a concept."""
    says = f"the adapters, which change the model, are {erased:.3g} long; trained ones are 4 to 100"
    if not erased < LONG:
        return Finding("adapters", f"{says}: they explode. Lower learning_rate", True)
    if erased < SHORT:
        return Finding("adapters", f"{says}: nothing is changed. Raise learning_rate", True)
    return Finding("adapters", says)


def prompt_read(erased: float, apart: float) -> Finding:
    """apart: spread of the adapters."""
    says = f"adapters of different prompts differ by {apart:.1%} of their length"
    if erased >= GROWN and apart < ALIKE:
        return Finding("prompts", f"{says}: the prompt is ignored. Give more templates, or lower learning_rate", True)
    return Finding("prompts", says)


def leak(erased: float, kept: float) -> Finding:
    """kept: length of the adapters of prompts that are to stay as they are."""
    share = kept / max(erased, 1e-30)
    says = f"adapters of kept prompts are {share:.1%} as long as those of erased ones"
    if erased >= GROWN and share > LEAK:
        return Finding("kept", f"{says}: what should stay changes wherever the switch fires by mistake. Raise retain_weight", True)
    return Finding("kept", says if erased >= GROWN else f"{says}, which are still short")


def switch(name: str, calibration: dict) -> Finding:
    """Of a concept, from what its switch was calibrated to."""
    gap = calibration["lowest_target"] - calibration["highest_safe"]
    says = f"{name!r}: its prompts score {gap:.1f} above all others, but for their tails"
    if gap <= 0:
        says = f"{name!r}: its prompts and others overlap by {-gap:.1f}: it cannot be told apart. Name it by other or more words"
    return Finding("switch", says, gap <= 0)


def left_out(count: int, steps: int) -> Finding:
    if not count:
        return Finding("steps", "every step gave numbers")
    says = f"{count} of {steps} steps gave no numbers and were left out"
    return Finding("steps", says + (": lower learning_rate" if count > MANY * steps else ""), count > MANY * steps)


def look(network, optimizer, learning_rate: float, erased: Condition, kept: Condition, gradients: list[float]) -> list[Finding]:
    """What is found of a network that is being trained. erased, kept: prompts of both kinds."""
    erased, kept = some(erased), some(kept)
    long = length(network, erased)
    return [
        learning(gradients, step_size(optimizer, learning_rate)),
        adapters(long),
        prompt_read(long, spread(network, erased)),
        leak(long, length(network, kept)),
    ]
