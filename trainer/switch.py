"""Fitting the switch: one probe per concept over token states, and its threshold from text that it was not fitted on."""

import math

import torch
from torch.nn import functional as F

from unhype.condition import TOGETHER
from unhype.hypernetwork import Hypernetwork

from .states import States

ITERATIONS, BATCH, LEARNING_RATE = 1800, 256, 0.05
LOOK_RATE, LOOK_DECAY, LEAST_RATE = 0.003, 1e-4, 0.02  # of a hidden layer, with which all rates fall to a share
AVERAGED = 0.5  # of the iterations, the last: their mean is taken where the switch is linear, so that no single batch counts
WEIGHT_DECAY = 0.002  # of each concept by itself, however many there are
OF_TARGETS = 0.5  # of a batch, at most: the targets of a hundred concepts would crowd out what is safe
TAIL = 0.005  # of held-out scores that the threshold does not look at: a prompt may mean more than its label says
# The threshold lies where by the last UPPER of the safe scores, thinning out as they do, one text in 1 / SELDOM would lie above. Where
# that is nearer to the targets, it lies MARGIN of the way to them: people write what no text of ours holds;
# of a hidden layer, which parts them further, LOOK_MARGIN, so that other words for a concept are not lost.
UPPER, SELDOM, MARGIN, LOOK_MARGIN = 0.05, 5e-5, 0.75, 0.35
ENOUGH = 10  # scores that a tail is told by
UNKNOWN = -1  # label of a prompt that may mean the concept or not, on which it is neither fitted nor judged


def draws(labels: torch.Tensor) -> torch.Tensor:
    """How likely each prompt is to be drawn, (N,): evenly, but that targets are OF_TARGETS of a batch at the most."""
    targets = (labels == 1).any(1)
    count = int(targets.sum())
    least = OF_TARGETS / (1 - OF_TARGETS) * (len(labels) - count) / max(1, count)
    weight = torch.where(targets, min(1.0, least) or 1.0, 1.0)
    return weight / weight.sum()


