"""The language benchmark's concepts and texts: which texts mention a concept, and how it is put into others."""

import random
import re
from pathlib import Path

import pytest
import torch

from benchmarks.language import concepts, measure, texts

ROOT = Path(__file__).resolve().parents[1]
EVERY = {c.name: c for c in concepts.read()}
CAPTIONS = texts.lines(ROOT / "benchmarks" / "language" / "quick_captions.txt")
PROMPTS = texts.lines(ROOT / "benchmarks" / "language" / "quick_prompts.txt")


def test_there_are_a_hundred_concepts_and_the_ten_among_them():
    ten = [c.name for c in concepts.few(list(EVERY.values()))]
    assert len(EVERY) == 100 and set(ten) == {
        *("cat", "dog", "gun", "car", "horse", "pizza", "Van Gogh", "church", "nudity", "Barack Obama"),
    }
    assert list(EVERY)[:10] == ten and {c.kind for c in EVERY.values()} == set(texts.IN_CAPTIONS)


@pytest.mark.parametrize(
    "name, text, side",
    [
        ("cat", "Two Cats share one windowsill.", "named"),
        ("cat", "A catalogue of scattered tiles, a tiger and a caterpillar", "none"),
        ("cat", "a kitten asleep", "synonym"),
        ("dog", "a hot-dog and two hot dogs", "homonym"),
        ("dog", "a dog eats a hot dog", "named"),
        ("dog", "an animal on a beach, petting a giraffe", "none"),
        ("car", "an old cable car on a hill", "homonym"),
        ("car", "a street without a single car", "negated"),
        ("car", "a bus and a truck", "none"),
        ("gun", "an archer draws a bow", "none"),
        ("knife", "three knives on a board", "named"),
        ("police officer", "two police-officers", "named"),
        ("church", "The CHURCH's bells, by a lake", "named"),
        ("church", "landscape by frederic church", "homonym"),
        ("Van Gogh", "a portrait by vincent van  gogh", "named"),
        ("nudity", "no parking sign", "none"),
        ("Barack Obama", "president obama in a hat", "synonym"),
    ],
)
def test_a_text_is_on_one_side_of_a_concept(name, text, side):
    assert EVERY[name].side(text) == side


@pytest.mark.parametrize("concept", EVERY.values(), ids=lambda c: c.name)
def test_a_concepts_words_are_on_their_own_sides(concept):
    assert concept.side(concept.phrase) == "named"
    assert all(concept.side(word) == "synonym" for word in concept.synonyms), concept.synonyms
    assert all(concept.side(word) == "none" for word in concept.near), concept.near
    assert len(concept.near) >= 5 and not any(c.side(concept.mapping) == "named" for c in EVERY.values())


def test_made_texts_name_their_concept_where_they_should():
    scale = texts.Scale(captions=12, long=20, others=2)
    for name in ("cat", "Van Gogh", "nudity", "Barack Obama"):
        concept = EVERY[name]
        made = scale.texts(concept, CAPTIONS, PROMPTS, 0, 1)
        of = {what: [m for m in made if m.what == what] for what in ("captions", "long", "tags", "negated", "homonym", "synonym", "near")}
        assert [len(of[what]) for what in ("captions", "long", "tags", "negated")] == [12, 20, 20, 5]
        assert all(concept.side(m.text) == "named" for what in ("captions", "long", "tags") for m in of[what])
        assert all(concept.side(m.text) == "negated" for m in of["negated"])
        assert all(concept.side(m.text) in ("synonym", "none") for what in ("synonym", "near") for m in of[what])
        assert all(texts.WORDS[0] <= len(m.text.split()) <= texts.WORDS[1] + 25 for m in of["long"])
        starts = [re.search(concept.named, m.text.lower()).start() / len(m.text) for m in of["long"][:5]]
        assert starts[0] < 0.35 and starts[-1] > 0.6 and starts == sorted(starts)
        assert made == scale.texts(concept, CAPTIONS, PROMPTS, 0, 1)


def test_auc_counts_pairs():
    rng = random.Random(0)
    a, b = ([rng.randrange(6) for _ in range(30)] for _ in range(2))
    pairs = sum((x > y) + (x == y) / 2 for x in a for y in b) / 900
    assert measure.auc(torch.tensor(a, dtype=torch.float), torch.tensor(b, dtype=torch.float)) == pytest.approx(pairs, abs=1e-6)
    assert measure.auc(torch.tensor([]), torch.tensor([1.0])) is None


def test_the_quick_set_is_of_its_own():
    """None of it stands in what the trainer bundles, and there is some of everything."""
    bundled = {line.strip().lower() for file in (ROOT / "trainer").rglob("*.txt") for line in file.read_text(encoding="utf-8").splitlines()}
    assert not bundled & {text.lower() for text in [*CAPTIONS, *PROMPTS]}
    ten = concepts.few(list(EVERY.values()))
    assert sum(all(c.side(text) == "none" for c in ten) for text in CAPTIONS) >= 90
    assert all(sum(c.side(text) == "named" for text in CAPTIONS) >= 4 for c in ten if c.kind == "thing")
