"""The nouns of the emoji-open base, read from nouns.txt beside this file, whose head describes its format."""

from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("nouns.txt")
SECTION = "[superordinates]"


@dataclass(frozen=True)
class Noun:
    """One thing that the base draws, and how captions speak of it."""

    name: str  # an eraser is trained with this word only
    group: str
    code: str  # its drawing in the emoji-datasource packages, as "1f431"
    flat: str  # its icon in fluent-emoji-flat
    emojione: str | None  # its icon in emojione, if that set has one
    words: tuple[str, ...]  # the name and the other words of its captions
    held_out_words: tuple[str, ...]  # words that no caption holds
    descriptions: tuple[str, ...]  # short, of its captions, without its words
    held_out_description: str
    long_description: str


def read_noun(block: str) -> Noun:
    """A noun from its four lines; raises ValueError naming its first line when one is missing."""
    head, *lines = block.strip().splitlines()
    fields = dict(line.split(": ", 1) for line in lines)
    if head.count(" | ") != 4 or fields.keys() != {"words", "short", "long"}:
        raise ValueError(f"{TABLE.name}: the noun {head!r} needs five fields and a line each of words, short and long")
    name, group, code, flat, emojione = head.split(" | ")
    words, held_out_words = fields["words"].split(" | ")
    descriptions, held_out_description = fields["short"].split(" | ")
    return Noun(
        name=name,
        group=group,
        code=code,
        flat=flat,
        emojione=None if emojione == "-" else emojione,
        words=(name, *words.split(", ")),
        held_out_words=tuple(held_out_words.split(", ")),
        descriptions=tuple(descriptions.split("; ")),
        held_out_description=held_out_description,
        long_description=fields["long"],
    )


def read_table(path: Path = TABLE) -> tuple[dict[str, Noun], dict[str, tuple[str, ...]]]:
    """The nouns by name, and the names that each wider word means."""
    text = "\n".join(line for line in path.read_text("utf-8").splitlines() if not line.startswith("#"))
    nouns, wider = text.split(SECTION)
    found = [read_noun(block) for block in nouns.strip().split("\n\n")]
    pairs = (line.split(": ") for line in wider.strip().splitlines())
    return {noun.name: noun for noun in found}, {word: tuple(names.split(", ")) for word, names in pairs}


NOUNS, SUPERORDINATES = read_table()
NOUN_OF_WORD = {word: noun.name for noun in NOUNS.values() for word in noun.words}
