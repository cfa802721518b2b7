"""What looks like a target to a text encoder and is none: other words that it reads in the same pieces, and signs that it cannot read.

A name that the encoder has no token for is read in pieces, and each of them stands in many other words: "Banksy" is "banks" and "y".
"""

import random
from collections.abc import Callable

from .concepts import Erase
from .rolls import roll
from .sentences import HELD_OUT, Sentence, held_out_kinds, with_name
from .unfamiliar import meaningless_letters
from .words import SIGNS
from .written import Written, forms_of, parts_of

TEXTS = 40  # of every word that is read in pieces
LENGTH = 2, 8  # words of a roll
OF_SIGNS = 60  # texts with signs
SHARED = 0.3  # of the pieces of a long word, beside one
KNOWN = 24  # of the encoder's own words that begin as a target does

Pieces = Callable[[str], list[str | None]]


def alike(erased: list[Erase], texts: tuple[Written, ...], vocabulary: list[str], pieces: Pieces, seed: int) -> list[Sentence]:
    """Texts of words that share pieces with a target's, and of signs; every fifth word is held out, with texts of the kinds that are."""
    apart, targets = held_out_kinds(texts), [word for e in erased for word in e.words]
    own = {form for target in targets for word in (target, *parts_of(target)) for form in forms_of(word)}
    found = []
    for out in (False, True):
        rng = random.Random(f"{seed} {out}")
        placed = [t for t in texts if t.places and (t.kind in apart) == out]
        share = 1 if out else HELD_OUT - 1
        for word in dict.fromkeys(part for target in targets for part in parts_of(target)):
            if len(parts := [p for p in pieces(word) if p]) < 2:
                continue
            others = [w for w in [*known(parts, vocabulary, seed), *made_up(parts, seed)] if tuple(parts_of(w)) not in own]
            mine = [w for i, w in enumerate(others) if (i % HELD_OUT == HELD_OUT - 1) == out]
            for number in range(TEXTS * share // HELD_OUT):
                some = rng.sample(mine, min(len(mine), rng.randint(*LENGTH)))
                found.append(Sentence(with_name(rng.choice(placed), some[0], rng) if placed and number % 2 else roll(some, rng), None, out))
        for number in range(OF_SIGNS * share // HELD_OUT):
            some = " ".join(rng.choices(SIGNS, k=rng.randint(1, 4)))
            found.append(Sentence(f"{rng.choice(placed).text} {some}" if placed and number % 2 else some, None, out))
    return found


def known(parts: list[str], vocabulary: list[str], seed: int) -> list[str]:
    """The pieces that are words by themselves, and words of the encoder's that begin with the first one."""
    first = [w for w in vocabulary if len(parts[0]) > 1 and w.startswith(parts[0])]
    return [p for p in parts if len(p) > 1] + random.Random(seed).sample(first, min(KNOWN, len(first)))


def made_up(parts: list[str], seed: int) -> list[str]:
    """Words with some of the pieces, and letters in the place of the others."""
    rng, found = random.Random(seed), []
    for letters in meaningless_letters(2 * TEXTS):
        kept = rng.randrange(len(parts))
        stays = [i == kept or (len(parts) > 2 and rng.random() < SHARED) for i in range(len(parts))]
        found.append("".join(p if stay else letters[: rng.randint(2, 5)] for p, stay in zip(parts, stays)))
    return found
