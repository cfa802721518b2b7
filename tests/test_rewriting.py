"""Rewriting what fires: the maps against their equation, states that do not fire to the bit, and pictures of the demo base."""

from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch

from evaluation import rewriting
from host.encode import Text
from trainer import rewriting as fitted
from trainer.prompts.answering import Answers
from trainer.prompts.concepts import Erase, parse_erase, target_prompts
from trainer.samples import Labels
from trainer.states import States
from unhype.condition import Standardise, Switch
from unhype.rewriting import Maps, Rewrite

ROOT = Path(__file__).resolve().parents[1]
OTHERS = ["dog", "pig", "bear", "car", "pizza", "apple"]
TEMPLATES = ("a {}, google style, on a blue background", "a drawing of a {}, yellow background, twitter style")
PAIRED = ("a {} and a {other}, twitter style, on a yellow background",)


def two_probes(threshold=1.0):
    """A network whose concept k fires where channel k of a state is above the threshold."""
    switch, standardise = Switch(2, 4), Standardise(1, 4)
    switch.weight.data = torch.eye(4)[:2]
    switch.threshold.fill_(threshold)
    return SimpleNamespace(switch=switch, standardise=standardise)


def shift_only(*shifts):
    """Maps that add a vector to a firing state and nothing else."""
    shift = torch.tensor(shifts)
    count, width = shift.shape
    return rewriting.Maps(torch.zeros(count, width), shift, torch.zeros(count, width, 1), torch.zeros(count, 1, width))


def test_answering_places():
    places = lambda ids, mapped: [t.tolist() for t in rewriting.answering(ids, mapped, 7)]
    assert places([0, 5, 6, 7, 9], [0, 5, 8, 7, 9]) == [[0, 1, 2, 3, 4, 5, 6]] * 2
    # Of a longer word the last token answers, and what stands behind it; the padding that both have follows.
    assert places([0, 5, 6, 9], [0, 5, 1, 2, 9]) == [[0, 1, 2, 3, 4, 5], [0, 1, 3, 4, 5, 6]]
    # Of a shorter one the first token answers to all that the longer one has before it.
    assert places([0, 5, 1, 2, 3, 9], [0, 5, 6, 9]) == [[0, 1, 2, 3, 4, 5, 6], [0, 1, 2, 2, 2, 3, 4]]


@pytest.mark.parametrize("rank, exact", [(2, True), (5, True), (1, False)])
def test_ridge_finds_an_affine_map_of_its_rank(rank, exact):
    rng = torch.Generator().manual_seed(0)
    x, change = torch.randn(200, 5, generator=rng), torch.randn(5, 2, generator=rng) @ torch.randn(2, 5, generator=rng)
    y = x + x @ change + torch.arange(5.0)
    mean, shift, down, up = rewriting.ridge(x, y - x, 1e-7, rank)
    assert down.shape == (5, rank) and up.shape == (rank, 5)
    assert torch.allclose(x + (x - mean) @ down @ up + shift, y, atol=1e-3) == exact


def test_ridge_is_the_regression_of_its_equation():
    rng = torch.Generator().manual_seed(1)
    x, y, strength = torch.randn(20, 4, generator=rng), torch.randn(20, 4, generator=rng), 0.3
    mean, shift, down, up = rewriting.ridge(x, y - x, strength, 4)
    whole, bias = (down @ up).requires_grad_(), shift.requires_grad_()
    loss = (x + (x - mean) @ whole + bias - y).square().sum() + len(x) * strength * x.var(0, correction=0).mean() * whole.square().sum()
    assert all(g.abs().max() < 1e-3 for g in torch.autograd.grad(loss, (whole, bias)))


def test_only_what_fires_changes():
    tokens = torch.tensor([[[0.5, 0, 3, 3], [2.0, 0, 3, 3], [0, 0, 0, 0]], [[0.1, 0.2, 1, 1], [0.9, 0.9, 5, 5], [0, 0, 1, 0]]])
    tokens[0, 2] = 0  # masked
    found, pooled = rewriting.Tokens(two_probes(), shift_only([-2.0, 0, 0, 1], [0, -2.0, 0, 0]))(tokens, torch.ones(2, 1))
    assert torch.equal(found[1], tokens[1]) and torch.equal(found[0, [0, 2]], tokens[0, [0, 2]])
    assert found[0, 1].tolist() == [0, 0, 3, 4] and torch.equal(pooled, torch.ones(2, 1))


