"""trainer/prompts/text: prompts and look-alikes as people type them; enough of each kind, none twice, every mark in order."""

import re
from collections import Counter
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "trainer" / "prompts" / "text"
DENIAL = re.compile(r"\b(no|not|no one|nobody|nothing|without|never|isn't|don't|leave out|lack|neither|avoid)\b", re.IGNORECASE)


def lines_by_kind(name: str) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").split("\n"):
        if line.startswith("# "):
            assert line[2:] not in kinds, f"{name} has the heading {line!r} twice"
            kind = kinds.setdefault(line[2:], [])
        elif line.strip():
            kind.append(line)
    return kinds


def plain(line: str) -> str:
    return " ".join(line.replace("{", "").replace("}", "").split())


def pieces(line: str) -> int:
    return len([piece for piece in re.split(r"[\s,]+", plain(line)) if piece])


@pytest.mark.parametrize(("name", "texts", "kinds", "each"), [("prompts.txt", 750, 16, 30), ("more.txt", 400, 10, 15)])
def test_there_are_enough_of_every_kind(name, texts, kinds, each):
    found = {kind: len(lines) for kind, lines in lines_by_kind(name).items()}
    assert sum(found.values()) >= texts
    assert len(found) >= kinds
    assert {kind: count for kind, count in found.items() if count < each} == {}


def test_no_text_stands_twice():
    every = [plain(line).casefold() for name in ("prompts.txt", "more.txt") for lines in lines_by_kind(name).values() for line in lines]
    assert [text for text, count in Counter(every).items() if count > 1] == []


@pytest.mark.parametrize("name", ["prompts.txt", "more.txt"])
def test_marks_are_well_formed_and_at_most_four(name):
    for lines in lines_by_kind(name).values():
        for line in lines:
            marks = re.findall(r"\{([^{}]+)\}", line)
            assert len(marks) <= 4, line
            assert not re.search(r"[{}]", re.sub(r"\{[^{}]+\}", "", line)), line
            for mark in marks:
                assert mark == mark.strip(), line
                assert not re.match(r"(a|an|the) ", mark, re.IGNORECASE), line


def test_marks_stand_at_every_place():
    lines = [line for lines in lines_by_kind("prompts.txt").values() for line in lines]
    marked = [line for line in lines if "{" in line]
    assert len(marked) / len(lines) >= 0.65
    places = [match.start() / len(line) for line in marked for match in re.finditer(r"\{", line)]
    for low in (0, 0.25, 0.5, 0.75):
        assert sum(low <= place < low + 0.25 for place in places) / len(places) >= 0.08


def test_long_prompts_and_negations_are_among_them():
    kinds = lines_by_kind("prompts.txt")
    assert sum(pieces(line) >= 60 for lines in kinds.values() for line in lines) >= 100
    assert all(pieces(line) >= 60 for kind, lines in kinds.items() if kind.startswith("long") for line in lines)
    assert sum(bool(DENIAL.search(line)) for line in kinds["negations"]) >= 40


def test_nothing_that_a_prompt_denies_is_marked():
    """A mark is filled with a thing that the text then asks for: "a street without {people}" would not."""
    for name in ("prompts.txt", "more.txt"):
        for lines in lines_by_kind(name).values():
            for line in lines:
                assert not re.search(r"\b(no|without|without a|without any|not a|not an) \{", line, re.IGNORECASE), line
