"""Prompts from concepts and templates."""

import re

import pytest

from trainer.prompts.concepts import FEW, ROOM, among_words, bare_prompts, in_turn, parse_erase, retain_prompts, target_prompts
from trainer.prompts.templates import TEMPLATES, expand, fill, split_templates
from trainer.prompts.words import MAPPINGS, RETAIN, VOCABULARY

OTHERS = ["dog", "car", "egg"]


def concepts(*entries: str, templates=TEMPLATES):
    return [parse_erase(e, {}, templates) for e in entries]


CAT_AND_OWL = concepts("cat, kitty -> apple", "old owl -> forest")


@pytest.mark.parametrize(
    "entry, words, mapping",
    [
        ("cat -> forest", ("cat",), "forest"),
        (" cat,kitty ,  house cat->  old forest ", ("cat", "kitty", "house cat"), "old forest"),
        ("cat -> ?animal", ("cat",), "?animal"),
        ("cat -> ?", ("cat",), "?"),
        ("cat", ("cat",), "?"),
        ("cat, kitty", ("cat", "kitty"), "?"),
    ],
)
def test_an_entry_is_words_and_a_mapping_or_a_wish_for_one(entry, words, mapping):
    concept = parse_erase(entry)
    assert (concept.words, concept.mapping, concept.name) == (words, mapping, words[0])


def test_templates_belong_to_a_concept_by_its_first_word():
    own = {"cat": ["a {} asleep"]}
    assert parse_erase("cat, kitty -> sky", own, ["a {}"]).templates == ("a {} asleep",)
    assert parse_erase("kitty, cat -> sky", own, ["a {}"]).templates == ("a {}",)


def test_built_in_words_are_listed_once_and_fit_each_other():
    for words in (TEMPLATES, RETAIN, VOCABULARY, *MAPPINGS.values()):
        assert len(set(words)) == len(words) and all(w == " ".join(w.split()) and w for w in words)
    assert VOCABULARY[: len(RETAIN)] == RETAIN


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


def names(text: str, word: str) -> bool:
    return re.search(rf"\b{word}\b", text) is not None


def test_targets_and_mapped_prompts_differ_only_in_the_concept():
    templates = ["{red|blue} sky, a {}", *TEMPLATES]
    erased = concepts("cat, kitty -> apple", "old owl -> forest", templates=templates)
    targets = [t for t in target_prompts(erased, OTHERS, 4, seed=1) if len(t.named) == 1]
    single = 2 + len(TEMPLATES) - 2
    assert [t.concept for t in targets] == [0] * (2 * single + 4) + [1] * (single + 4)
    for t in targets:
        concept = erased[t.concept]
        (word,) = [w for w in concept.words if names(t.prompt.text, w)]
        assert (t.named, t.off) == ((t.concept,), ()) and concept.mapping not in t.prompt.text
        assert neutral(t.prompt.text, word) == neutral(t.mapped, concept.mapping) != t.prompt.text
        others = [o for o in OTHERS if names(t.prompt.text, o)]
        assert len(others) == t.prompt.pair and all(names(t.mapped, o) for o in others)
        assert "{" not in t.prompt.text + t.mapped


def test_every_word_stands_in_every_template_of_its_own_concept():
    erased = [parse_erase("cat, kitty -> sky", {"cat": ["a {} asleep"]}), parse_erase("owl -> sky", {}, ["{red|blue} {}"])]
    targets = target_prompts(erased, [], 5, seed=0)
    assert [t.prompt.text for t in targets] == ["a cat asleep", "a kitty asleep", "red owl", "blue owl"]


def test_pairs_never_stand_beside_their_own_mapping():
    targets = target_prompts(concepts("cat -> dog", templates=["a {}", "a {} and a {other}"]), ["dog", "car", "egg"], 100, seed=0)
    assert sorted(t.prompt.text for t in targets if t.prompt.pair) == ["a cat and a car", "a cat and an egg"]


def test_of_two_erased_concepts_in_a_prompt_what_is_switched_off_stays():
    templates = ["a {}", "{dawn|dusk|noon}: a {} and a {other}", "a {other} by a {}"]
    erased = concepts("cat, kitty -> apple", "owl, barn owl -> forest", "pig -> sky", templates=templates)
    targets = [t for t in target_prompts(erased, OTHERS, 8, seed=3) if len(t.named) > 1]
    for concept in range(3):
        of_one = [len(t.off) for t in targets if t.concept == concept]
        assert len(of_one) >= 8 and 0.2 < sum(of_one) / len(of_one) <= 0.5
    words = set()
    for t in targets:
        first, second = t.named
        assert t.prompt.pair and t.concept == first != second and t.off in ((), (second,))
        found = {k: [w for w in erased[k].words if names(t.prompt.text, w)] for k in t.named}
        assert all(found.values()) and not any(names(t.prompt.text, o) for o in OTHERS)
        words |= {w for ws in found.values() for w in ws}
        assert names(t.mapped, erased[first].mapping) and not any(names(t.mapped, w) for w in erased[first].words)
        assert any(names(t.mapped, w) for w in erased[second].words) == bool(t.off)
        assert names(t.mapped, erased[second].mapping) != bool(t.off) and t.beside == bool(t.off)
    assert words == {w for e in erased for w in e.words}


