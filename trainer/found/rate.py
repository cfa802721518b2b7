"""A learning rate for the base at hand: a short training whose rate rises from step to step, looked at on the way."""

import math
from dataclasses import replace
from statistics import median

import torch

from ..config import Config
from ..optimizer import new_optimizer
from ..run.divergence import Diverged
from ..run.progress import Progress
from .look import OTHER, Look

LOWEST, HIGHEST = 1e-5, 0.1
STEPS, BETWEEN = 80, 4  # of the whole test, and between two looks
WHOLE, FIRST = 4 * STEPS, STEPS  # of a training that has its full rate in the steps of the test (optimizer.py)
LOST, IN_A_ROW = 0.5, 2  # of the wanted change, below the best look, and how many such looks end the test: higher rates only spoil it
NEARLY, BELOW = 0.9, 1 / 2  # of what the best look reached, and of the rate that it was at


def rising(step: int) -> float:
    return LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))


def chosen(looks: list[tuple[float, float]]) -> float:
    """Of looks (rate, share), rates rising: the lowest rate that reached NEARLY the best share, at most BELOW of the best one's.

    Shares are medians of three looks: a step too far is mended by the next ones. The lowest is high enough where a few steps
    erase all that can be; where they do not, the best stands at the edge of what diverges, and a training stays well below.
    """
    shares = [share if share == share else -math.inf for _, share in looks]
    looks = [(rate, median(shares[max(0, i - 1) : i + 2])) for i, (rate, _) in enumerate(looks)]
    share, rate = max(((share, rate) for rate, share in looks), default=(0.0, LOWEST))
    return min(next((r for r, s in looks if s >= NEARLY * share), LOWEST), max(LOWEST, BELOW * rate))


def find_rate(network, config: Config, look: Look, step, progress) -> float:
    """The rate to train with; the network is left as it was.

    Args:
        step: callable(config=, optimizer=, rng=, iteration=) that makes one step of the training.
    """
    before = {name: value.clone() for name, value in network.state_dict().items()}
    rng = torch.Generator().manual_seed((config.seed + OTHER) % 2**63)
    optimizer, looks, best = new_optimizer(network, config), [], -math.inf
    with Progress("finding a learning rate", STEPS, say=progress) as bar:
        for i in range(STEPS):
            own = replace(config, learning_rate=rising(i), iterations=WHOLE)
            try:
                step(config=own, optimizer=optimizer, rng=rng, iteration=FIRST + i)
            except Diverged:
                break
            bar.advance()
            if (i + 1) % BETWEEN == 0:
                looks.append((rising(i), look.at(network).share))
                best = max(best, looks[-1][1])
                if not any(share > best - LOST for _, share in looks[-IN_A_ROW:]):
                    break
    network.load_state_dict(before)
    optimizer.zero_grad(set_to_none=True)
    rate = float(f"{chosen(looks):.2g}")
    progress(f"learning rate {rate:g}, found by a test of {i + 1} steps, which reached {max(0.0, best):.0%} of the wanted change")
    return rate
