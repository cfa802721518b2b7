"""The bundled sentences and prompts, the places in them, and which of them mention a word."""

import re
from collections import Counter

import pytest

from trainer.prompts.words import FUNCTION_WORDS, SUPERORDINATES
from trainer.prompts.written import FOLDER, Written, free_of, parsed, plural, put, read, written

CAPTIONS = read(FOLDER / "captions.txt")
LEAST, MOST = 4, 25  # words of a caption
WALK = parsed("A woman walks her {dog} along the {beach} before sunrise.", "walks")


def same(text: str) -> str:
    """What two texts have in common that differ only in case and punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


def test_there_is_enough_of_every_kind():
    kinds = Counter(c.kind for c in CAPTIONS)
    assert len(CAPTIONS) >= 1600 and "" not in kinds
    assert sum(count >= 60 for count in kinds.values()) >= 16
    assert set(CAPTIONS) <= set(written()) and written() is written()


def test_no_text_is_there_twice():
    assert len({w.text for w in written()}) == len(written())
    captions = Counter(same(c.text) for c in CAPTIONS)
    assert [text for text, count in captions.items() if count > 1] == []
    assert not captions.keys() & {same(w.text) for w in set(written()) - set(CAPTIONS)}


def test_a_caption_is_as_long_as_people_write_them():
    assert [c.text for c in CAPTIONS if not LEAST <= len(c.text.split()) <= MOST] == []
    assert len({len(c.text.split()) for c in CAPTIONS}) == MOST - LEAST + 1


def test_captions_use_many_words_in_many_ways():
    words = Counter(word for c in CAPTIONS for word in re.findall(r"[a-z]+", c.text.lower()))
    assert len(words) > 4000
    assert 0.1 < sum(c.text[0].islower() for c in CAPTIONS) / len(CAPTIONS) < 0.5
    assert 0.1 < sum(c.text[-1] == "." for c in CAPTIONS) / len(CAPTIONS) < 0.9
    beginnings = Counter(tuple(same(c.text).split()[:3]) for c in CAPTIONS)
    assert beginnings.most_common(1)[0][1] < len(CAPTIONS) / 50


def test_marks_are_well_formed():
    for w in written():
        assert not set("{}") & set(w.text) and w.text == w.text.strip(), w
        for start, end in w.places:
            marked = w.text[start:end]
            assert marked and marked == marked.strip() and not re.match(r"(an?|the) ", marked, re.IGNORECASE), w
        assert all(a[1] < b[0] for a, b in zip(w.places, w.places[1:])), w


def test_a_mark_in_a_caption_is_of_whole_words():
    for c in CAPTIONS:
        assert not any(c.text[:start][-1:].isalnum() or c.text[end:][:1].isalnum() for start, end in c.places), c


def test_most_captions_have_a_place_and_places_are_everywhere():
    assert 0.6 < sum(bool(c.places) for c in CAPTIONS) / len(CAPTIONS) < 0.9
    assert {len(c.places) for c in CAPTIONS} == {0, 1, 2, 3}
    where = Counter(3 * start // len(c.text) for c in CAPTIONS for start, _ in c.places)
    assert min(where[third] for third in range(3)) > 0.15 * sum(where.values())


def test_a_line_without_its_braces_is_the_text():
    assert WALK == Written("A woman walks her dog along the beach before sunrise.", "walks", ((18, 21), (32, 37)))
    assert [WALK.text[a:b] for a, b in WALK.places] == ["dog", "beach"]
    assert parsed("nothing here", "k").places == ()


@pytest.mark.parametrize(
    "line, name, text",
    [
        ("She walks her {dog} home.", "police officer", "She walks her police officer home."),
        ("A {dog} in an hour", "owl", "An owl in an hour"),
        ("An {owl} and a unicorn", "cat", "A cat and a unicorn"),
        ("beside an {apple}", "Van Gogh", "beside a Van Gogh"),
        ("{Owl} on a post", "cat", "Cat on a post"),
        ("{dog} asleep", "Eiffel tower", "Eiffel tower asleep"),
        ("a dog's {bowl}", "egg", "a dog's egg"),
        ("Banana {bread}", "egg", "Banana egg"),
    ],
)
def test_a_name_stands_in_a_place(line, name, text):
    of = parsed(line, "k")
    assert put(of, of.places[0], name) == text


def test_each_place_is_filled_alone():
    assert [put(WALK, place, "ox") for place in WALK.places] == [
        "A woman walks her ox along the beach before sunrise.",
        "A woman walks her dog along the ox before sunrise.",
    ]


@pytest.mark.parametrize(
    "word, mentions, others",
    [
        (
            "cat",
            ["A CAT", "cats.", "the cat's tail", "cats' eyes", "cat-like", "cat_ears", "(cat:1.4)"],
            ["a catfish", "tomcat"],
        ),
        ("bus", ["three buses", "a bus."], ["a busy street", "a bust"]),
        ("puppy", ["puppies", "a puppy"], ["a puppet"]),
        ("knife", ["knives", "a knife"], ["a knight"]),
        ("wolf", ["wolves"], ["wolfram"]),
        ("wolves", ["a wolf"], ["wolverine"]),
        ("mouse", ["three mice"], ["a mousse"]),
        ("Cats", ["a cat", "cats"], ["catkins"]),
        ("glasses", ["a glass", "her glasses"], ["glassware"]),
        ("children", ["one child"], ["childish"]),
        ("Van Gogh", ["in Van Gogh's manner", "van-gogh style", "by van  gogh"], ["a van", "Gogh alone", "VanGogh"]),
        ("hot dog", ["two hot dogs", "a hot-dog"], ["a hot day, a dog"]),
        ("buses", ["a bus"], ["abuse"]),
        ("🐱", ["cute 🐱!"], ["🐶"]),
        ("C++ (book)", ["the c++ (book)"], ["a book"]),
        ("café", ["two cafés"], ["a cafeteria"]),
    ],
)
def test_which_texts_mention_a_word(word, mentions, others):
    assert free_of([*mentions, *others], [word]) == others


def test_texts_are_free_of_all_words_and_of_none():
    texts = ["a dog", "a cat", "a hen"]
    assert free_of(texts, ["cat", "dogs"]) == ["a hen"]
    assert free_of(texts, []) == texts and free_of(texts, [" "]) == texts
    assert free_of([WALK], ["dog"]) == [] and free_of([WALK], ["do", "beaches of"]) == [WALK]


def test_what_is_retained_of_the_bundled_text_names_no_target():
    left = free_of(CAPTIONS, ["cat", "dog", "gun", "car", "horse", "pizza", "church"])
    assert 0.8 * len(CAPTIONS) < len(left) < len(CAPTIONS)
    assert not [c.text for c in left if re.search(r"\b(cat|dog|gun|car|horse|pizza|church)(e?s|'s)?\b", c.text, re.IGNORECASE)]


def test_general_words_and_function_words():
    for words, least in ((SUPERORDINATES, 80), (FUNCTION_WORDS, 150)):
        assert len(words) == len(set(words)) >= least and all(w == w.strip() and w for w in words)
    assert not set(SUPERORDINATES) & set(FUNCTION_WORDS) - {"something"}


@pytest.mark.parametrize(
    "word, many",
    [("cow", "cows"), ("church", "churches"), ("knife", "knives"), ("pony", "ponies"), ("toy", "toys"), ("teddy bear", "teddy bears")],
)
def test_a_plural_ends_as_its_last_word_does(word, many):
    assert plural(word) == many and not free_of([f"two {many}"], [word])
