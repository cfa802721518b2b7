"""The optimizer of a training: Adam in two groups, its schedule, and one step of it."""

import torch

from .run.divergence import ADVICE, Diverged
from .settings.fields import Config

WARMUP, DECAY = 0.05, 0.4  # shares of the iterations in which the learning rate rises, and falls to zero
CLIP = 1.0  # gradient norm
BACKWARD = 2  # a backward pass costs as much as two forwards
SMALLER = 0.25  # a step after every going back (run/guard.py), as a share of the one before
# What reads the prompt learns at this share of the heads' rate: as fast as they, the retention loss drives h into the flat
# side of SiLU, of a dozen concepts one or two stay there with a short adapter, and they are drawn.
READERS, READERS_RATE = ("trunk.", "summary.", "concept"), 0.3


def new_optimizer(network, config: Config) -> torch.optim.Adam:
    """Adam over what is trained, in two groups with their `share` of the learning rate; `returns` are the times it went back."""
    trained = [(name.startswith(READERS), p) for name, p in network.named_parameters() if p.requires_grad]
    heads = {"params": [p for reads, p in trained if not reads], "share": 1.0, "returns": 0}
    readers = {"params": [p for reads, p in trained if reads], "share": READERS_RATE, "returns": 0}
    return torch.optim.Adam([heads, readers], lr=config.learning_rate, betas=(0.9, 0.99))


def rate(config: Config, iteration: int) -> float:
    done = iteration / config.iterations
    return config.learning_rate * min(1, (done + 1 / config.iterations) / WARMUP, (1 - done) / DECAY)


def update(optimizer: torch.optim.Adam, config: Config, iteration: int) -> float:
    """One step of the optimizer at the schedule's learning rate, each group's gradient clipped; returns the gradient's norm.

    Raises Diverged, with every weight as it was, where the gradient is no number.
    """
    norms = []
    for group in optimizer.param_groups:
        group["lr"] = group["share"] * SMALLER ** group["returns"] * rate(config, iteration)
        norms.append(torch.nn.utils.clip_grad_norm_(group["params"], CLIP))
    norm = torch.stack(norms).square().sum().sqrt().item() if norms else 0.0
    if not norm < float("inf"):
        raise Diverged(f"the training diverged at iteration {iteration} (its gradient is no number): {ADVICE}")
    optimizer.step()
    return norm
