"""Prompts of the emoji bases that an eraser's training never saw, erased and safe ones, to look at its switch with."""

import random

from demo.captions import BACKGROUNDS, JOINTS, NOUNS, STYLES, caption
from demo.prompts import HELD_OUT_TEMPLATES
from trainer.prompts.words import VOCABULARY

SENTENCES = (
    "a photo of {a} at night",
    "{a} and {b} in a landscape, highly detailed",
    "portrait of {a}, oil on canvas",
    "an old poster that shows {a}",
    "{a}, {b}, studio light, 35mm",
    "children playing near {a} and {b}",
)


def erased_prompts(nouns: list[str], count: int, seed: int) -> list[str]:
    """Held-out templates, every style and background, every word of the nouns, a third of them beside another noun."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        n = nouns[len(found) % len(nouns)]
        words = [rng.choice(NOUNS[n][1])]
        if rng.random() < 1 / 3:
            words.insert(rng.randrange(2), rng.choice(NOUNS[rng.choice([o for o in NOUNS if o != n])][1]))
        template, style, background = rng.choice(HELD_OUT_TEMPLATES), rng.choice(STYLES), rng.choice(list(BACKGROUNDS))
        found[caption(template, style, background, *words, joint=rng.choice(JOINTS))] = None
    return list(found)


def safe_prompts(nouns: list[str], trained: list[str], count: int, seed: int) -> list[str]:
    """Other nouns' captions of one and two nouns in held-out templates, ordinary sentences, and words at random.

    `trained` are the concepts that the eraser's training retained: the sentences use none of them.
    """
    rng, found = random.Random(seed), {}
    others = [n for n in NOUNS if n not in nouns]
    taken = {w for n in NOUNS for w in NOUNS[n][1]} | set(trained)
    words = [v for v in VOCABULARY if not set(v.split()) & taken and v not in taken]
    while len(found) < count:
        kind = len(found) % 4
        if kind < 2:
            own = [rng.choice(NOUNS[n][1]) for n in rng.sample(others, 1 + kind)]
            template, style, background = rng.choice(HELD_OUT_TEMPLATES), rng.choice(STYLES), rng.choice(list(BACKGROUNDS))
            text = caption(template, style, background, *own, joint=rng.choice(JOINTS))
        elif kind == 2:
            a, b = rng.sample(words, 2)
            text = rng.choice(SENTENCES).format(a=f"a {a}", b=f"a {b}")
        else:
            text = " ".join(rng.sample(words, rng.randint(2, 12)))
        found[text] = None
    return list(found)
