"""The verdict on a training: measured on the demo base, of the bundled eraser, and of it spoilt in the ways a training fails."""

import copy
import dataclasses
import re
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from host.load import load_backbone
from trainer.config import Config, ConfigError, from_mapping
from trainer.prompts import held_out
from trainer.prompts.concepts import parse_erase, retain_prompts, target_prompts
from trainer.prompts.templates import TEMPLATES
from trainer.verdict import Concept, HeldOut, judge, shortcomings
from unhype.checkpoint import load_eraser

BUNDLED = Path(__file__).resolve().parents[1] / "demo/erasers/demo_cat.safetensors"


class Seen:
    """What a training has read."""

    words = ("stone", "cloud", "moss")

    def seen(self):
        return set()


@pytest.fixture(scope="module")
def judged(comfy):
    """A function: what the verdict on a network is and says, of the bundled eraser's training."""
    eraser, backbone = load_eraser(BUNDLED), load_backbone("demo")
    known = {f.name for f in fields(Config)}
    config = Config(**{k: v for k, v in eraser.training.items() if k in known})
    held = HeldOut(config, backbone, Seen(), print)

    def verdict(change=lambda network: None, **bars):
        network, said = copy.deepcopy(eraser.network), []
        with torch.no_grad():
            change(network)
        return judge(dataclasses.replace(config, **bars), backbone, network, held, said.append), said

    return verdict


def test_a_good_eraser_passes_clearly(judged):
    verdict, said = judged()
    own = verdict["concepts"]["cat"]
    assert verdict["passed"] and said[-1] == "verdict: passed" and not any("FAILED" in line for line in said)
    assert own["erased"] > 0.75 and own["misses"] == own["false_alarms"] == 0 and own["prompts"] > 80
    assert verdict["left_alone"] == 1 and verdict["moved_if_forced"] < 0.02


def test_an_eraser_that_changes_nothing_fails(judged):
    def untrained(network):
        network.least.zero_()
        for head in network.heads:
            head[1].weight.mul_(1e-6)

    verdict, said = judged(untrained)
    assert not verdict["passed"] and verdict["concepts"]["cat"]["erased"] == pytest.approx(0, abs=0.01)
    assert "FAILED 'cat': 0% of the wanted change is reached, at least 50% is expected. Train longer" in said[-2]
    assert said[-1].startswith("verdict: FAILED, 1 bar missed")
    assert judged(untrained, least_erased=0.0)[0]["passed"]


def test_an_eraser_that_overshoots_fails(judged):
    verdict, _ = judged(lambda network: [head[1].weight.mul_(5) for head in network.heads])
    assert not verdict["passed"] and verdict["concepts"]["cat"]["erased"] < 0
    assert judged(lambda network: [head[1].weight.mul_(5) for head in network.heads], least_erased=0.0)[0]["passed"]  # no bar


def test_a_switch_that_does_not_fire_fails_and_reaches_nothing(judged):
    verdict, said = judged(lambda network: network.switch.threshold.fill_(1e3))
    own = verdict["concepts"]["cat"]
    assert not verdict["passed"] and own["misses"] == 1 and own["erased"] == 0 and verdict["left_alone"] == 1
    assert any(
        "FAILED 'cat': the switch misses 100.0% of the prompts that name it" in line and "other or more words" in line for line in said
    )


def test_a_switch_that_always_fires_fails(judged):
    verdict, said = judged(lambda network: network.switch.threshold.fill_(-1e3))
    own = verdict["concepts"]["cat"]
    assert not verdict["passed"] and own["false_alarms"] == 1 and verdict["left_alone"] == 0 and own["misses"] == 0
    (line,) = [line for line in said if "fires on 100.0% of the prompts that do not name it" in line]
    assert "a dog" in line or "a pig" in line or "a bear" in line
    assert judged(lambda network: network.switch.threshold.fill_(-1e3), most_false_alarms=1.0, least_erased=0.0)[0]["passed"]


