"""The maps of token states (unhype/rewriting.py), fitted from what the text encoder makes of target prompts and their mapped prompts.

    min over M, d of  sum_i || x_i + (x_i - m) M + d - y_i ||^2  +  n r v || M ||^2,   U V ~ M

x_i are the states of a concept's target prompts that are above its threshold, y_i those in the answering places, m the mean of the
x_i and v the mean variance of their numbers. U V is the matrix of its rank with the least error on the x_i.

The adapter is trained with half of every batch's prompts rewritten and half as they are: what it has to add is little then, so
that things beside keep what is theirs, and it erases by itself where nothing can be rewritten, in a LoRA that is baked without the model.
"""

import torch
from torch import nn

from unhype.condition import Condition
from unhype.hypernetwork import Factors, Hypernetwork

from .prompts.answering import Answers

RIDGE = 0.1
TEXTS, ROWS = 1500, 20_000  # that the probe of a word's pieces is fitted on, and of their states
FALSE, SEEN = 0.005, 0.5  # of held-out states that it may take for a piece; of pieces that it has to find, or there is none
HELD_OUT = 5  # every fifth text
DECAY, TURNS = 1e-4, 60


def fit(network: Hypernetwork, data) -> None:
    """Fit network.rewriting, its switch being fitted, on the training's target prompts and on those that are only read."""
    found: list[list[tuple[torch.Tensor, torch.Tensor]]] = [[] for _ in range(network.shape.concepts)]
    sources = [(data.text, data.answers, data.labels.named)]
    if data.text_task:
        sources.append((data.text_task.text, data.text_task.answers, data.text_task.labels.named))
    for text, answers, named in sources:
        for k, states in enumerate(firing(network, text, answers, named)):
            found[k].append(states)
    for k, states in enumerate(found):
        x, change = (torch.cat(t) for t in zip(*states))
        if len(x):
            for name, value in zip(("mean", "shift", "down", "up"), ridge(x, change, RIDGE, network.shape.rewrite)):
                getattr(network.rewriting, name)[k] = value


def fit_joins(network: Hypernetwork, backbone, reading) -> None:
    """Fit the probe of states that go on with the word before them, by how the tokenizer splits written text."""
    picked = torch.arange(len(reading.texts))[:: max(1, len(reading.texts) // TEXTS)]
    some, texts = reading.states.rows(picked), [reading.texts[i] for i in picked.tolist()]
    flags = torch.zeros(len(some.flat), dtype=torch.bool)
    for start, length, own in zip((some.length.cumsum(0) - some.length).tolist(), some.length.tolist(), backbone.goes_on(texts)):
        flags[start : start + length][: len(own)] = torch.tensor(own[:length])
    states, held_out = network.standardise.states(some.flat.float()), some.prompt() % HELD_OUT == HELD_OUT - 1
    pieces, others = (states[~held_out & (flags == side)] for side in (True, False))
    if not len(pieces) or not (held_out & flags).any():
        return
    pieces, others = pieces[:: max(1, 2 * len(pieces) // ROWS)], others[:: max(1, 2 * len(others) // ROWS)]
    weight = logistic(torch.cat([pieces, others]), torch.cat([torch.ones(len(pieces)), torch.zeros(len(others))]))
    level = (states[held_out & ~flags] @ weight).quantile(1 - FALSE)
    if (states[held_out & flags] @ weight > level).float().mean() >= SEEN:
        network.rewriting.joins.copy_(weight)
        network.rewriting.joint.copy_(level)


def logistic(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The weights (D,) of a logistic regression of y (n,) on the rows of x (n, D), with a bias that is left out."""
    weight, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=TURNS)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = nn.functional.binary_cross_entropy_with_logits(x @ weight + bias, y) + DECAY * weight.square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    return weight.detach()


@torch.no_grad()
def firing(network: Hypernetwork, text, answers: Answers, named: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Of every concept the firing states of the prompts that name it alone, and how they change: (n, D) twice."""
    usable = answers.answered & (named.sum(1, keepdim=True) == 1)
    taken = (margins(network, text.condition()) > 0) & usable[..., None] & named[:, None]
    return [(text.tokens[own].float(), answers.change[own].float()) for own in taken.unbind(2)]


def margins(network: nn.Module, condition: Condition) -> torch.Tensor:
    """How far every token state is above every concept's threshold, (N, T, K); -inf where it carries nothing."""
    scores = network.switch.per_token(network.standardise.states(condition.tokens)) - network.switch.threshold
    return scores.masked_fill(~condition.mask[..., None], -torch.inf)


def ridge(x: torch.Tensor, change: torch.Tensor, strength: float, rank: int) -> tuple[torch.Tensor, ...]:
    """The map of the module's equation from rows x (n, D) to x + change: m (D,), d (D,), U (D, rank), V (rank, D)."""
    mean, shift = x.mean(0), change.mean(0)
    centred = x - mean
    gram = centred.T @ centred
    level = strength * gram.diagonal().mean().clamp_min(1e-6)
    whole = torch.linalg.solve(gram + level * torch.eye(x.shape[1]), centred.T @ (change - shift))
    up = torch.linalg.svd(centred @ whole, full_matrices=False).Vh[:rank]
    missing = rank - len(up)
    return mean, shift, nn.functional.pad(whole @ up.T, (0, missing)), nn.functional.pad(up, (0, 0, 0, missing))


def on_some(factors: list[Factors], rows: torch.Tensor) -> list[Factors]:
    """The same adapters, and the states rewritten in some rows, (N,) bool, alone."""
    rewrite = factors[0].rewrite and factors[0].rewrite.scaled(rows)
    return [Factors(f.down, f.up, rewrite) for f in factors]
