"""The prompts of every column: what is asked for, each from templates, style and backgrounds that no eraser is trained with.

A column's prompts take the nouns in turn, so that of few nouns each has many prompts and of a hundred each has some. Every
prompt is drawn once, its noise its own.
"""

import random

from demo.prompts import Judged
from evaluation.hard_prompts import FILLERS

from .words import Base, held_out, several

ENDINGS = ("face", "s", "-head")  # of compounds: catface
WORDS = 60  # of a long prompt
SEED = 7


def in_turn(base: Base, nouns: list[str], words_of, count: int) -> list[Judged]:
    """So many prompts of the nouns that have words, by `words_of` (noun -> words)."""
    nouns, found = [n for n in nouns if words_of(n)], []
    for i in range(count if nouns else 0):
        turn, which = divmod(i, len(nouns))
        words = words_of(nouns[which])
        # Every word gets to every template, and of many nouns each begins with another one.
        number = which + turn + turn // len(words)
        found.append(held_out(base.wording, number, (words[turn % len(words)], nouns[which]), natural=base.natural))
    return found


def meanings(base: Base, erased: list[str], count: int) -> dict[str, list[Judged]]:
    """Every way to mean an erased noun but its name and its captions' other words, which the table's own columns have."""
    words = base.wording.nouns
    columns = {
        "compound": lambda n: tuple(f"{n}{e}" for e in ENDINGS),
        "unseen": lambda n: base.unseen.get(n, ()),
        "description": lambda n: base.short.get(n, ()),
        "long_description": lambda n: (base.long[n],) if n in base.long else (),
    }
    found = {name: in_turn(base, erased, words_of, count) for name, words_of in columns.items()}
    rng, taken = random.Random(SEED), {part for ws in words.values() for w in ws for part in w.split()}
    fillers = [w for w in FILLERS if w not in taken]
    found["long"] = []
    for p in in_turn(base, erased, lambda n: (n,), count):
        extra = rng.choices(fillers, k=max(0, WORDS - len(p.text.split())))
        extra.insert(rng.randint(0, len(extra)), p.text)
        found["long"].append(Judged(" ".join(extra), p.nouns, p.words))
    return found


def wider(base: Base, erased: list[str], count: int) -> list[Judged]:
    """Wider words that mean an erased noun among others that stay; the nouns of a prompt are all that its word means."""
    words = [w for w, nouns in base.wider.items() if set(nouns) & set(erased) and set(nouns) - set(erased)]
    found = []
    for i in range(count if words else 0):
        word = words[i % len(words)]
        p = held_out(base.wording, i, (word, word), natural=base.natural)
        found.append(Judged(p.text, base.wider[word], p.words))
    return found


def beside(base: Base, erased: list[str], things: int, count: int) -> list[Judged]:
    """An erased noun at any place among so many things, the others drawn by a seed from what stays."""
    rng, others, found = random.Random(SEED + things), base.others(erased), []
    for i in range(count):
        noun = erased[i % len(erased)]
        nouns = rng.sample(others, things - 1)
        nouns.insert(i // len(erased) % things, noun)
        found.append(held_out(base.wording, i, *((n, n) for n in nouns)))
    return found


def both(base: Base, nouns: list[str], count: int) -> list[Judged]:
    """Pairs of two of the nouns, each at either side."""
    rng = random.Random(SEED)
    picked = [rng.sample(nouns, 2) for _ in range(count)] if len(nouns) > 1 else []
    return [held_out(base.wording, i, *((n, n) for n in pair)) for i, pair in enumerate(picked)]


def kept(base: Base, nouns: list[str], count: int) -> list[Judged]:
    """Nouns that stay, by all words of the base's captions."""
    return in_turn(base, nouns, lambda n: base.wording.nouns[n], count)


def table_sets(base: Base, likeness, count: int, others: int):
    """A function: erased nouns -> the three sets of the table's own accuracies; look-alikes stand apart from the others."""

    def sets(erased: list[str]) -> dict[str, list[Judged]]:
        near = likeness(erased)
        return {
            "erased": in_turn(base, erased, lambda n: (n,), count),
            "words": in_turn(base, erased, lambda n: base.wording.nouns[n][1:], count),
            "others": kept(base, [n for n in base.others(erased) if n not in near] or base.others(erased), others),
        }

    return sets


def safe(base: Base, erased: list[str], count: int) -> list[Judged]:
    """Natural captions, and plain ones, of one and two nouns that stay."""
    rng, others, found = random.Random(SEED), base.others(erased), {}
    templates = (*base.natural, *base.wording.templates)
    while len(found) < count:
        nouns = tuple(rng.sample(others, rng.randint(1, 2)))
        words = tuple(rng.choice(base.wording.nouns[n]) for n in nouns)
        style, background = rng.choice(base.wording.styles), rng.choice(base.wording.backgrounds)
        text = rng.choice(templates).format(subject=several(base.wording, 0, words), style=style, background=background)
        found[text] = Judged(text, nouns, words)
    return list(found.values())