def test_everywhere_all_states_of_a_prompt_that_fires_change():
    tokens = torch.tensor([[[0.5, 0, 3, 3], [2.0, 0, 3, 3], [0, 0, 0, 0]], [[0.1, 0.2, 1, 1], [0.9, 0.9, 5, 5], [0, 0, 1, 0]]])
    found, _ = rewriting.Tokens(two_probes(), shift_only([-2.0, 0, 0, 1], [0, -2.0, 0, 0]), everywhere=True)(tokens, torch.ones(2, 1))
    assert torch.equal(found[1], tokens[1]) and not found[0, 2].any()
    assert found[0, :2].tolist() == [[-1.5, 0, 3, 4], [0, 0, 3, 4]]


def test_of_two_erased_nouns_in_a_state_both_go():
    found, _ = rewriting.Tokens(two_probes(), shift_only([-2.0, 0, 0, 1], [0, -2.0, 1, 0]))(
        torch.tensor([[[2.0, 3, 0, 0]]]), torch.ones(1, 1)
    )
    assert found.tolist() == [[[0, 1, 1, 1]]]


def test_it_stops_where_a_map_does_not_silence_the_switch():
    found, _ = rewriting.Tokens(two_probes(), shift_only([0.0, 0, 0, 1], [0.0, 0, 0, 0]))(
        torch.tensor([[[2.0, 0, 0, 0]]]), torch.ones(1, 1)
    )
    assert found[0, 0, 3] == rewriting.AGAIN


def test_whole_takes_the_mapping_of_what_fires_highest():
    mapped = Text(torch.arange(16.0).view(2, 2, 4), torch.tensor([[5.0], [6.0]]))
    tokens = torch.zeros(2, 3, 4)
    tokens[0, 1], tokens[1] = torch.tensor([2.0, 3, 0, 0]), 0.1
    found, pooled = rewriting.Whole(two_probes(), mapped)(tokens, torch.ones(2, 1))
    assert torch.equal(found[0, :2], mapped.tokens[1]) and not found[0, 2].any() and pooled.tolist() == [[6.0], [1.0]]
    assert torch.equal(found[1], tokens[1])


@pytest.fixture(scope="module")
def cat(comfy):
    from host.load import load_backbone
    from unhype.checkpoint import load_eraser

    backbone, network = load_backbone("demo"), load_eraser(ROOT / "demo/erasers/demo_cat.safetensors").network
    targets = target_prompts([parse_erase("cat -> forest", None, [*TEMPLATES, *PAIRED])], OTHERS, 6, 0)
    maps = rewriting.fit(network, backbone, targets, OTHERS)
    return SimpleNamespace(backbone=backbone, network=network, maps=maps, tokens=rewriting.Tokens(network, maps))


def test_a_switch_that_never_fires_is_said(cat):
    deaf = deepcopy(cat.network)
    deaf.switch.threshold.fill_(100.0)
    targets = target_prompts([parse_erase("cat -> forest", None, list(TEMPLATES))], OTHERS, 0, 0)
    with pytest.raises(ValueError, match="fires on none of its target prompts"):
        rewriting.fit(deaf, cat.backbone, targets, [])


def test_an_erased_prompt_comes_near_its_mapped_one(cat):
    """On a template and a style that the maps were not fitted on: nearer by a third, and nothing fires."""
    text = cat.backbone.encode([f"an emoji of a {n} in fluent style with a green background" for n in ("cat", "kitty", "forest")])
    found, _ = cat.tokens(text.tokens[:2], text.pooled[:2])
    far = lambda t: (t - text.tokens[2]).norm()
    assert far(found[0]) < 0.7 * far(text.tokens[0]) and far(found[1]) < far(text.tokens[1])
    before = rewriting.margins(cat.network, text.condition())[:2].amax(2) > 0
    assert before.any(1).all() and torch.equal(found[~before], text.tokens[:2][~before])
    assert not cat.network.fires(Text(found, text.pooled[:2]).condition()).any()


def test_pictures(cat):
    """No cat by name or synonym; a dog's latents to the bit, also in one batch with a cat's."""
    from demo.judge import load_judge
    from evaluation.methods import rewritten

    model = rewritten("tokens", cat.backbone, cat.network, cat.tokens).model
    texts = [f"a {n}, fluent style, on a green background" for n in ("cat", "kitty", "dog")]
    text, empty = cat.backbone.encode(texts).conditioning(), cat.backbone.encode([""]).repeated(3).conditioning()
    noise = torch.stack([cat.backbone.noise((64, 64), i) for i in range(3)])
    before, after = (cat.backbone.sample(text, empty, (64, 64), 0, 8, 3.0, m, noise=noise) for m in (cat.backbone.model, model))
    assert torch.equal(before[2], after[2]) and (before[:2] != after[:2]).flatten(1).any(1).all()
    names = load_judge().names
    named = lambda latents: [names[i] for i in load_judge().scores(cat.backbone.decode(latents)).argmax(1)]
    assert named(before) == ["cat", "cat", "dog"] and named(after)[2] == "dog" and "cat" not in named(after)


