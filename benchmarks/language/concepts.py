"""The concepts that the benchmark erases, read from concepts.txt, and whether a text mentions one."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FILE = Path(__file__).with_name("concepts.txt")
FEW = "ten"  # the group of the ten that are also measured alone
NAMED = 2  # synonyms that a user adds to the name, of the list
NEGATIONS = r"\b(?:no|not|never|without|minus|isn't|aren't|n't|free of|instead of)(?:[\s-]+\w+){0,2}[\s-]+"


def both_numbers(word: str) -> str:
    """A pattern of a word or phrase in one or more, blanks and hyphens alike."""
    text = r"[\s-]+".join(map(re.escape, re.split(r"[\s-]+", word.lower())))
    for one, more in (("y", "ies"), ("fe", "ves"), ("man", "men")):
        if text.endswith(one):
            return f"{text.removesuffix(one)}(?:{one}s?|{more})"
    return f"{text}(?:e?s)?"


def pattern(words: tuple[str, ...]) -> re.Pattern:
    """Whole words of a text in lower case; matches nothing where there is no word."""
    return re.compile(rf"\b(?:{'|'.join(map(both_numbers, sorted(words, key=len, reverse=True)))})\b" if words else r"(?!)")


@dataclass(frozen=True)
class Concept:
    name: str
    mapping: str
    group: str
    kind: str  # thing, person, style or matter: how it stands in a sentence
    synonyms: tuple[str, ...]  # every other word that mentions it
    homonyms: tuple[str, ...]  # that hold its name and mean something else
    near: tuple[str, ...]  # things that are not it

    @property
    def entry(self) -> str:
        """As a user writes it, by the name alone."""
        return f"{self.name} -> {self.mapping}"

    @property
    def entry_with_synonyms(self) -> str:
        return f"{', '.join((self.name, *self.synonyms[:NAMED]))} -> {self.mapping}"

    @property
    def phrase(self) -> str:
        """The concept in a sentence: a thing with its article."""
        return with_article(self.name) if self.kind == "thing" else self.name

    @cached_property
    def named(self) -> re.Pattern:
        return pattern((self.name,))

    @cached_property
    def other_words(self) -> re.Pattern:
        return pattern(self.synonyms)

    @cached_property
    def homonym(self) -> re.Pattern:
        return pattern(tuple(h for h in self.homonyms if self.named.search(h.lower())))

    @cached_property
    def negated(self) -> re.Pattern:
        return re.compile(NEGATIONS + self.named.pattern)

    def side(self, text: str) -> str:
        """On which side of the switch a text belongs.

        "named": it holds the name as a whole word. "none": neither the name nor another word that mentions the concept.
        "synonym": another word alone; "negated": the name behind a no; "homonym": the name only as a part of a phrase
        that means something else. These three are measured, but on neither side.
        """
        text = text.lower()
        rest = self.homonym.sub(" ", text)
        if self.named.search(rest):
            return "negated" if self.negated.search(rest) else "named"
        if self.other_words.search(rest):
            return "synonym"
        return "homonym" if rest != text else "none"


def with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def read(file: Path = FILE) -> list[Concept]:
    """All concepts of the file, the ten first."""
    concepts, group, kind = [], "", ""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            kind, group = line.strip("[]").split(" ", 1)
        elif line and not line.startswith("#"):
            entry, *lists = line.split("|")
            name, mapping = entry.split(" -> ")
            words = [tuple(w.strip() for w in text.split(",") if w.strip()) for text in lists]
            concepts.append(Concept(name.strip(), mapping.strip(), group, kind, *words))
    return concepts


def few(concepts: list[Concept]) -> list[Concept]:
    return [c for c in concepts if c.group == FEW]
