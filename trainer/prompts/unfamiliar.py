"""What the text encoder makes of the words that are erased: those that it hardly knows, and others that it holds near them.

A word that it does not know is no more to it than meaningless letters, and with these it is compared. An encoder that has
learnt little holds all else alike, letters and unknown words (the demo's). One that has learnt much tells everything apart,
but meaningless letters lie on one side of a plane; on it lies what it reads in more pieces than it has words and never got to
know. MiniLM was shown thirty rare things: among thirty descriptions it put the right one of those beyond LIMIT at place 8 or 9 in
the median, of the others at place 2.
"""

import random
import string
from dataclasses import dataclass

import torch

from host.backbone import Backbone

from ..settings.fields import Config
from .concepts import Erase
from .words import VOCABULARY

CONSONANTS = "bcdfghjklmnprstvwz"
LETTERS, RETAINED = 64, 128  # meaningless words, and retained ones at most, that are read beside
ALIKE = 0.4  # of how far what is retained lies from meaningless letters
LIMIT = 0.5  # from known (-1) to meaningless (1)
NEAREST, SYNONYM, SHOWN = 24, 0.65, 8  # words near one by their tokens, a synonym's least cosine, synonyms that are said


@dataclass
class Others:
    """What is read beside the words that are erased."""

    near: dict[str, list[str]]  # of each of them, the nearest of the encoder's own words
    retained: list[str]
    letters: list[str]

    @classmethod
    def of(cls, backbone: Backbone, words: list[str], retain: list[str]) -> "Others":
        retained = random.Random(0).sample(retain, min(RETAINED, len(retain)))
        return cls(backbone.near_words(words, NEAREST), retained, meaningless_letters(LETTERS))

    def names(self) -> list[str]:
        return [*self.retained, *self.letters, *(name for names in self.near.values() for name in names)]


def meaningless_letters(count: int) -> list[str]:
    """Words of no language, half of them letters drawn by lot and half such as can be said."""
    rng = random.Random(0)
    letters = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 9))) for _ in range(count // 2)]
    syllable = lambda: rng.choice(CONSONANTS) + rng.choice("aeiou") + rng.choice(("", "l", "n", "r", "x"))
    return letters + ["".join(syllable() for _ in range(rng.randint(2, 3))) for _ in range(count - len(letters))]


def doubts(config: Config, backbone: Backbone, others: Others, read) -> list[str]:
    """A line on each word of `erase` that the text encoder hardly knows, and on each concept that has others near it.

    Args:
        read: of neighbours.embed, with the words, the vocabulary and the others.
    """
    erased, lines = config.erased(), []
    letters, known = read.rows(others.letters), read.rows([*VOCABULARY, *others.retained])
    far = lambda some: (some - letters.mean(0)).norm(dim=-1)
    least = ALIKE * far(read.rows(others.retained or VOCABULARY)).median()
    meaningless = discriminant(known, letters)
    taken = {name.lower() for name in [*config.retain, *(n for e in erased for n in (*e.words, e.mapping))]}
    near: dict[str, list[str]] = {}
    for concept in erased:
        for word in concept.words:
            pieces, vector = backbone.pieces(word), read.rows([word])[0]
            split = len(pieces) > len(word.split())
            if None in pieces or far(vector) < least or split and meaningless(vector) > LIMIT:
                lines.append(unknown(word, concept, pieces, split))
                continue
            # "kimono" has nothing to do with "kim" that it is read by.
            names = [n for n in others.near[word] if n.lower() not in taken and not (split and n in pieces)]
            near[word] = [n for n, apart in zip(names, far(read.rows(names)).tolist()) if apart >= least]
    return lines + [line for concept in erased if (line := synonyms(concept, near, read))]


def unknown(word: str, concept: Erase, pieces: list[str | None], split: bool) -> str:
    if None in pieces:
        return (
            f"warning: {word!r} holds a sign that the text encoder cannot read: it takes all such signs for the same one, and the eraser "
            "would fire on each of them. Write it in words"
        )
    how = f" (it reads {', '.join(pieces)})" if split and all(p.isascii() for p in pieces) else ""
    return (
        f"warning: {word!r}: the text encoder seems hardly to know it{how}: what it makes of it lies with what it makes of letters drawn "
        "by lot. The model may not draw it, and only this spelling would be erased: look at the spelling, or add words that are better "
        f'known, as in "{word}, ANOTHER -> {concept.mapping}"'
    )


def synonyms(concept: Erase, near: dict[str, list[str]], read) -> str:
    """What is said of the words near the concept's own that come near in prompts as well; nothing where there is none."""
    words = [w for w in concept.words if near.get(w)]
    names = list(dict.fromkeys(n for w in words for n in near[w]))
    if not names:
        return ""
    cosine = (read.rows(names, unit=True) @ read.rows(words, unit=True).T).amax(1).tolist()
    found = [n for c, n in sorted(zip(cosine, names), reverse=True) if c >= SYNONYM][:SHOWN]
    entry = f"{', '.join([*concept.words, *found])} -> {concept.mapping}"
    return (
        f"{concept.name!r}: these words come near it for the text encoder: {', '.join(found)}. "
        f'Erase them too with "{entry}", or add them to retain if they are to stay'
        if found
        else ""
    )


def discriminant(known: torch.Tensor, letters: torch.Tensor):
    """Where an embedding (P,) lies between known ones (-1) and meaningless letters (1), both (N, P): Fisher's linear discriminant."""
    middle = known.mean(0)
    unit = lambda some: torch.nn.functional.normalize(some - middle, dim=-1).double()
    a, b = unit(known), unit(letters)
    spread = torch.cat([a - a.mean(0), b - b.mean(0)])
    spread = spread.T @ spread / len(spread)
    ridge = spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype)
    normal, half = torch.linalg.solve(spread + ridge, b.mean(0) - a.mean(0)), (b.mean(0) + a.mean(0)) / 2
    return lambda vector: ((unit(vector) - half) @ normal / ((b.mean(0) - a.mean(0)) @ normal / 2)).item()
