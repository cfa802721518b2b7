"""Text as people write it: the sentences and prompts in text/, and the places in them where another thing can stand.

A line of those files is a text, under the kind that the heading above it names. Braces mark a place, without its
article: "A woman walks her {dog} along the {beach} before sunrise." Nothing that a text denies is marked.
"""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

FOLDER = Path(__file__).parent / "text"
HEADING = "# "
IRREGULAR = {
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "tooth": "teeth",
    "woman": "women",
}


@dataclass(frozen=True)
class Written:
    text: str  # without braces
    kind: str
    places: tuple[tuple[int, int], ...]  # start and end of each mark in the text


Text = TypeVar("Text", str, Written)


@functools.cache
def written() -> tuple[Written, ...]:
    """Every bundled text, file by file in the order of their names."""
    return tuple(text for path in sorted(FOLDER.glob("*.txt")) for text in read(path))


def read(path: Path) -> list[Written]:
    """The texts of one file, each with the kind of the heading that it stands under."""
    kind, found = "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(HEADING):
            kind = line.removeprefix(HEADING).strip()
        elif line.strip():
            found.append(parsed(line.strip(), kind))
    return found


def parsed(line: str, kind: str) -> Written:
    """A line with its braces taken out and remembered."""
    text, places = "", []
    for number, part in enumerate(re.split(r"\{([^{}]*)\}", line)):
        if number % 2:
            places.append((len(text), len(text) + len(part)))
        text += part
    return Written(text, kind, tuple(places))


def put(of: Written, place: tuple[int, int], name: str) -> str:
    """The text with `name` in one of its places: "a" or "an" before it as its first letter asks, a capital where the text
    begins with one."""
    start, end = place
    before, marked, after = of.text[:start], of.text[start:end], of.text[end:]
    if not before and marked[:1].isupper():
        name = name[:1].upper() + name[1:]
    article = r"\1n " if name[:1].lower() in "aeiou" else r"\1 "
    return re.sub(r"\b([Aa])n? $", article, before) + name + after


def free_of(texts: Iterable[Text], words: Iterable[str]) -> list[Text]:
    """The texts that mention none of the words, in any case: alone, in the plural, with 's, beside a hyphen.

    A name of several words may be written with blanks, hyphens or underscores. "cat" in "catfish" is no mention of it,
    "dog" in "hot dog" is one.
    """
    every = list(texts)
    return [t for t, named in zip(every, mentioned([t if isinstance(t, str) else t.text for t in every], [words])) if not named]


def mentioned(texts: list[str], words: Sequence[Iterable[str]]) -> list[set[int]]:
    """Of each text the numbers of those groups of words of which it mentions one, as free_of has it."""
    names: dict[tuple[str, ...], set[int]] = {}
    for number, group in enumerate(words):
        for form in (form for word in group for form in forms_of(word)):
            names.setdefault(form, set()).add(number)
    lengths, found = {len(name) for name in names}, []
    for text in texts:
        parts = parts_of(text)
        spans = (tuple(parts[i : i + n]) for n in lengths for i in range(len(parts) - n + 1))
        found.append(set().union(*(names[s] for s in spans if s in names)))
    return found


def plural(word: str) -> str:
    """The plural of a word, or of the last one of a name."""
    first, blank, last = word.rpartition(" ")
    if last in IRREGULAR:
        last = IRREGULAR[last]
    elif re.search(r"[^aeiou]y$", last):
        last = last[:-1] + "ies"
    elif re.search(r"[^f]fe$", last):
        last = last[:-2] + "ves"
    else:
        last += "es" if re.search(r"(s|x|z|ch|sh)$", last) else "s"
    return first + blank + last


def parts_of(text: str) -> list[str]:
    """Words and signs of a text in lower case, hyphens and apostrophes taken for blanks."""
    return re.findall(r"[^\W_]+|[^\w\s'’\-\u2010-\u2015]", text.lower())


def forms_of(word: str) -> list[tuple[str, ...]]:
    """A word or a name in parts, in the singular and the plural, whichever of them it is given in."""
    if not (parts := parts_of(word)):
        return []
    *first, last = parts
    ends = {last, last + "s", last + "es", IRREGULAR.get(last, last)}
    if last.endswith("y"):
        ends.add(last[:-1] + "ies")
    if match := re.fullmatch(r"(.*[^f])fe?", last):  # wolf, knife; not cliff
        ends.add(match[1] + "ves")
    ends |= {one for one, many in IRREGULAR.items() if many == last}
    if len(last) > 3 and re.search(r"[^s]s$", last):
        ends.add(last[:-1])
        if last.endswith("ies"):
            ends.add(last[:-3] + "y")
        elif re.search(r"(ch|sh|x|ss|s)es$", last):
            ends.add(last[:-2])
        elif last.endswith("ves"):
            ends |= {last[:-3] + "f", last[:-3] + "fe"}
    return [(*first, end) for end in ends]
