"""Rolls: lists of names, and of the text encoder's own words, without and with targets among them.

Many prompts end in names, one behind the other, and between other names a name is not what it is in a sentence. And of all that the
encoder can read, written text holds the least part: the words of its own vocabulary stand for the rest.
"""

import random

from .concepts import Erase
from .names import NAMES
from .sentences import HELD_OUT, Sentence, held_out_kinds
from .templates import fill
from .written import Written, free_of

WORDS, PEOPLE = 300, 200  # rolls of words and of names without a target
TARGETS, FEWEST = 120, 24  # with targets, of one concept; of more as their root, and at least so many of each
# Concepts in a roll: one, from AMONG in a file on two. Where ten are named together each is heard less than in any prompt that is written.
AMONG, TOGETHER = 10, 2
LENGTH = 3, 24  # words or names in a roll
JOINED = (", ", ", by ", ". ")
SIGNS = (", ", ", ", " ", " and ", ". ")


def rolls(erased: list[Erase], texts: tuple[Written, ...], vocabulary: list[str], seed: int) -> list[Sentence]:
    """Rolls of `vocabulary` and of names that share no word with a concept's, every other one behind one of the texts.

    Every fifth name, word and roll is held out, with texts of the kinds that are.
    """
    own = {part for e in erased for word in e.words for part in word.lower().split()}
    groups, apart = [free_of(group, own) for group in NAMES], held_out_kinds(texts)
    words = random.Random(seed).sample(sorted(vocabulary), len(vocabulary))
    found = []
    for out in (False, True):
        rng = random.Random(f"{seed} {out}")
        mine = lambda names, out=out: [n for i, n in enumerate(names) if (i % HELD_OUT == HELD_OUT - 1) == out]
        share = lambda count, out=out: max(1, count * (1 if out else HELD_OUT - 1) // HELD_OUT)
        pools = [pool for pool in map(mine, groups) if pool]
        some_words, some = iter(mine(words)), [""] + [t.text for t in texts if (t.kind in apart) == out]
        for _ in range(share(WORDS)):
            found.append(Sentence(roll([w for _, w in zip(range(rng.randint(*LENGTH)), some_words)], rng), None, out))
        found += [Sentence(behind(some, roll(names(pools, rng), rng), rng), None, out) for _ in range(share(PEOPLE))]
        every, lot = mine(words), random.Random(seed)
        count, order = min(TOGETHER, 1 + len(erased) // AMONG), []
        for number in range(share(max(round(TARGETS * len(erased) ** 0.5), FEWEST * len(erased)))):
            if len(order) < count:
                order += lot.sample(range(len(erased)), len(erased))
            named, order = list(dict.fromkeys(order[:count])), order[count:]
            by_name = number * count // len(erased) % 2
            among = names(pools, rng) if by_name else rng.sample(every, min(len(every), rng.randint(*LENGTH)))
            text = with_targets(erased, named, among, rng)
            found.append(Sentence(behind(some, text, rng), named[0], out, tuple(named[1:])))
    return [s for s in found if s.text]


def names(pools: list[list[str]], rng: random.Random) -> list[str]:
    """Names of one kind, or of all kinds."""
    pool = rng.choice([*pools, [n for some in pools for n in some]])
    return rng.sample(pool, min(len(pool), rng.randint(*LENGTH)))


def with_targets(erased: list[Erase], named: list[int], among: list[str], rng: random.Random) -> str:
    """A roll with these concepts at places drawn by lot."""
    for k in named:
        word = rng.choice(erased[k].words)
        among.insert(rng.randint(0, len(among)), rng.choice((word, word, fill("a {}", word))))
    return roll(among, rng)


def behind(texts: list[str], roll: str, rng: random.Random) -> str:
    """A roll as it is, or behind one of the texts."""
    return roll if rng.random() < 0.5 else f"{rng.choice(texts).rstrip(' .,')}{rng.choice(JOINED)}{roll}".lstrip(" .,")


def roll(parts: list[str], rng: random.Random) -> str:
    return rng.choice(SIGNS).join(parts)
