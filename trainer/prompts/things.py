"""Words for things, and what is a kind of what: things.txt, an outline that benchmarks/make_things.py takes out of WordNet 3.1.

A line holds the words of one sense between commas, and stands indented under what it is a kind of.
"""

import functools
from collections import defaultdict
from pathlib import Path

FILE = Path(__file__).with_name("things.txt")


class Things:
    """The outline's lines: their words, the line that each stands under, and the lines under it."""

    def __init__(self, text: str):
        self.words: list[list[str]] = []
        self.next_to: list[list[int]] = []
        self.lines_of: dict[str, list[int]] = defaultdict(list)
        above: list[int] = []
        for number, line in enumerate(text.splitlines()):
            depth = len(line) - len(line.lstrip())
            self.words.append([w for w in line.strip().split(", ") if w != "*"])
            self.next_to.append(above[depth - 1 : depth])
            above[depth:] = [number]
            for upper in self.next_to[number]:
                self.next_to[upper].append(number)
            for word in self.words[number]:
                self.lines_of[word].append(number)

    def related(self, word: str, most: int) -> list[str]:
        """The words of every sense of a word and of what lies around it in the outline, a few steps up or down first."""
        seen = dict.fromkeys(self.lines_of.get(word.lower(), ()))
        found: dict[str, None] = {}
        last = [*seen]
        while last and len(found) < most:
            found |= dict.fromkeys(w for number in last for w in self.words[number] if w != word.lower())
            last = list(dict.fromkeys(n for number in last for n in self.next_to[number] if n not in seen))
            seen |= dict.fromkeys(last)
        return [*found][:most]


@functools.cache
def things() -> Things:
    return Things(FILE.read_text(encoding="utf-8"))
