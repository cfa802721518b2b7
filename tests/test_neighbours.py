"""Mapping concepts and neighbours chosen by their place in the text encoder's space: exact in a plane, and on the demo base."""

import math

import pytest
import torch

from host.encode import Text
from trainer.config import Config, ConfigError, check
from trainer.prompts import neighbours, unfamiliar
from trainer.prompts.concepts import parse_erase
from trainer.prompts.neighbours import FAR, SAME, embed, resolve, told_apart
from trainer.prompts.words import MAPPINGS, VOCABULARY

# Degrees in a plane; nearer than 36.9 is the same word.
PLACES = {
    "cat": 0,
    "kitten": 20,
    "lynx": 40,
    "tiger": 50,
    "wolf": 70,
    "coyote": 85,
    "puppy": 110,
    "dog": 120,
    "rock": 200,
    "sand": 210,
    "beach": 240,
    "hut": 20,
    "barn": 15,
    "shed": 130,
}
KNOWN = ("kitten", "lynx", "tiger", "wolf", "coyote", "puppy", "rock", "sand")
CHOICES = {"object": ("hut", "shed", "rock"), "animal": ("dog", "beach", "rock"), "near": ("hut", "barn")}


class Plane:
    """A text encoder whose embeddings lie in a plane, far from the origin; "not X" lies opposite, so that the mean is known."""

    def __init__(self):
        self.seen: list[str] = []

    def near_words(self, names, count):
        return {}

    def encode(self, prompts):
        self.seen += prompts
        angles = [math.radians(PLACES[p.removeprefix("not ")] + 180 * p.startswith("not ")) for p in prompts]
        pooled = torch.tensor([[math.cos(a), math.sin(a), 100] for a in angles], dtype=torch.float64)
        return Text(torch.zeros(len(prompts), 1, 1), pooled)


@pytest.fixture
def plane(monkeypatch):
    monkeypatch.setattr(neighbours, "VOCABULARY", KNOWN)
    monkeypatch.setattr(neighbours, "MAPPINGS", CHOICES)
    real = neighbours.embed

    def balanced(backbone, templates, names, others=()):  # with every name's opposite, so that the mean is the plane's middle
        monkeypatch.setattr(neighbours, "VOCABULARY", tuple(f"not {n}" for n in dict.fromkeys([*names, *KNOWN])) + KNOWN)
        read = real(backbone, templates, names)
        monkeypatch.setattr(neighbours, "VOCABULARY", KNOWN)
        return read

    monkeypatch.setattr(neighbours, "embed", balanced)
    monkeypatch.setattr(unfamiliar, "doubts", lambda *_: [])
    return Plane()


def settings(*erase: str, **others) -> Config:
    return Config(**{"base": "demo", "out": "x.safetensors", "erase": [*erase], "templates": ["{}"], "retain": ["sand"], **others})


def resolved(config, backbone) -> tuple[Config, list[str]]:
    said = []
    return resolve(config, backbone, said.append), said