def test_each_bar_is_judged_for_each_concept():
    good = Concept(erased=0.5, misses=0.1, false_alarms=0.1, prompts=100, alarming=["a dog"])
    assert not shortcomings(Config(), "cat", good)
    for change in ({"erased": 0.49}, {"misses": 0.11}, {"false_alarms": 0.11}, {"erased": float("nan")}):
        (line,) = shortcomings(Config(), "owl", dataclasses.replace(good, **change))
        assert line.startswith("'owl': ")
    assert len(shortcomings(Config(), "owl", dataclasses.replace(good, erased=0, misses=1, false_alarms=1))) == 3


def test_more_steps_are_not_asked_for_where_more_gained_nothing():
    (line,) = shortcomings(Config(iterations=8), "owl", Concept(0.1, 0, 0, 100, []))
    assert "Train longer (iterations), raise learning_rate or rank, or map it" in line
    (line,) = shortcomings(Config(iterations=0), "owl", Concept(0.1, 0, 0, 100, []))
    assert "Train longer" not in line and "until more steps gained nothing: raise rank, or map it" in line


@pytest.mark.parametrize("name", ["least_erased", "most_misses", "most_false_alarms"])
@pytest.mark.parametrize("value", [-0.1, 1.1])
def test_a_bar_is_a_share(name, value):
    with pytest.raises(ConfigError, match=f"{name} is {value}, expected 0 or more"):
        from_mapping({"base": "demo", "erase": ["cat -> forest"], "out": "x.safetensors", name: value}, "a.yaml")


# Held-out prompts


VAN_GOGH = ("a picture by {}", "{}", "a {} and a {other}")
ERASED = [parse_erase("cat, kitty -> deep forest", {}, TEMPLATES), parse_erase("Van Gogh -> Rembrandt", {}, VAN_GOGH)]


def test_held_out_prompts_are_none_that_training_reads():
    retain = ["dog", "owl"]
    seen = {t.prompt.text for t in target_prompts(ERASED, retain, 16, 0)}
    seen |= {p.text for p in retain_prompts(retain, ERASED, TEMPLATES, ["my garden"], 8, 0)}
    targets, safe = held_out.targets(ERASED, seen), held_out.safe(ERASED, retain, TEMPLATES, ["my garden"], seen)
    texts = [*(t.prompt.text for t in targets), *safe]
    assert not seen & set(texts) and len(set(texts)) == len(texts) and len(texts) > 100
    again = {t.prompt.text for t in targets[:3]} | set(safe[:3])
    assert not again & {t.prompt.text for t in held_out.targets(ERASED, seen | again)}
    assert not again & set(held_out.safe(ERASED, retain, TEMPLATES, ["my garden"], seen | again))


def test_a_held_out_target_names_its_concept_and_becomes_the_mapping_in_the_same_words():
    for target in held_out.targets(ERASED, set()):
        concept = ERASED[target.concept]
        (word,) = [w for w in concept.words if re.search(rf"\b{w}\b", target.prompt.text)]
        without = lambda text, name: re.sub(rf"\ban? {name}\b|\b{name}\b", "#", text)
        assert without(target.prompt.text, word) == without(target.mapped, concept.mapping) != target.mapped


def test_every_word_and_every_retained_name_is_asked_for():
    targets = [t.prompt.text for t in held_out.targets(ERASED, set())]
    for word in ("cat", "kitty", "Van Gogh"):
        assert len([t for t in targets if re.search(rf"\b{word}\b", t)]) >= 16
    names = [f"thing{i}" for i in range(50)]
    safe = held_out.safe(ERASED, names, TEMPLATES, [], set())
    assert len(safe) == held_out.SAFE and all(any(re.search(rf"\b{n}\b", t) for t in safe) for n in names)
    assert any("my garden" in t for t in held_out.safe(ERASED, ["dog"], TEMPLATES, ["my garden"], set()))


def test_prompts_that_fill_their_chunk_are_not_made_longer():
    long = parse_erase("cat -> forest", {}, ("a {} " + "and more " * 17,))
    assert {t.prompt.text for t in held_out.targets([long], set())} == {t.format("cat") for t in held_out.TEMPLATES}
    assert all(len(t.split()) < 40 for t in held_out.safe([long], ["dog"], long.templates, ["word " * 37], set()))
