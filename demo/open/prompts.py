"""Prompts that the emoji-open base itself is measured with: every word and description, held-out ones, pairs."""

import numpy as np

from ..captions import BACKGROUNDS
from ..prompts import Judged
from .captions import JOINTS, NATURAL, STYLES, TEMPLATES, subject, with_article
from .nouns import NOUNS

SEED, PAIRS = 45, 400
TEXTS = TEMPLATES + NATURAL


def judged(number: int, phrases: list[str], nouns: list[str]) -> Judged:
    """The number-th prompt of a set: template, style, background and joint go round at different speeds."""
    template, style = TEXTS[number % len(TEXTS)], STYLES[number // 3 % len(STYLES)]
    background = tuple(BACKGROUNDS)[number // 5 % len(BACKGROUNDS)]
    text = template.format(subject=subject(*phrases, joint=JOINTS[number % len(JOINTS)]), style=style, background=background)
    return Judged(text, tuple(nouns), tuple(phrases))


def prompt_sets() -> dict[str, list[Judged]]:
    """Prompts by what they name nouns with: words (`single`, `pair`) and descriptions that captions held, and others."""
    phrases = {
        "single": lambda noun: [with_article(w) for w in noun.words],
        "description": lambda noun: noun.descriptions,
        "unseen_words": lambda noun: [with_article(w) for w in noun.held_out_words],
        "unseen_descriptions": lambda noun: [noun.held_out_description],
        "long_descriptions": lambda noun: [noun.long_description],
    }
    sets = {
        name: [judged(i, [phrase], [noun]) for i, (phrase, noun) in enumerate((p, n.name) for n in NOUNS.values() for p in of(n))]
        for name, of in phrases.items()
    }
    rng = np.random.default_rng(SEED)
    both = [rng.choice(list(NOUNS), 2, replace=False).tolist() for _ in range(PAIRS)]
    sets["pair"] = [judged(i, [with_article(str(rng.choice(NOUNS[n].words))) for n in pair], pair) for i, pair in enumerate(both)]
    return sets
