"""Erasing without training: where the switch fires the conditioning is rewritten, and the model is not touched.

Rivals of an adapter, behind the same switch. `Whole`: the conditioning becomes the mapping concept's own. `Tokens`: the token
states above a concept's threshold change, each as the encoder would have changed it with the word replaced:

    x' = x + (x - m_k) U_k V_k + d_k

as our own rewriting has it (unhype/rewriting.py), fitted on more prompts and done again while a state still fires. With
`everywhere` all states of a prompt that fires change so, fitted on all of them: an encoder that reads both ways puts some of a
noun's meaning into every state, fired or not.
"""

from typing import NamedTuple

import torch
from torch import nn

from host.backbone import Backbone
from host.encode import Text
from trainer.prompts.answering import answering, token_ids
from trainer.prompts.concepts import Erase, Target, among_words
from trainer.prompts.templates import fill
from trainer.rewriting import RIDGE, margins, ridge
from unhype.condition import read_condition

AGAIN = 4  # rounds at most: as many erased nouns as one state may carry
RANK = 4
MOST = 20  # words that a prompt is put among


class Maps(NamedTuple):
    """What Tokens does to a firing state, of every concept."""

    mean: torch.Tensor  # (K, D)
    shift: torch.Tensor  # (K, D)
    down: torch.Tensor  # (K, D, rank)
    up: torch.Tensor  # (K, rank, D)


def pairs(network: nn.Module, backbone: Backbone, targets: list[Target], words: list[str], everywhere=False, seed: int = 0) -> list[tuple]:
    """For every concept (X, Y), both (n, D): the firing states of its target prompts and what they become in the mapped prompts.

    Each prompt also stands among `words`, the same in both. Only prompts that name one concept are taken.
    """
    targets = [t for t in targets if len(t.named) == 1 and not t.off]
    here, there = [t.prompt.text for t in targets], [t.mapped for t in targets]
    mixed = among_words(here, words, MOST, seed) if words else []
    longer = [(m, m.replace(a, b, 1), t) for m, a, b, t in zip(mixed, here, there, targets)]
    every = [*zip(here, there, targets), *longer]
    text = backbone.encode([*(a for a, _, _ in every), *(b for _, b, _ in every)])  # together, for one length
    one, two = text.rows(slice(len(every))), text.rows(slice(len(every), None))
    margin = margins(network, one.condition())
    found: list[tuple[list, list]] = [([], []) for _ in range(margin.shape[2])]
    for row, (a, b, target) in enumerate(every):
        places, answers = answering(token_ids(backbone, a), token_ids(backbone, b), text.tokens.shape[1])
        k = target.concept
        seen = margin[row, places, k]
        taken = (seen > -torch.inf) & (everywhere and bool((seen > 0).any()) or seen > 0)
        found[k][0].append(one.tokens[row, places[taken]]), found[k][1].append(two.tokens[row, answers[taken]])
    for k, (x, _) in enumerate(found):
        if not sum(map(len, x)):
            raise ValueError(f"rewriting: concept {k + 1} fires on none of its target prompts, expected it to fire on most of them")
    return [(torch.cat(x).float(), torch.cat(y).float()) for x, y in found]


def fit(network: nn.Module, backbone: Backbone, targets: list[Target], words: list[str], everywhere=False) -> Maps:
    """The maps of all concepts, from the text encoder alone."""
    return Maps(*map(torch.stack, zip(*(ridge(x, y - x, RIDGE, RANK) for x, y in pairs(network, backbone, targets, words, everywhere)))))


class Tokens(nn.Module):
    """Firing states change, or all of a prompt that fires: token states (N, T, D), pooled (N, P) -> the same, rewritten.

    SD 1.x reads no pooled embedding, which stays.
    """

    def __init__(self, network: nn.Module, maps: Maps, everywhere: bool = False):
        super().__init__()
        self.network, self.maps, self.everywhere = network, maps, everywhere

    @torch.no_grad()
    def forward(self, tokens: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        condition = read_condition(tokens, pooled)
        for _ in range(AGAIN):
            margin = margins(self.network, condition._replace(tokens=tokens.float()))
            if self.everywhere:
                margin = margin.amax(1, keepdim=True).expand_as(margin)
            highest, concept = margin.max(2)
            rows = ((highest > 0) & condition.mask).nonzero(as_tuple=True)
            if not len(rows[0]):
                break
            x, own = tokens[rows], Maps(*(t[concept[rows]] for t in self.maps))
            change = ((x - own.mean)[:, None] @ own.down @ own.up)[:, 0] + own.shift
            tokens = tokens.index_put(rows, (x + change).to(tokens.dtype))
        return tokens, pooled


class Whole(nn.Module):
    """The conditioning of a prompt that fires becomes that of the mapping concept whose score is highest."""

    def __init__(self, network: nn.Module, mapped: Text):
        super().__init__()
        self.network, self.mapped = network, mapped

    @torch.no_grad()
    def forward(self, tokens: torch.Tensor, pooled: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        highest, concept = margins(self.network, read_condition(tokens, pooled)).amax(1).max(1)
        fires = highest > 0
        own = self.mapped.rows(concept[fires])
        length = tokens.shape[1] - own.tokens.shape[1]  # what is longer than the mapping concept's prompt is empty
        states = nn.functional.pad(own.tokens, (0, 0, 0, max(0, length)))[:, : tokens.shape[1]]
        tokens, pooled = tokens.clone(), pooled.clone()
        tokens[fires], pooled[fires] = states.to(tokens), own.pooled.to(pooled)
        return tokens, pooled


def whole(network: nn.Module, backbone: Backbone, erased: list[Erase]) -> Whole:
    """Whole, with every concept's mapping concept alone in a prompt."""
    return Whole(network, backbone.encode([fill("a {}", e.mapping) for e in erased]))
