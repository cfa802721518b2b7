"""Fitting the switch: one linear probe per concept over token states, and its threshold from prompts it was not fitted on."""

import torch
from torch.nn import functional as F

from unhype.condition import TOGETHER, Condition, parts
from unhype.hypernetwork import Hypernetwork

ITERATIONS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 300, 512, 0.02, 0.02
TAIL = 0.005  # of held-out scores that the threshold does not look at: a prompt may mean more than its label says
# Where between the highest safe and the lowest target score the threshold lies. Safe prompts with words that the fit never saw
# reach a little beyond the highest, up to a quarter of the way with one concept; averages of an erased prompt lie just above it.
MARGIN = 0.25


def fit_switch(network: Hypernetwork, conditions: Condition, labels: torch.Tensor, seed: int, rows: torch.Tensor | None = None) -> None:
    """Fit network.switch to labels (N, K) in 0..1, or to some rows of them: logistic regression on a smooth maximum over tokens."""
    switch, (_, length, width) = network.switch, conditions.tokens.shape
    rows = torch.arange(len(labels)) if rows is None else rows
    size = max(1, min(BATCH, TOGETHER // (length * width)))
    mean, deviation = network.standardise.token_mean, network.standardise.token_deviation
    rng = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([switch.weight, switch.bias], lr=LEARNING_RATE)
    balance = (1 - labels[rows]).sum(0) / labels[rows].sum(0).clamp_min(1)
    for _ in range(ITERATIONS):
        picked = rows[torch.randperm(len(rows), generator=rng)[:size]]
        some = conditions.rows(picked)
        weight = switch.weight / deviation  # on the states as they are: to standardise them anew is half of the work
        per_token = (some.tokens.float() @ weight.T + switch.bias - weight @ mean).masked_fill(~some.mask[..., None], -1e9)
        score = per_token.logsumexp(1) - some.mask.sum(1, keepdim=True).clamp_min(1).log()
        hard = per_token.amax(1)
        loss = sum(F.binary_cross_entropy_with_logits(x, labels[picked], pos_weight=balance) for x in (score, hard))
        loss = loss + WEIGHT_DECAY * switch.weight.square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def edges(target: torch.Tensor, safe: torch.Tensor) -> tuple[float, float]:
    """The lowest target and the highest safe score, but for their tails and for what lies on the wrong side.

    A safe prompt may hold a word that the text encoder takes for the concept. It counts as an error; where the threshold lies
    is up to the others. The sides part where the shares of errors are least together, in the middle of the widest such gap.
    """
    scores = torch.cat([target, safe]).unique()
    middle, gap = (scores[1:] + scores[:-1]) / 2, scores.diff()
    parts = (middle < target.max()) & (middle >= safe.min())
    if parts.any():
        below = [torch.searchsorted(side.sort().values, middle) / len(side) for side in (target, safe)]
        errors = below[0] + 1 - below[1]
        least = parts & (errors <= errors[parts].min() + 1e-6)
        parting = middle[torch.where(least, gap, -1).argmax()]
        target, safe = target[target > parting], safe[safe <= parting]
    return target.quantile(TAIL).item(), safe.quantile(1 - TAIL).item()


@torch.no_grad()
def calibrate(network: Hypernetwork, conditions: Condition, labels: torch.Tensor) -> list[dict]:
    """Set each concept's threshold from held-out prompts; returns what was measured, a dict per concept.

    Raises ValueError where no held-out prompt names a concept, or all do.
    """
    scores = torch.cat([network.scores(conditions.rows(part)) for part in parts(conditions)])
    report = []
    for k in range(scores.shape[1]):
        target, safe = scores[labels[:, k] > 0.5, k], scores[labels[:, k] <= 0.5, k]
        if not len(target) or not len(safe):
            raise ValueError(
                f"the switch of concept {k + 1} cannot be calibrated: "
                f"of the held-out prompts {len(target)} name it and {len(safe)} do not, "
                "expected some of each; give more templates or more retain concepts"
            )
        low, high = edges(target, safe)
        threshold = high + MARGIN * (low - high)
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
