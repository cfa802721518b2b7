"""How many prompts a training reads: the token states of all of them lie in memory, and those of a hundred concepts would not fit.

Where there would be more, every concept gives up the same share of its own, and so do the prompts that are retained.
"""

import random
from itertools import groupby

from host.backbone import Backbone

from .prompts.concepts import Target

ROOM = 2**30  # numbers of token states
LEAST, EACH = 1500, 32  # prompts that are read however large they are: in all, and of a concept
TOKENS = 77  # of a prompt, where an encoder takes any number


def most_prompts(backbone: Backbone, concepts: int) -> int:
    """How many prompts' token states there is room for, of so many concepts."""
    _, tokens, width = backbone.encode([""]).tokens.shape
    return max(ROOM // (max(TOKENS, tokens) * width), LEAST, EACH * concepts)


def thinned(things: list, share: float, rng: random.Random) -> list:
    """A share of the things in their order, drawn at random; one of them at the least."""
    if share >= 1 or not things:
        return things
    return [things[i] for i in sorted(rng.sample(range(len(things)), max(1, round(share * len(things)))))]


def thinned_targets(targets: list[Target], share: float, rng: random.Random) -> list[Target]:
    """A share of every concept's target prompts, of those of one thing and of those of two."""
    groups = groupby(targets, lambda t: (t.named[0], t.prompt.pair))
    return [t for _, group in groups for t in thinned([*group], share, rng)]