def smooth_and_hard(per_token: torch.Tensor, prompt: torch.Tensor, length: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each prompt the log of the mean exponential and the maximum over its tokens, (M, K) -> (N, K) twice."""
    count, at = (len(length), per_token.shape[1]), prompt[:, None].expand(per_token.shape)
    hard = per_token.new_full(count, -1e9).scatter_reduce(0, at, per_token, "amax")
    most = hard.detach()
    total = per_token.new_zeros(count).scatter_add(0, at, (per_token - most[prompt]).exp())
    return total.log() + most - length[:, None].log(), hard


def per_token(network: Hypernetwork, states: torch.Tensor) -> torch.Tensor:
    """Each token state (M, D), not standardised, on each concept's probe, (M, K)."""
    switch, mean, deviation = network.switch, network.standardise.token_mean, network.standardise.token_deviation

    def on(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scaled = weight / deviation  # to standardise the states anew would be half of the work
        return states @ scaled.T + (bias - scaled @ mean)

    linear = on(switch.weight, switch.bias)
    return linear if switch.look is None else linear + F.silu(on(switch.look.weight, switch.look.bias)) @ switch.seen.T


def fit_switch(network: Hypernetwork, states: States, labels: torch.Tensor, seed: int, rows: torch.Tensor | None = None) -> None:
    """Fit network.switch to labels (N, K), 1, 0 or UNKNOWN, or to some rows of them: logistic regression on a smooth and the
    hard maximum over tokens.

    Every concept is fitted as if it were alone, the others' targets being safe for it; a hidden layer is fitted for all together.
    """
    switch, width = network.switch, states.flat.shape[1]
    size = max(1, min(BATCH, TOGETHER // width // max(1, int(states.length.max()))))
    rows = torch.arange(len(labels)) if rows is None else rows
    rng = torch.Generator().manual_seed(seed)
    probes, groups = [switch.weight, switch.bias], [{"params": [switch.weight, switch.bias], "lr": LEARNING_RATE}]
    if switch.look is not None:
        switch.look.weight.data.normal_(std=width**-0.5, generator=rng)
        torch.nn.init.zeros_(switch.look.bias)
        torch.nn.init.zeros_(switch.seen)
        groups.append({"params": [*switch.look.parameters(), switch.seen], "lr": LOOK_RATE})
    optimizer = torch.optim.Adam(groups)
    falling = lambda iteration: max(LEAST_RATE, 1 - iteration / ITERATIONS) if switch.look is not None else 1.0
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, falling)
    likely = draws(labels[rows])
    sides = [(likely[:, None] * (labels[rows] == side)).sum(0) for side in (0, 1)]
    balance = sides[0] / sides[1].clamp_min(1e-9)
    last = int(ITERATIONS * AVERAGED)
    total = [torch.zeros_like(p) for p in probes]
    for iteration in range(ITERATIONS):
        picked = rows[torch.multinomial(likely, size, replacement=True, generator=rng)]
        some, label = states.rows(picked), labels[picked]
        each = per_token(network, some.flat.float())
        loss = WEIGHT_DECAY * switch.weight.square().sum()
        if switch.look is not None:
            loss = loss + WEIGHT_DECAY * switch.seen.square().sum() + LOOK_DECAY * switch.look.weight.square().sum()
        for score in smooth_and_hard(each, some.prompt(), some.length):
            error = F.binary_cross_entropy_with_logits(score, label.clamp_min(0).float(), pos_weight=balance, reduction="none")
            loss = loss + (error * (label != UNKNOWN)).mean(0).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if switch.look is None and iteration >= ITERATIONS - last:
            for sum_of, now in zip(total, probes):
                sum_of += now.detach() / last
    if switch.look is None:
        for parameter, mean_of in zip(probes, total):
            parameter.data.copy_(mean_of)


@torch.no_grad()
def scores(network: Hypernetwork, states: States) -> torch.Tensor:
    """The switch's score of every prompt and concept, (N, K)."""
    return torch.cat([smooth_and_hard(per_token(network, s.flat.float()), s.prompt(), s.length)[1] for s in states.parts()])


def parted(target: torch.Tensor, safe: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and safe scores without what lies on the wrong side.

    A safe prompt may hold a word that the text encoder takes for the concept. It counts as an error; where the threshold lies
    is up to the others. The sides part where the shares of errors are least together, in the middle of the widest such gap.
    """
    scores = torch.cat([target, safe]).unique()
    middle, gap = (scores[1:] + scores[:-1]) / 2, scores.diff()
    parts = (middle < target.max()) & (middle >= safe.min())
    if not parts.any():
        return target, safe
    below = [torch.searchsorted(side.sort().values, middle) / len(side) for side in (target, safe)]
    errors = below[0] + 1 - below[1]
    least = parts & (errors <= errors[parts].min() + 1e-6)
    parting = middle[torch.where(least, gap, -1).argmax()]
    return target[target > parting], safe[safe <= parting]


def seldom(safe: torch.Tensor) -> float:
    """The score that SELDOM of texts would exceed if they went on as the highest of these do, by an exponential tail; of few, none."""
    start = safe.quantile(1 - UPPER)
    beyond = safe[safe > start] - start
    return (start + beyond.mean() * math.log(UPPER / SELDOM)).item() if len(beyond) >= ENOUGH else math.inf


@torch.no_grad()
def calibrate(network: Hypernetwork, states: States, labels: torch.Tensor) -> list[dict]:
    """Set each concept's threshold from held-out prompts; returns what was measured, a dict per concept.

    Raises ValueError where no held-out prompt names a concept, or all do.
    """
    found, report = scores(network, states), []
    margin = MARGIN if network.switch.look is None else LOOK_MARGIN
    for k in range(labels.shape[1]):
        target, safe = found[labels[:, k] == 1, k], found[labels[:, k] == 0, k]
        if not len(target) or not len(safe):
            raise ValueError(
                f"the switch of concept {k + 1} cannot be calibrated: "
                f"of the held-out prompts {len(target)} name it and {len(safe)} do not, "
                "expected some of each; give more templates or more retain concepts"
            )
        own, others = parted(target, safe)
        low, high = own.quantile(TAIL).item(), others.quantile(1 - TAIL).item()
        threshold = min(high + margin * (low - high), max(high, seldom(others)))
        network.switch.threshold[k] = threshold
        report.append(
            {
                "threshold": threshold,
                "lowest_target": low,
                "highest_safe": high,
                "targets": len(target),
                "safe": len(safe),
                "misses": (target <= threshold).float().mean().item(),
                "false_alarms": (safe > threshold).float().mean().item(),
            }
        )
    return report
