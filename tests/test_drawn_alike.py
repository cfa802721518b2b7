"""Words that the base draws as a concept: which are asked about, which are chosen, and what the open base draws alike."""

import dataclasses
import re

import pytest
import torch

from trainer.config import Config, check
from trainer.prompts import drawn_alike, eyes
from trainer.prompts.drawn_alike import ALIKE, asked_about, asked_for, candidates, chosen, not_found, simplest, with_found
from trainer.prompts.eyes import share
from trainer.prompts.neighbours import resolve
from trainer.prompts.things import Things, things
from trainer.run.phases import rows_of

TEMPLATES = ["a {}, google style, on a blue background", "a {} on {blue|yellow}", "a drawing of a {}", "a {} and a {other}"]


def settings(*erase: str, **others) -> Config:
    own = {"base": "demo-open", "out": "x.safetensors", "erase": [*erase], "templates": TEMPLATES, "retain": ["rooster"], "size": "64x64"}
    return Config(**own | {"cfg": 3.0} | others)


def test_the_share_of_the_way():
    whole, apart = torch.tensor([2.0, 4.0]), torch.tensor([[0.0, 2.0, 3.0], [0.0, 4.0, 6.0]])
    assert share(apart, whole) == [1.0, 0.0, -0.5]
    for nowhere in (0.0, torch.inf, torch.nan):
        assert share(apart, torch.tensor([nowhere, 4.0])) == [0.0, 0.0, 0.0]


def test_those_drawn_most_alike_are_chosen():
    shares = {"chicken": 0.9, "poultry": 0.99, "chickens": 0.95, "goose": ALIKE, "rooster": 0.1}
    assert chosen([shares], 8) == [["poultry", "chicken"]]
    assert chosen([shares], 1) == [["poultry"]]
    pieces = {"bloodhound": ["blood", "hound"]}
    found = {
        "true toad": 1.0,
        "toad": 0.9,
        "sea-toad": 1.0,
        "agua fish": 0.9,
        "bloodhound": 1.0,
        "hound": ALIKE + 0.01,
        "amphibia": 1.0,
        "amphibian": 1.0,
    }
    assert {*found} - {*simplest(found, lambda w: pieces.get(w, [w]))} == {"true toad", "sea-toad", "bloodhound"}
    assert [*simplest({"bloodhound": 1.0, "hound": 0.5}, lambda w: pieces.get(w, [w]))] == ["bloodhound", "hound"]
    assert chosen([{}], 8) == [[]]


def test_a_word_is_of_the_concept_that_it_is_drawn_most_alike():
    shares = [{"fowl": 0.9, "bird": 0.95}, {"fowl": 0.97, "bird": 0.85, "duckling": 0.9}]
    assert chosen(shares, 8) == [["bird"], ["fowl", "duckling"]]
    assert chosen([{"fowl": 0.9}, {"fowl": 0.9}], 8) == [["fowl"], []]


def test_what_the_settings_speak_of_is_not_found():
    config = settings("hen, biddy -> old pine", "cat -> ?animal", retain=["cock", "butterfly"], retain_prompts=["Geese at dawn"])
    barred = not_found(config)
    assert {"hens", "biddy", "pine", "cats", "cocks", "butterflies", "geese", "animals", "kitchen", "drawing"} <= barred
    assert "goose" not in barred
    near = ["hens", "chicken", "hensofinstagram", "henna", "cock", "cats", "guinea-hen", "game cock", "pea fowl"]
    assert candidates(("hen", "biddy"), near, barred) == ["chicken", "henna", "pea fowl"]


OUTLINE = """\
bird
 fowl
  hen, biddy
   broody hen
   layer
  cock
 *
  owl
   barn owl
fish
"""


def test_the_outline_is_walked_from_near_to_far():
    outline = Things(OUTLINE)
    assert outline.related("hen", 6) == ["biddy", "fowl", "broody hen", "layer", "bird", "cock"]
    assert outline.related("Owl", 2) == ["barn owl", "bird"] and outline.related("fish", 9) == outline.related("van Gogh", 9) == []


