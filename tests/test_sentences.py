"""Targets put into written text: originals kept, every place used, whole kinds held out."""

import re
from dataclasses import replace

import pytest

from trainer.prompts import sentences as made_of
from trainer.prompts.concepts import parse_erase
from trainer.prompts.sentences import HELD_OUT, MOST_TAGS, WORDS, mentions, sentences
from trainer.prompts.words import FUNCTION_WORDS, SUPERORDINATES
from trainer.prompts.written import parsed, written
from trainer.reading import labels_of
from trainer.switch import UNKNOWN

ERASED = [parse_erase(entry) for entry in ("cat, kitty -> forest", "Van Gogh -> photograph", "axe -> broom")]
KINDS = 10


def texts_of(kind: int) -> list:
    """Texts whose every word tells their kind; the last are lists of tags."""
    word = "abcdefghij"[kind] * 4
    plain = [parsed(f"{word}{n} sees a {{{word}thing}} near the {{{word}wall}}", word) for n in range(6)]
    return [*plain, *(parsed(", ".join(f"{word}tag{n}x{i}" for i in range(9)), word) for n in range(4))]


TEXTS = tuple(t for kind in range(KINDS) for t in texts_of(kind))


def says_nothing(text: str) -> bool:
    return set(text.split()) <= {part for word in FUNCTION_WORDS for part in word.split()}


def kinds_in(text: str) -> set[str]:
    return set(re.findall(r"\b([a-j])\1{3}", text))


@pytest.fixture(scope="module")
def made():
    return sentences(ERASED, TEXTS, ["dog", "old man"], seed=0)


def test_every_text_is_retained_as_it_is(made):
    kept = [s.text for s in made if s.named is None]
    assert {t.text for t in TEXTS} <= set(kept) and not any(mentions(kept, ERASED))


def test_a_target_stands_at_every_place_by_each_of_its_words(made):
    for k, concept in enumerate(ERASED):
        own = [s.text for s in made if s.named == k]
        assert all(named == {k} for named in mentions(own, ERASED))
        for word in concept.words:
            assert any(word in text for text in own)
        for text in TEXTS:
            for start, end in text.places:
                assert any(text.text[: start - 2] in s and text.text[end:] in s and text.text[start:end] not in s for s in own)
    assert any("an axe" in s.text for s in made) and not any("a axe" in s.text for s in made)


def test_whole_kinds_of_text_are_held_out(made):
    held = set("ej")  # every fifth of ten
    assert HELD_OUT == 5
    for sentence in made:
        if says_nothing(sentence.text):
            continue
        assert kinds_in(sentence.text) and (kinds_in(sentence.text) <= held) == sentence.held_out, sentence
        assert sentence.held_out or not kinds_in(sentence.text) & held
    for out in (False, True):
        assert {s.named for s in made if s.held_out == out} == {None, 0, 1, 2}


def test_general_words_and_words_that_mean_nothing_are_retained(made):
    safe = [s.text for s in made if s.named is None]
    assert sum(any(word in text.split() for word in SUPERORDINATES) for text in safe) > 100
    assert sum(map(says_nothing, safe)) > 200


def test_targets_stand_in_long_prompts_and_among_tags(made):
    for named in (None, 0, 1, 2):
        own = [s.text for s in made if s.named == named and not s.held_out]
        assert max(len(t.split()) for t in own) > 50
        assert all(len(t.split()) < 2 * WORDS for t in own)
        assert any(t.count(",") > 15 and t.count("tag") > 15 for t in own)
        assert max(t.count(",") for t in own) <= 4 * MOST_TAGS


def test_two_thirds_of_the_lists_of_tags_are_written_ones_as_a_whole():
    texts = tuple(parsed(f"{kind} one, {kind} two, {kind} three, {kind} four, {kind} five, a {{dog}} on a hill", kind) for kind in "abcde")
    texts += tuple(parsed(f"{kind}{i}, tag {i}, other {i}, more {i}, last {i}", kind) for i in range(9) for kind in "abcde")
    whole = [s.text for s in sentences(ERASED[:1], texts, ["dog"], 0) if s.named == 0 and "one, " in s.text and "five" in s.text]
    assert {[t.split(",").index(tag) for tag in t.split(",") if "cat" in tag or "kitty" in tag][0] for t in whole} > {0, 1, 2}


def test_what_is_safe_does_not_grow_with_the_concepts_and_targets_are_enough_of_each():
    many = [parse_erase(f"zq{chr(97 + i // 10)}{chr(97 + i % 10)} -> sky") for i in range(60)]
    few, lots = (sentences(some, written(), ["dog"], 0) for some in (many[:1], many))
    assert [s.text for s in few if s.named is None] == [s.text for s in lots if s.named is None]
    assert len({s.text for s in few if s.named == 0}) > 0.9 * made_of.MOST
    counts = [sum(s.named == k for s in lots) for k in range(60)]
    assert min(counts) == max(counts) >= 0.9 * made_of.FEWEST


def test_what_a_text_mentions_by_itself_is_left_open_for_that_concept_alone():
    texts = (parsed("No cats today, only a {dog}", "a"), parsed("a {hat} on a shelf", "b"))
    made = [s for s in sentences(ERASED, texts, ["dog"], 0)]
    labels = labels_of(made, ERASED)
    rows = {s.text: labels[i].tolist() for i, s in enumerate(made)}
    assert rows["No cats today, only a dog"] == [UNKNOWN, 0, 0]
    assert rows["a hat on a shelf"] == [0, 0, 0]
    assert rows["a cat on a shelf"] == [1, 0, 0]
    assert rows["No cats today, only a Van Gogh"] == [UNKNOWN, 1, 0]
    assert not any(s.named == 0 and "dog" in s.text or s.text.startswith("No cats") and s.named == 0 for s in made)


def test_a_text_with_a_word_that_may_mean_a_concept_is_not_called_safe_for_it():
    """ "kitten" is no word of the entry, and near it by the text encoder."""
    made = sentences(ERASED, (parsed("a kitten asleep on a {hat}", "a"), parsed("a {hat} on a shelf", "b")), ["dog"], 0)
    rows = dict(zip((s.text for s in made), labels_of(made, [replace(ERASED[0], words=("cat", "kitty", "kitten")), *ERASED[1:]]).tolist()))
    assert rows["a kitten asleep on a hat"] == [UNKNOWN, 0, 0] and rows["a kitten asleep on a Van Gogh"] == [UNKNOWN, 1, 0]
    assert rows["a hat on a shelf"] == [0, 0, 0]


@pytest.mark.parametrize(
    "text, named",
    [("two Kitties asleep", {0}), ("a cat-shaped bag", {0}), ("catfish", set()), ("by van gogh and an axe", {1, 2}), ("a van", set())],
)
def test_mentions(text, named):
    assert mentions([text], ERASED) == [named]
