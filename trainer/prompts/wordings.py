"""The same meaning in other wordings: what the hypernetwork reads of a prompt varies while the picture stays.

A host joins prompts in more ways than training prompts come in: text beyond 75 tokens and ConditioningConcat put
chunks behind each other, the pooled embedding staying the first one's; ConditioningAverage blends two prompts,
"(word:1.4)" scales its states. An eraser that has only read tidy prompts loses the
concept there, so that training joins them in the same ways.
"""

import torch

from unhype.condition import Condition

CHUNKS = 3  # at most, beside the prompt's own
SHARE_WEIGHTED, SHARE_AMONG = 0.2, 0.4  # of batches, and of the other ones:
SHARE_CHUNKS, SHARE_AVERAGED = 0.3, 0.2
WEIGHTS = 0.6, 1.6
LEAST = 0.5  # a prompt's share when it is averaged


def joined(condition: Condition, others: Condition, rng: torch.Generator) -> Condition:
    """Conditions (N rows, one chunk each) as they are, among chunks of random `others`, or averaged with one of them."""
    drawn = torch.rand((), generator=rng).item()
    if drawn < SHARE_CHUNKS:
        return among_chunks(condition, others, 1 + int(torch.randint(CHUNKS, (), generator=rng)), rng)
    if drawn < SHARE_CHUNKS + SHARE_AVERAGED:
        return averaged(condition, others, rng)
    return condition


def among_chunks(condition: Condition, others: Condition, count: int, rng: torch.Generator) -> Condition:
    """Each prompt's chunk at a random place among `count` chunks of others; the pooled embedding is the first chunk's."""
    n = len(condition.pooled)
    picks = torch.randint(len(others.pooled), (count, n), generator=rng)
    chunks = [condition, *(others.rows(p) for p in picks)]
    place = torch.randint(count + 1, (n,), generator=rng)
    # Swap chunk 0, the prompt's own, with the one at its place.
    order = torch.arange(count + 1).repeat(n, 1)
    rows = torch.arange(n)
    order[:, 0], order[rows, place] = place, 0
    pick = lambda values: torch.stack(values, 1)[rows[:, None], order]
    tokens, mask = pick([c.tokens for c in chunks]), pick([c.mask for c in chunks])
    return Condition(pick([c.pooled for c in chunks])[:, 0], tokens.flatten(1, 2), mask.flatten(1, 2))


def weighted(tokens: torch.Tensor, empty: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Token states (N, T, D) as of "(prompt:1.4)": each row's, or some of its tokens', distance from the empty prompt's
    scaled by its own weight."""
    n, length, _ = tokens.shape
    weight = WEIGHTS[0] + (WEIGHTS[1] - WEIGHTS[0]) * torch.rand(n, 1, 1, generator=rng)
    some = (torch.rand(n, length, 1, generator=rng) < 0.5) | (torch.rand(n, 1, 1, generator=rng) < 0.5)
    return torch.where(some, empty + weight * (tokens - empty), tokens)


def averaged(condition: Condition, others: Condition, rng: torch.Generator) -> Condition:
    """Each prompt blended with a random other one, as ConditioningAverage does."""
    other = others.rows(torch.randint(len(others.pooled), (len(condition.pooled),), generator=rng))
    share = LEAST + (1 - LEAST) * torch.rand(len(condition.pooled), 1, generator=rng)
    blend = lambda a, b, w: w * a + (1 - w) * b
    return Condition(
        blend(condition.pooled, other.pooled, share),
        blend(condition.tokens, other.tokens, share[..., None]),
        condition.mask | other.mask,
    )