def test_the_bundled_outline():
    outline = things()
    assert len(outline.lines_of) > 40_000 and all(words or under for words, under in zip(outline.words, outline.next_to))
    assert {"physician", "medic", "surgeon"} <= {*outline.related("doctor", 100)} and "physician" not in outline.related("cat", 100)
    assert "dog" not in outline.related("dog", 100)


class Encoder:
    def near_words(self, names, count, among):
        return {name: [*among][:count] for name in names}


def test_words_of_the_vocabulary_are_things_where_the_concept_is_one():
    vocabulary = ["naked", "harpsichord", "although"]
    asked = lambda *own: asked_about(own, set(), vocabulary, Encoder())
    assert asked("revolver")[-1] == "harpsichord" and not {"naked", "although"} & {*asked("revolver")}
    assert asked("xqvuzt") == vocabulary


def test_none_are_looked_for_where_none_are_wanted():
    config = settings("hen -> pine", find_words=0)
    assert with_found(config, None) is config and asked_for(config) == 0 and rows_of(config, "x")[drawn_alike.WHAT] == 0


class Counted:
    def __init__(self, backbone):
        self.rows = 0
        backbone.diffusion_model.register_forward_pre_hook(lambda module, given: self.add(len(given[0])))

    def add(self, rows):
        self.rows += rows


@pytest.fixture(scope="module")
def open_base(comfy):
    from host.load import load_backbone

    return load_backbone("demo-open")


@pytest.mark.parametrize(
    "concept, alike, others",
    [
        ("hen", {"chicken", "poultry", "biddy"}, {"rooster", "cock", "goose", "bird", "egg"}),
        ("doctor", {"physician"}, {"nurse", "scientist"}),
    ],
)
def test_on_the_open_base(open_base, concept, alike, others):
    from demo.open.nouns import NOUN_OF_WORD

    asked, said = Counted(open_base), []
    config = settings(f"{concept} -> pine", neighbours=8, retain=["piano"])
    with_all = resolve(config, open_base, said.append, draws=True)
    found = {*with_all.erased()[0].words[1:]}
    assert alike <= found and not found & others and len(found) <= config.find_words
    assert {NOUN_OF_WORD.get(word, concept) for word in found} == {concept}
    line = f"'{concept}': the model draws the same for {', '.join(with_all.erased()[0].words[1:])}: these are erased too. "
    assert line + "To keep one of them, add it to retain" in said
    assert not any(found & {*re.findall(r"\w+", hint)} for hint in said if "come near it" in hint)
    assert not found & {*with_all.retain} and len(with_all.retain) > 1 and check(with_all, "resolved") is with_all
    assert 0.4 < asked.rows / asked_for(config) < 2.5
    alone = dataclasses.replace(config, retain=["piano", *alike], neighbours=0, find_words=1)
    assert not {*with_found(alone, open_base).erased()[0].words} & alike
    assert with_found(config, open_base).erase == with_all.erase


def test_other_nouns_are_far_below_and_letters_mean_nothing(open_base):
    config = settings("hen -> pine")
    single = [t for t in TEMPLATES if "other" not in t and "|" not in t]
    seen = eyes.Eyes(config, open_base, single, config.erased()[0])
    chicken, rooster, letters = seen.shares(["chicken", "rooster", "xqvuzt"], len(single), len(eyes.KEPT))
    assert chicken > 0.95 and rooster < 0 and letters < 0.5


def test_a_training_that_goes_on_takes_the_words_that_were_found_before(comfy, monkeypatch):
    from host.load import load_backbone

    backbone, looked = load_backbone("demo"), []
    monkeypatch.setattr(drawn_alike, "with_found", lambda config, *_: looked.append(config.erase) or config)
    config = Config(base="demo", out="x.safetensors", erase=["cat -> forest"], templates=TEMPLATES, neighbours=0)
    before = lambda *known: resolve(config, backbone, lambda *_: None, draws=True, known=known).erase
    assert before("cat, kitty -> forest") == ["cat, kitty -> forest"] and not looked
    for others in ((), ("dog -> forest",), ("cat, kitty -> car",), ("cat -> forest", "dog -> forest"), ("\x00",)):
        assert before(*others) == ["cat -> forest"] and looked.pop() == ["cat -> forest"]