def test_one_concept_alone_has_no_prompt_of_two():
    targets = target_prompts(concepts("cat -> sky"), OTHERS, 10, seed=0)
    assert all(t.named == (0,) and not t.off and t.beside == t.prompt.pair for t in targets)


def test_the_seed_decides_the_drawn_pairs():
    make = lambda seed: target_prompts(CAT_AND_OWL, list(RETAIN), 5, seed)
    assert make(1) == make(1) and make(1) != make(2)
    keep = lambda seed: retain_prompts(OTHERS, CAT_AND_OWL, list(TEMPLATES), [], 5, seed)
    assert keep(1) == keep(1) and keep(1) != keep(2)
    mix = lambda seed: among_words(["a cat"] * 9, list(RETAIN), 30, seed)
    assert mix(1) == mix(1) and mix(1) != mix(2)


def test_retain_prompts_hold_what_must_survive_and_no_target():
    given = ["", "a green field"]
    prompts = retain_prompts(OTHERS + ["apple"], CAT_AND_OWL, list(TEMPLATES), given, 20, seed=0)
    texts = [p.text for p in prompts]
    assert texts[:2] == given and len(set(prompts)) == len(prompts)
    single, _ = split_templates(list(TEMPLATES))
    for name in [*OTHERS, "apple", "forest"]:
        assert all(fill(t, name) in texts for t in single)
    assert sum(p.pair for p in prompts) == 20
    for text in texts:
        assert not any(names(text, w) for e in CAT_AND_OWL for w in e.words)
        assert "{" not in text


def test_drawn_retain_pairs_name_two_things():
    prompts = [p.text for p in retain_prompts(["dog", "car"], [], ["{}", "{} by {other}"], [], 100, seed=0) if p.pair]
    assert sorted(prompts) == ["car by dog", "dog by car"]


def test_among_words_keeps_each_prompt_whole_beside_one_to_many_others():
    texts, words = [f"a prompt {i}" for i in range(600)], [f"w{i}" for i in range(20)] + ["two words"]
    mixed = among_words(texts, words, 30, seed=0)
    counts, before = [], 0
    for text, among in zip(texts, mixed):
        extra = among.replace(text, "").split()
        assert among in (f"{' '.join(extra)} {text}", f"{text} {' '.join(extra)}")
        assert set(extra) <= {w for name in words for w in name.split()}
        counts.append(len(extra))
        before += among.endswith(text)
    assert min(counts) == 1 and FEW < max(counts) <= 30 and 250 < before < 350
    assert 0.05 < sum(n > FEW for n in counts) / len(counts) < 0.5


def test_among_words_leaves_room_for_a_long_prompt():
    for length in (1, 20, 35, 60):
        text = " ".join(["long"] * length)
        most = max(len(mixed.split()) for mixed in among_words([text] * 300, ["word"], 50, seed=0)) - length
        assert most == min(50, max(1, ROOM - 2 * length))


def test_bare_prompts_name_the_concept_without_a_template():
    prompts = bare_prompts(["cat", "old owl"], ["dog", "red car"], 16, seed=0)
    assert len(prompts) == 32 and prompts[:2] == ["cat", "a cat"] and prompts[16:18] == ["old owl", "an old owl"]
    for name, texts in (("cat", prompts[:16]), ("old owl", prompts[16:])):
        for text in texts:
            rest = text.replace(fill("a {}", name), "").replace(name, "").replace("red car", "").replace("dog", "")
            assert names(text, name) and not rest.strip() and text.count("dog") + text.count("red car") <= FEW
        assert any(t.startswith(name) for t in texts[2:]) and any(t.endswith(name) for t in texts[2:])
    assert bare_prompts(["cat"], ["dog"], 16, 0) == bare_prompts(["cat"], ["dog"], 16, 0) != bare_prompts(["cat"], ["dog"], 16, 1)


def test_of_many_words_the_first_has_every_template_and_the_others_share_them():
    templates = [f"{i} {{}}" for i in range(8)]
    assert in_turn(("cat", "kitty"), templates) == [(w, t) for w in ("cat", "kitty") for t in templates]
    many = in_turn(("cat", *"abcdefgh"), templates)
    assert [t for w, t in many if w == "cat"] == templates and len(many) == len(templates) + 2 * 8
    assert all(sum(w == own for w, _ in many) == 2 for own in "abcdefgh") and {t for w, t in many if w != "cat"} == {*templates}
    assert in_turn(("cat", "kitty", "puss"), ["a {}"]) == [(w, "a {}") for w in ("cat", "kitty", "puss")]