def test_whole_becomes_the_mapping_concept(cat):
    whole = rewriting.whole(cat.network, cat.backbone, [Erase(("cat",), "forest", ())])
    text = cat.backbone.encode(["a kitty and a dog on pink", "a dog on pink"])
    found, pooled = whole(text.tokens, text.pooled)
    forest = cat.backbone.encode(["a forest"])
    assert torch.equal(found[0], forest.tokens[0]) and torch.equal(pooled[0], forest.pooled[0])
    assert torch.equal(found[1], text.tokens[1]) and torch.equal(pooled[1], text.pooled[1])


class Read(NamedTuple):
    """What trainer/rewriting.py takes of a training's data."""

    text: Text
    answers: Answers
    labels: Labels
    text_task: object = None


def read(states, change, named) -> Read:
    whole = torch.ones(states.shape[:2], dtype=torch.bool)
    labels = Labels(torch.tensor(named), torch.zeros(len(named), 2, dtype=torch.bool))
    return Read(Text(states, torch.zeros(len(states), 1)), Answers(change, whole, ~whole), labels)


def test_maps_are_fitted_on_the_firing_states_of_prompts_that_name_one_concept():
    rng = torch.Generator().manual_seed(0)
    network = two_probes()
    network.shape, network.rewriting = SimpleNamespace(concepts=2, rewrite=2), Maps(2, 4, 2)
    states = torch.rand(40, 3, 4, generator=rng) * 0.5  # nothing fires but ...
    states[:20, 1, 0], states[20:39, 2, 1], states[39, :, :2] = 3.0, 3.0, 3.0
    change = torch.full((40, 3, 4), 100.0)  # what is not to be learned
    change[:20, 1] = torch.tensor([-3.0, 0, 0, 1]) + states[:20, 1, 2:3] * torch.tensor([0.0, 0, 1, 0])
    change[20:39, 2] = torch.tensor([0.0, -3, 2, 0])
    named = [[True, False]] * 20 + [[False, True]] * 19 + [[True, True]]
    fitted.fit(network, read(states, change, named))
    on = torch.tensor([[True, True]]).expand(39, -1)
    got = Rewrite(network.standardise, network.switch, network.rewriting, on, torch.ones(39))(states[:39])
    torch.testing.assert_close(got[:20, 1], (states + change)[:20, 1], atol=0.02, rtol=0)
    torch.testing.assert_close(got[20:, 2], (states + change)[20:39, 2], atol=0.02, rtol=0)
    assert torch.equal(got[:20, [0, 2]], states[:20, [0, 2]])


def test_a_concept_that_never_fires_is_left_as_it_is():
    network = two_probes()
    network.shape, network.rewriting = SimpleNamespace(concepts=2, rewrite=1), Maps(2, 4, 1)
    fitted.fit(network, read(torch.zeros(4, 2, 4), torch.ones(4, 2, 4), [[True, False]] * 4))
    assert not any(value.any() for name, value in network.rewriting.state_dict().items() if name != "joint")


class Pieces:
    """An encoder whose tokenizer splits words at hyphens."""

    def goes_on(self, texts):
        return [[piece.startswith("-") for piece in text.split()] for text in texts]


def in_pieces(tells: float):
    """A network, and texts of words in pieces; the states of pieces tell it so far."""
    rng, network = torch.Generator().manual_seed(0), two_probes()
    network.rewriting = Maps(2, 4, 1)
    texts = ["a uk -ule -le on red"] * 60 + ["a cat on red"] * 60
    flags = torch.tensor([flag for own in Pieces().goes_on(texts) for flag in own])
    states = torch.randn(len(flags), 4, generator=rng)
    states[:, 3] += tells * flags
    length = torch.tensor([len(t.split()) for t in texts])
    fitted.fit_joins(network, Pieces(), SimpleNamespace(texts=texts, states=States(states.half(), length)))
    return network.rewriting, network.standardise.states(states), flags


def test_the_probe_finds_the_states_that_go_on_with_a_word():
    maps, states, flags = in_pieces(8.0)
    found = states @ maps.joins > maps.joint
    assert found[flags].float().mean() > 0.95 and found[~flags].float().mean() < 0.03


def test_where_states_do_not_tell_there_is_none():
    maps, states, _ = in_pieces(0.0)
    assert not maps.joins.any() and not (states @ maps.joins > maps.joint).any()
