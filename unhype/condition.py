"""What the hypernetwork sees of a prompt, and the switch that decides whether a concept fires.

The condition is the whole conditioning: the pooled embedding (in ComfyUI the first 77-token chunk's only), where the family's
text encoders give one, and every token state of every chunk that the denoiser attends to, so that a word is seen wherever it
stands. The trainer and the nodes call the same `read_condition`; a file written for a newer VERSION is refused.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from .mask import seen

VERSION = 2  # 1 had a pooled embedding in every conditioning and no attention_mask
EPS = 1e-5
SHARPNESS, GATE = 3.0, 2.0
FAR = 1e5  # deviations from the mean beyond which no text encoder's numbers lie
TOGETHER = 2**26  # token state numbers that are worked on at a time


class Condition(NamedTuple):
    pooled: torch.Tensor  # (N, P), (N, 0) where none is read
    tokens: torch.Tensor  # (N, T, D)
    mask: torch.Tensor  # (N, T) bool, False where a token carries nothing

    def rows(self, index: Any) -> "Condition":
        return Condition(self.pooled[index], self.tokens[index], self.mask[index])

    def to(self, device: torch.device | str) -> "Condition":
        return Condition(*(t.to(device) for t in self))


def read_condition(
    tokens: torch.Tensor,
    pooled: torch.Tensor | None,
    where: str = "the conditioning",
    attention_mask: torch.Tensor | None = None,
    reads_pooled: bool = True,
) -> Condition:
    """The condition of a conditioning's token states (N, T, D) and pooled embedding (N or 1, P), in fp32 (bf16 stays).

    Token states that are exactly zero (ConditioningZeroOut, zero padding) or that the attention_mask hides are masked.
    Raises ValueError, naming `where`, when there is no pooled embedding where one is read, or the shapes do not belong together.
    """
    if not reads_pooled:
        pooled = tokens.new_zeros(1, 0)
    if pooled is None:
        raise ValueError(
            f"{where} has no pooled_output, which UnHype reads beside the token states: "
            "use a text encoder node that returns it (CLIPTextEncode does)"
        )
    if tokens.ndim != 3 or pooled.ndim != 2 or pooled.shape[0] not in (1, tokens.shape[0]):
        raise ValueError(
            f"{where} has token states of shape {tuple(tokens.shape)} and pooled_output of shape {tuple(pooled.shape)}; "
            "expected (N, tokens, width) and (N, width)"
        )
    tokens = tokens if tokens.dtype == torch.bfloat16 else tokens.float()
    pooled = pooled.float().expand(tokens.shape[0], -1)
    mask = (tokens.amax(-1) > 0) | (tokens.amin(-1) < 0)
    return Condition(pooled, tokens, mask if attention_mask is None else mask & seen(attention_mask, tokens, where))


def stack_conditions(conditions: list[Condition]) -> Condition:
    """Conditions one under the other, the shorter ones padded with masked zeros."""
    if len(conditions) == 1:
        return conditions[0]
    longest = max(c.tokens.shape[1] for c in conditions)
    pad = [longest - c.tokens.shape[1] for c in conditions]
    return Condition(
        torch.cat([c.pooled for c in conditions]),
        torch.cat([nn.functional.pad(c.tokens, (0, 0, 0, p)) for c, p in zip(conditions, pad)]),
        torch.cat([nn.functional.pad(c.mask, (0, p)) for c, p in zip(conditions, pad)]),
    )


def parts(condition: Condition) -> list[slice]:
    """The rows of a condition in parts of a size that can be worked on at once: T5's states are a million numbers a prompt."""
    count, length, width = condition.tokens.shape
    step = max(1, TOGETHER // (length * width))
    return [slice(start, start + step) for start in range(0, count, step)]


class Standardise(nn.Module):
    """Pooled embedding and token states brought to zero mean and unit deviation per channel, FAR from it at most."""

    pooled_mean: torch.Tensor
    pooled_deviation: torch.Tensor
    token_mean: torch.Tensor
    token_deviation: torch.Tensor

    def __init__(self, pooled_dim: int, token_dim: int):
        super().__init__()
        self.register_buffer("pooled_mean", torch.zeros(pooled_dim))
        self.register_buffer("pooled_deviation", torch.ones(pooled_dim))
        self.register_buffer("token_mean", torch.zeros(token_dim))
        self.register_buffer("token_deviation", torch.ones(token_dim))

    def fit(self, *conditions: Condition) -> None:
        """Take means and deviations from the training prompts."""
        pooled = torch.cat([c.pooled for c in conditions])
        if pooled.shape[1]:
            self.pooled_mean, self.pooled_deviation = pooled.mean(0), pooled.std(0) + EPS

        def seen() -> Iterator[torch.Tensor]:
            return (some.tokens[some.mask].double() for c in conditions for part in parts(c) for some in [c.rows(part)])

        count, nothing = sum(int(c.mask.sum()) for c in conditions), torch.zeros((), dtype=torch.float64, device=pooled.device)
        mean = sum((t.sum(0) for t in seen()), nothing) / count
        variance = sum(((t - mean).square().sum(0) for t in seen()), nothing) / (count - 1)
        self.token_mean, self.token_deviation = mean.float(), variance.sqrt().float() + EPS

    def forward(self, c: Condition) -> Condition:
        # In place from the first difference on: memory taken anew for every step would cost more than the steps.
        return Condition(
            (c.pooled - self.pooled_mean).div_(self.pooled_deviation).clamp_(-FAR, FAR),
            self.states(c.tokens),
            c.mask,
        )

    def states(self, tokens: torch.Tensor) -> torch.Tensor:
        """Token states (..., D) alone."""
        return (tokens - self.token_mean).div_(self.token_deviation).clamp_(-FAR, FAR)


class Summary(nn.Module):
    """A masked summary of the token states: softmax attention with learned queries, (N, T, D) -> (N, Q D)."""

    def __init__(self, queries: int, token_dim: int):
        super().__init__()
        self.query = nn.Parameter(torch.randn(queries, token_dim) / token_dim**0.5)

    def forward(self, c: Condition) -> torch.Tensor:
        score = (c.tokens @ self.query.T).masked_fill(~c.mask[..., None], -1e9)  # (N, T, Q)
        weight = score.softmax(1) * c.mask[..., None]
        return (weight.transpose(1, 2) @ c.tokens).flatten(1)


class Switch(nn.Module):
    """One score per concept: the highest that any token state reaches on a probe, linear, and with `look` also on what a hidden
    layer of that width, which all concepts share, makes of the state.

    A maximum, so that neither the length of a prompt nor where the word stands matters. A concept fires where
    its score is above its threshold, which is stored in the file beside the rates it was calibrated to.
    """

    threshold: torch.Tensor

    def __init__(self, concepts: int, token_dim: int, look: int = 0):
        super().__init__()
        self.look = nn.Linear(token_dim, look) if look else None
        self.seen = nn.Parameter(torch.zeros(concepts, look)) if look else None
        self.weight = nn.Parameter(torch.zeros(concepts, token_dim))
        self.bias = nn.Parameter(torch.zeros(concepts))
        self.register_buffer("threshold", torch.zeros(concepts))

    def forward(self, c: Condition, each: torch.Tensor | None = None) -> torch.Tensor:
        """Scores (N, K) of a standardised condition; -inf where no token carries anything. each: `per_token`, where it is known."""
        each = self.per_token(c.tokens) if each is None else each
        return each.masked_fill(~c.mask[..., None], -torch.inf).amax(1)

    def fires(self, scores: torch.Tensor, off: torch.Tensor | None = None) -> torch.Tensor:
        """Whether any concept's score (N, K) is above its threshold that is not off (N or 1, K): (N,) bool."""
        firing = scores > self.threshold
        return (firing if off is None else firing & ~off).any(1)

    def per_token(self, tokens: torch.Tensor) -> torch.Tensor:
        """Each standardised token state (..., D) on each concept's probe, (..., K)."""
        linear = tokens @ self.weight.T + self.bias
        if self.look is None or self.seen is None:
            return linear
        return linear + nn.functional.silu(self.look(tokens)) @ self.seen.T

    def gates(self, c: Condition, off: torch.Tensor | None = None, each: torch.Tensor | None = None) -> torch.Tensor:
        """How far each concept is above its threshold, 0..1, (N, K); 0 where it is off."""
        gates: torch.Tensor = (GATE * (self(c, each) - self.threshold)).sigmoid()
        return gates if off is None else gates.masked_fill(off, 0)

    def firing_state(self, c: Condition, off: torch.Tensor | None = None, each: torch.Tensor | None = None) -> torch.Tensor:
        """The token states that come nearest to firing, (N, D): however long the prompt is, the erased word stands out.

        A softmax over tokens of SHARPNESS times the highest margin above a threshold, of the concepts that are not off.
        """
        margin = (self.per_token(c.tokens) if each is None else each) - self.threshold  # (N, T, K)
        if off is not None:
            margin = margin.masked_fill(off[:, None], -1e4)
        weight = (SHARPNESS * margin.amax(2)).masked_fill(~c.mask, -1e9).softmax(1)
        return (weight[:, None] @ c.tokens)[:, 0]
