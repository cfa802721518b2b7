"""Prompts from concepts and templates."""

import re

import pytest

from trainer.concepts import RETAIN, TEMPLATES, expand, fill, retain_prompts, split_templates, target_prompts

PAIRS = [("cat", "apple"), ("old owl", "forest")]
OTHERS = ["dog", "car", "egg"]


@pytest.mark.parametrize(
    "template, expected",
    [
        ("a {}", ["a {}"]),
        ("{red|blue} {}", ["red {}", "blue {}"]),
        ("{a|b} {} {c|d|}", ["a {} c", "a {} d", "a {} ", "b {} c", "b {} d", "b {} "]),
        ("a {} and {other}, {x|y}", ["a {} and {other}, x", "a {} and {other}, y"]),
    ],
)
def test_expand(template, expected):
    assert expand(template) == expected


@pytest.mark.parametrize(
    "template, concept, other, expected",
    [
        ("a {}", "apple", "", "an apple"),
        ("A {} and a {other}", "owl", "egg", "An owl and an egg"),
        ("a {}", "cat", "", "a cat"),
        ("a {other} near {}", "a cat", "dog", "a dog near a cat"),
        ("banana {}", "old", "", "banana old"),
    ],
)
def test_fill(template, concept, other, expected):
    assert fill(template, concept, other) == expected


def test_split_templates_by_their_number_of_concepts():
    assert split_templates(["{a|b} {}", "{} with {other}"]) == (["a {}", "b {}"], ["{} with {other}"])
    single, double = split_templates(list(TEMPLATES))
    assert len(single) + len(double) == len(TEMPLATES) and len(double) == 2


def neutral(text: str, concept: str) -> str:
    """The prompt with its concept, article and all, taken out."""
    return re.sub(rf"\b[Aa]n? {concept}\b", "@", text, count=1)


def test_targets_and_mapped_prompts_differ_only_in_the_concept():
    targets = target_prompts(PAIRS, ["{red|blue} sky, a {}", *TEMPLATES], OTHERS, 4, seed=1)
    single = 2 + len(TEMPLATES) - 2
    assert [t.concept for t in targets] == [0] * (single + 4) + [1] * (single + 4)
    for t in targets:
        target, mapping = PAIRS[t.concept]
        assert re.search(rf"\b{target}\b", t.prompt.text) and mapping not in t.prompt.text
        assert neutral(t.prompt.text, target) == neutral(t.mapped, mapping) != t.prompt.text
        others = [o for o in OTHERS if re.search(rf"\b{o}\b", t.prompt.text)]
        assert len(others) == t.prompt.pair and all(re.search(rf"\b{o}\b", t.mapped) for o in others)
        assert "{" not in t.prompt.text + t.mapped


def test_pairs_never_stand_beside_their_own_mapping():
    targets = target_prompts([("cat", "dog")], ["a {}", "a {} and a {other}"], ["dog", "car", "egg"], 100, seed=0)
    assert sorted(t.prompt.text for t in targets if t.prompt.pair) == ["a cat and a car", "a cat and an egg"]


def test_the_seed_decides_the_drawn_pairs():
    make = lambda seed: target_prompts(PAIRS, list(TEMPLATES), list(RETAIN), 5, seed)
    assert make(1) == make(1) and make(1) != make(2)
    keep = lambda seed: retain_prompts(OTHERS, ["forest"], list(TEMPLATES), [], 5, seed)
    assert keep(1) == keep(1) and keep(1) != keep(2)


def test_retain_prompts_hold_what_must_survive_and_no_target():
    given = ["", "a green field"]
    prompts = retain_prompts(OTHERS + ["apple"], [m for _, m in PAIRS], list(TEMPLATES), given, 20, seed=0)
    texts = [p.text for p in prompts]
    assert texts[:2] == given and len(set(prompts)) == len(prompts)
    single, _ = split_templates(list(TEMPLATES))
    for name in [*OTHERS, "apple", "forest"]:
        assert all(fill(t, name) in texts for t in single)
    assert sum(p.pair for p in prompts) == 20
    for text in texts:
        assert not any(re.search(rf"\b{target}\b", text) for target, _ in PAIRS)
        assert "{" not in text


def test_drawn_retain_pairs_name_two_things():
    prompts = [p.text for p in retain_prompts(["dog", "car"], [], ["{}", "{} by {other}"], [], 100, seed=0) if p.pair]
    assert sorted(prompts) == ["car by dog", "dog by car"]
