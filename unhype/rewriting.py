"""What the adapted layers read of a prompt that fires: each firing token state as if the mapping concept stood in the word's place.

    x' = x + (x - m_k) U_k V_k + d_k

for a state x above the threshold of concept k. m, d, U and V are fitted from the text encoder alone (trainer/rewriting.py), a
ridge regression from the states of target prompts to those of their mapped prompts. So a state keeps what it says of style,
background and neighbours. It is done ROUNDS times, for a state may carry two erased nouns.

An encoder reads a rarer word in pieces ("uk", "##ule", "##le"), of which often one fires and all carry the word. A linear probe
tells which states go on with the word before them, and a word's other pieces are read as the one that fires most.

Changing the embedding that a presence score points at is the idea of Semantic Surgery (arXiv 2510.22851) and MapRoute
(CVPR 2026); the ridge regression in place of a subtraction is ours, and that an adapter is trained on top of it.
"""

from copy import deepcopy

import torch
from torch import nn

from .condition import Standardise, Switch

ROUNDS = 3
FARTHEST = 8.0  # that a state is moved, as a multiple of its own length; trained ones move it by 0.3 to 1.5


class Maps(nn.Module):
    """The maps of K concepts; until they are fitted they change nothing."""

    mean: torch.Tensor
    shift: torch.Tensor
    down: torch.Tensor
    up: torch.Tensor
    joins: torch.Tensor  # (D,) the probe of states that go on with the word before them, and what they are above
    joint: torch.Tensor  # ()

    def __init__(self, concepts: int, token_dim: int, rank: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(concepts, token_dim))
        self.register_buffer("shift", torch.zeros(concepts, token_dim))
        self.register_buffer("down", torch.zeros(concepts, token_dim, rank))
        self.register_buffer("up", torch.zeros(concepts, rank, token_dim))
        self.register_buffer("joins", torch.zeros(token_dim))
        self.register_buffer("joint", torch.ones(()))

    def forward(self, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        """The change of states x (N, T, D), each by the maps of the concepts chosen for it, 0 or 1, (N, T, K)."""
        inner = torch.einsum("ntd,kdr->ntkr", x, self.down) - torch.einsum("kd,kdr->kr", self.mean, self.down)
        return (inner * chosen[..., None]).flatten(2) @ self.up.flatten(0, 1) + chosen @ self.shift


def whole_words(before: torch.Tensor, now: torch.Tensor, score: torch.Tensor, goes_on: torch.Tensor) -> torch.Tensor:
    """States `now` (N, T, D), those that are still as `before` replaced by their word's of the highest score (N, T) above 0.

    goes_on: (N, T) bool, states that belong to the word of the state before them.
    """
    word = (~goes_on).cumsum(1)
    apart = word[:, :, None] != word[:, None]
    highest, source = score[:, None].expand(apart.shape).masked_fill(apart, -torch.inf).max(2)
    follows = (highest > 0) & (now == before).all(2)
    return torch.where(follows[..., None], now.gather(1, source[..., None].expand(now.shape)), now)


class Rewrite:
    """Of some rows: which of their states are changed, and by how much.

    Args:
        on: (N, K) bool, concepts whose states are changed. share: (N,) how much of the change is made.
    """

    def __init__(self, standardise: Standardise, switch: Switch, maps: Maps, on: torch.Tensor, share: torch.Tensor):
        self.standardise, self.switch, self.maps, self.on, self.share = standardise, switch, maps, on, share
        self.there: dict[torch.device, Rewrite] = {}

    def of(self, on: torch.Tensor, share: torch.Tensor) -> "Rewrite":
        return Rewrite(self.standardise, self.switch, self.maps, on, share)

    def rows(self, index: slice | torch.Tensor) -> "Rewrite":
        return self.of(self.on[index], self.share[index])

    def scaled(self, share: torch.Tensor) -> "Rewrite":
        return self.of(self.on, self.share * share.to(self.share))

    def to(self, device: torch.device) -> "Rewrite":
        """The same on a device; the same object whenever it is asked for again."""
        if self.on.device == device:
            return self
        if device not in self.there:
            standardise, switch, maps = deepcopy(self.standardise), deepcopy(self.switch), deepcopy(self.maps)
            own = standardise.to(device), switch.to(device), maps.to(device)
            self.there[device] = Rewrite(*own, self.on.to(device), self.share.to(device))
        return self.there[device]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """The states (N, T, D) as they are to be read, in their own type."""
        before = now = x.float()
        carries = (before != 0).any(2, keepdim=True) & self.on[:, None]
        scores = []
        for _ in range(ROUNDS):
            margin = (self.switch.per_token(self.standardise.states(now)) - self.switch.threshold).masked_fill(~carries, -torch.inf)
            highest, concept = margin.max(2)
            scores.append(highest)
            chosen = nn.functional.one_hot(concept, margin.shape[2]) * (highest > 0)[..., None]
            now = now + self.maps(now, chosen.to(now.dtype))
        goes_on = (self.standardise.states(before) @ self.maps.joins > self.maps.joint) & carries.any(2)
        now = whole_words(before, now, scores[0], goes_on)
        change = now - before
        most = FARTHEST * torch.linalg.vector_norm(before, dim=2, keepdim=True)
        change = change * (most / torch.linalg.vector_norm(change, dim=2, keepdim=True).clamp_min(1e-12)).clamp_max(1)
        read: torch.Tensor = before + self.share[:, None, None] * change
        return read.to(x.dtype)
