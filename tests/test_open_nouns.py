"""The table of nouns of the emoji-open base: every noun has what captions, erasers and measurements need."""

import re
from collections import Counter
from functools import cache

import pytest

from demo.open.nouns import NOUN_OF_WORD, NOUNS, SUPERORDINATES, TABLE, read_noun


@cache
def plain(text):
    """Words in lower case without a plural's s, between spaces: so that "cats" is found to hold "cat"."""
    words = [re.sub("'?s$", "", word) for word in re.findall("[a-z0-9'-]+", text.lower())]
    return f" {' '.join(words)} "


def texts(noun):
    return (*noun.descriptions, noun.held_out_description, noun.long_description)


def test_enough_of_each_group():
    groups = Counter(noun.group for noun in NOUNS.values())
    assert len(NOUNS) >= 310 and groups["profession"] >= 30 and groups["weapon"] >= 8
    assert all(count >= 4 for count in groups.values()), groups


def test_no_name_stands_twice():
    heads = [line for line in TABLE.read_text("utf-8").splitlines() if line.count(" | ") == 4 and not line.startswith("#")]
    assert len(heads) == len(NOUNS)
    assert len({noun.code for noun in NOUNS.values()}) == len(NOUNS)


def test_every_noun_has_what_it_needs():
    for noun in NOUNS.values():
        assert noun.words[0] == noun.name and len(noun.words) >= 3, noun.name
        assert len(noun.held_out_words) == 2 and len(noun.descriptions) == 3 and noun.held_out_description, noun.name
        assert 20 <= len(noun.long_description.split()) <= 35, noun.name
        assert re.fullmatch("[0-9a-f]{4,5}(-[0-9a-f]{4,5})*", noun.code) and noun.flat and noun.emojione != "", noun.name


def test_a_word_names_one_noun():
    counts = Counter(word for noun in NOUNS.values() for word in {plain(w) for w in (*noun.words, *noun.held_out_words)})
    assert [word for word, count in counts.items() if count > 1] == []
    assert NOUN_OF_WORD["feline"] == "cat"


def test_no_word_holds_the_name_of_a_noun():
    words = [word for noun in NOUNS.values() for word in (*noun.words[1:], *noun.held_out_words)]
    assert [(word, name) for word in words for name in NOUNS if plain(name) in plain(word)] == []


def test_no_description_stands_twice_and_none_holds_a_word_of_its_noun():
    assert max(Counter(text for noun in NOUNS.values() for text in texts(noun)).values()) == 1
    told = [
        (noun.name, word, text)
        for noun in NOUNS.values()
        for text in texts(noun)
        for word in (*noun.words, *noun.held_out_words)
        if plain(word) in plain(text)
    ]
    assert told == []


def test_no_description_holds_a_word_of_another_noun():
    spoken = [(noun.name, text) for noun in NOUNS.values() for text in texts(noun)]
    told = [(name, word, text) for name, text in spoken for word in NOUN_OF_WORD if plain(word) in plain(text)]
    assert told == []


def test_a_wider_word_means_nouns_and_names_none():
    for word, names in SUPERORDINATES.items():
        assert word not in NOUN_OF_WORD and set(names) <= NOUNS.keys() and len(set(names)) == len(names) >= 2, word


def test_a_noun_without_a_line_is_named():
    with pytest.raises(ValueError, match="cat"):
        read_noun("cat | animal | 1f431 | cat-face | -\nwords: kitty, feline | tomcat, moggy\nlong: a pet")