def test_the_embedding_is_centred_and_of_unit_length(plane):
    vectors = neighbours.embed(plane, ["{}"], ["cat", "lynx", "rock"]).unit[:3]
    expected = [[math.cos(math.radians(PLACES[n])), math.sin(math.radians(PLACES[n])), 0] for n in ("cat", "lynx", "rock")]
    torch.testing.assert_close(vectors, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize(
    "count, found",
    [(1, ["lynx", "wolf"]), (2, ["lynx", "tiger", "wolf"]), (0, []), (100, ["lynx", "tiger", "wolf", "rock"])],
)
def test_the_nearest_of_each_concept_are_retained_but_no_word_of_any(plane, count, found):
    """kitten lies at cat and coyote at puppy, a word of the other concept: both may mean a target."""
    config, said = resolved(settings("cat -> beach", "dog, puppy -> rock", neighbours=count), plane)
    assert sorted(config.retain) == sorted(["sand", *found])
    assert said == ([f"near neighbours to retain: {', '.join(config.retain[1:])}"] if found else [])


def test_what_is_retained_already_is_not_added_again(plane):
    config, said = resolved(settings("cat -> beach", neighbours=2, retain=["lynx", "sand"]), plane)
    assert config.retain == ["lynx", "sand", "tiger"] and said == ["near neighbours to retain: tiger"]


def test_the_first_suggestion_that_is_far_from_every_target_is_taken(plane):
    config, said = resolved(settings("cat, kitten", "dog -> ?animal", "tiger -> ?object", neighbours=0), plane)
    # Of objects the hut lies at cat and the shed at dog; of animals the first is a target itself.
    assert config.erase == ["cat, kitten -> rock", "dog -> beach", "tiger -> rock"]
    assert said == ["'cat' is mapped to 'rock'", "'dog' is mapped to 'beach'", "'tiger' is mapped to 'rock'"]
    assert resolved(settings("cat -> ? animal", neighbours=0), plane)[0].erase == ["cat -> dog"]


def test_without_a_suggestion_that_is_far_enough_one_is_asked_for(plane):
    with pytest.raises(ConfigError, match=r'erase: every suggested mapping concept \(hut, barn\) .* "cat -> forest"'):
        resolve(settings("cat -> ?near"), plane)


@pytest.mark.parametrize("mapping, cosine", [("hut", "0.94"), ("lynx", None), ("beach", None)])
def test_a_given_mapping_concept_is_taken_with_a_warning_when_it_is_near(plane, mapping, cosine):
    config, said = resolved(settings(f"cat -> {mapping}", neighbours=0), plane)
    assert config.erase == [f"cat -> {mapping}"]
    warning = f"warning: the mapping concept {mapping!r} is near 'cat' ({cosine}): choose a farther one"
    assert said == ([warning] if cosine else [])


def test_resolving_again_changes_nothing(plane):
    """As --resume does, and --add-to with the settings of the file."""
    once, _ = resolved(settings("cat", "dog -> ?animal", neighbours=2), plane)
    assert resolved(once, plane) == (once, [])
    assert resolved(settings("cat", "dog -> ?animal", neighbours=2), plane)[0] == once
    assert check(once, "resolved") is once


def test_names_are_read_in_at_most_three_templates_of_one_concept(monkeypatch):
    monkeypatch.setattr(neighbours, "VOCABULARY", ("wolf",))
    asked = []

    class Lengths:
        def encode(self, prompts):
            asked.append(prompts)
            return Text(torch.zeros(len(prompts), 1, 1), torch.tensor([[len(p) + i, len(asked)] for i, p in enumerate(prompts)]).float())

    templates = ["{one|two|three|four|five|six|seven} {}", "{} by {other}"]
    assert embed(Lengths(), templates, ["cat", "owl"]).unit.shape == (3, 2)
    assert asked == [[f"{n} {name}" for name in ("cat", "owl", "wolf")] for n in ("one", "three", "five")]


class Ring:
    """An encoder of words that are their angles, far from the origin, six of them its vocabulary, their mean in the middle."""

    def vocabulary(self):
        return ["10", "70", "130", "190", "250", "310"]

    def near_words(self, names, count):
        return {name: ["10", "70", "350"] for name in names}

    def encode(self, prompts):
        angles = [math.radians(float(p)) for p in prompts]
        return Text(torch.zeros(len(prompts), 1, 1), torch.tensor([[math.cos(a), math.sin(a), 9] for a in angles]))


@pytest.mark.parametrize(
    "targets, expected", [(["0"], {"70", "130", "190", "250"}), (["0", "180"], {"70", "250"}), (["40"], {"130", "190", "250", "310"})]
)
def test_words_that_may_mean_a_target_are_not_called_meaningless(targets, expected):
    assert FAR == 0.5  # 60 degrees
    assert set(told_apart(Ring(), concepts(*targets), [], 800, 0).drawn) == expected


def concepts(*words):
    return [parse_erase(f"{word} -> rock") for word in words]


def test_meaningless_words_are_drawn_by_the_seed():
    drawn = {tuple(told_apart(Ring(), concepts("1000"), [], 6, seed).drawn) for seed in (0, 0, 1)}
    assert len(drawn) == 2


def test_what_is_left_of_the_vocabulary_is_near_no_target():
    every = set(Ring().vocabulary())
    others = told_apart(Ring(), concepts("0", "100"), [], 6, 0).others
    assert not {"10", "70", "350"} & set(others) and set(others) < every


def test_the_encoders_own_words_that_may_mean_a_concept_are_its_but_not_what_is_retained(monkeypatch):
    meant = lambda retain: [e.words for e in told_apart(Ring(), concepts("0", "100"), retain, 6, 0).meant]
    assert meant([]) == [("0", "10", "350"), ("100", "70")]
    assert meant(["350"]) == [("0", "10"), ("100", "70")]
    monkeypatch.setattr(neighbours, "SUPERORDINATES", ("10",))
    assert meant([]) == [("0", "350"), ("100", "70")]


class Plurals(Ring):
    """Where a word and its plural lie at one place, but for "sun"."""

    def encode(self, prompts):
        return super().encode([{"cat": "0", "cats": "5", "sun": "100", "suns": "300"}.get(p, p) for p in prompts])


def test_a_plural_that_is_the_same_to_the_encoder_is_named_as_well():
    named = told_apart(Plurals(), concepts("cat", "sun", "100"), [], 6, 0).named
    assert [e.words for e in named] == [("cat", "cat", "cats"), ("sun",), ("100",)]


def test_on_the_demo_base(comfy):
    from host.load import load_backbone

    with torch.inference_mode():
        backbone = load_backbone("demo")
        erase = ["cat -> kitty", "dog, puppy -> ?animal", "lion -> ?"]
        given = settings(*erase, templates=["a {}, google style, on a blue background"], neighbours=3, retain=["pizza"])
        config, said = resolved(given, backbone)
        words = [w for e in config.erased() for w in e.words]
        names = [*words, *config.retain[1:], *(e.mapping for e in config.erased())]
        vectors = dict(zip(dict.fromkeys(names), embed(backbone, config.templates, names).unit))
    assert sum(line.startswith("warning: the mapping concept 'kitty' is near 'cat'") for line in said) == 1
    assert config.erased()[0].mapping == "kitty"
    assert config.erased()[1].mapping in MAPPINGS["animal"] and config.erased()[2].mapping in MAPPINGS["object"]
    added = config.retain[1:]
    assert config.retain[0] == "pizza" and 3 <= len(added) <= 9 and set(added) <= set(VOCABULARY) - set(words)
    assert max((vectors[w] @ vectors[a]).item() for w in words for a in added) < SAME
    assert check(config, "resolved") is config
    vocabulary = backbone.vocabulary()
    assert {"cat", "kitty", "house"} <= set(vocabulary) and all(w.isascii() and w.isalpha() for w in vocabulary)
    with torch.inference_mode():
        assert 30 < len((apart := told_apart(backbone, concepts("cat"), [], 60, 0)).drawn) <= 60
        assert {"kitty", "feline"} <= set(apart.meant[0].words) and "dog" not in apart.meant[0].words
