"""Samples: who is named and who is switched off, pictures per concept, the prompts that latents are asked for, anchors, the cache."""

import dataclasses
import random
from collections import Counter

import pytest
import torch

from host.encode import Text
from trainer.config import Config
from trainer.prompts.concepts import Prompt, Target
from trainer.samples import ANCHORED, FEWEST, Asked, Labels, Samples, cache_key, draw_anchors, draw_samples, picture_order


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Labels


def test_some_off_adds_only_concepts_that_the_prompt_does_not_name():
    named = torch.tensor([[True, False, False], [True, True, False], [False, False, False]])
    off = torch.tensor([[False, False, False], [False, True, False], [False, False, False]])
    every = torch.arange(3).repeat(2000)
    drawn = Labels(named, off).rows(every).some_off(generator()).view(2000, 3, 3)
    rate = drawn.float().mean(0)
    expected = torch.tensor([[0, 0.25, 0.25], [0, 1, 0.25], [0.25, 0.25, 0.25]])
    assert torch.equal((rate == 0) | (rate == 1), (expected == 0) | (expected == 1))
    assert (rate - expected).abs().max() < 0.04
    untouched = (drawn == off).all(2).float().mean(0)
    assert (untouched - torch.tensor([0.5 + 0.5 / 4, 0.5 + 0.5 / 2, 0.5 + 0.5 / 8])).abs().max() < 0.04


# Pictures


def targets_of(*counts: int, pair: bool = False) -> list[Target]:
    return [Target(Prompt(f"{k} {i}", pair), "", (k,)) for k, count in enumerate(counts) for i in range(count)]


@pytest.mark.parametrize(
    "counts, pictures, each",
    [
        ((10, 3, 40), 32, 11),
        ((10, 10), 32, 16),
        ((5,), 32, 32),
        ((7, 7, 7), 2, FEWEST),
        ((1, 9) * 10, 32, FEWEST),
    ],
)
def test_every_concept_has_as_many_pictures(counts, pictures, each):
    targets = targets_of(*counts)
    order = picture_order(targets, False, pictures, random.Random(0))
    assert Counter(targets[i].concept for i in order) == {k: each for k in range(len(counts))}
    assert [targets[i].concept for i in order] == [*range(len(counts))] * each  # in turn
    for k, count in enumerate(counts):
        drawn = Counter(i for i in order if targets[i].concept == k)
        assert len(drawn) == min(count, each) and max(drawn.values()) == -(-each // count)


def test_pictures_are_of_the_kind_asked_for_and_drawn_by_the_seed():
    targets = targets_of(8, 8) + targets_of(8, 8, pair=True)
    order = [picture_order(targets, pair, 8, random.Random(seed)) for pair, seed in ((False, 0), (True, 0), (True, 0), (True, 1))]
    assert max(order[0]) < 16 <= min(order[1]) and order[1] == order[2] != order[3]


def test_a_prompt_of_two_concepts_counts_for_the_one_that_is_on():
    targets = [Target(Prompt("a", True), "", (1, 0), (0,))] * 3 + [Target(Prompt("b", True), "", (0, 1))] * 3
    assert [t.concept for t in targets] == [1] * 3 + [0] * 3
    assert [t // 3 for t in picture_order(targets, True, 8, random.Random(0))] == [0, 1] * 4


def test_latents_are_drawn_evenly_whatever_their_number_of_a_concept():
    concept = torch.tensor([0] * 300 + [1] * 5 + [2] * 50)
    empty = torch.zeros(355)
    rows = Samples(empty, empty, empty, concept, empty, empty, empty).balanced(6000, generator())
    assert (torch.bincount(concept[rows]) / 6000 - 1 / 3).abs().max() < 0.03
    assert set(rows[concept[rows] == 1].tolist()) == set(range(300, 305))


class Painter:
    """A base whose latents and predictions are their prompt's number, which is all that its encoder says."""

    device, flow = torch.device("cpu"), False

    def encode(self, prompts):
        return texts_of([-1] * len(prompts))

    def sample(self, positive, negative, size, seed, steps, cfg, keep):
        return [(positive[0][1]["pooled_output"][..., None, None], float(len(keep) - k)) for k in range(len(keep))]

    def predict(self, x, sigma, tokens, pooled, mask):
        return pooled[..., None, None]


def texts_of(values) -> Text:
    return Text(torch.zeros(len(values), 1, 1), torch.tensor(values).float()[:, None])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("pair, levels", [(False, {8, 6, 4, 2}), (True, {8})])
def test_latents_are_asked_for_other_prompts_of_their_concept(pair, levels, own):
    targets, count = targets_of(12, 30, pair=pair), 42
    config = Config(size="64x64", pictures=32, sampling_steps=16, kept_steps=8, guidance=1.0, pair_guidance=1.0)
    text, mapped = texts_of(list(range(count))), texts_of([1000 + n for n in range(count)])
    found = draw_samples(Painter(), config, Asked(targets, text, mapped, texts_of([-1])), pair, lambda _: None, own)
    drawn, asked = found.x.flatten().long(), found.prompt
    assert torch.equal(found.eps.flatten().long(), asked)
    assert torch.equal(found.eps_star, 2 * (1000 + found.eps) - found.eps)
    assert all(targets[a].concept == targets[d].concept == c for a, d, c in zip(asked, drawn, found.concept))
    others = {int(sigma) for sigma, a, d in zip(found.sigma, asked, drawn) if a != d}
    assert others == (set() if own else levels)


def test_guidance_ends_where_something_beside_is_to_stay():
    """A concept beside a kept thing or one that is off goes as far as pair_guidance, two erased ones as far as one alone."""
    prompt = lambda pair: Prompt("", pair)
    targets = [Target(prompt(False), "", (0,)), Target(prompt(True), "", (0,)), Target(prompt(True), "", (0, 1), (1,))]
    targets += [Target(prompt(True), "", (0, 1))]
    config = Config(size="64x64", pictures=8, sampling_steps=16, kept_steps=8, guidance=0.5, pair_guidance=0.25)
    text, mapped = texts_of([0, 1, 2, 3]), texts_of([100, 100, 100, 100])
    samples = [
        draw_samples(Painter(), config, Asked(targets, text, mapped, texts_of([-1])), pair, lambda _: None, False) for pair in (False, True)
    ]
    for found in samples:
        far = torch.tensor([0.5, 0.25, 0.25, 0.5])[found.prompt].view_as(found.eps)
        assert torch.equal(found.eps_star, 100 - far * (found.eps - 100))
    assert set(samples[1].prompt.tolist()) == {1, 2, 3}


def test_anchors_stay_and_weigh_by_their_noise_level():
    config = Config(size="64x64", pictures=32, sampling_steps=16, kept_steps=8)
    text, targets = texts_of(list(range(12))), targets_of(12)
    erased = draw_samples(
        Painter(), config, Asked(targets, text, texts_of([100 * n for n in range(12)]), texts_of([-1])), False, lambda _: None, False
    )
    anchors = draw_anchors(Painter(), config, Asked(targets, text, text, texts_of([-1])), erased, lambda _: None)
    assert len(anchors.x) == len(erased.x) / 2 and torch.equal(anchors.eps, anchors.eps_star)
    assert torch.equal(anchors.eps.flatten().long(), anchors.prompt)
    for sigma in erased.sigma.unique():
        own = anchors.scale[anchors.sigma == sigma]
        assert torch.equal(own, (ANCHORED * erased.scale[erased.sigma == sigma])[:1].expand(len(own)))


def test_another_setting_or_prompt_of_the_pictures_is_another_cache():
    erase, targets = {"erase": ["cat -> forest"]}, targets_of(2)
    former = cache_key(Config(**erase), targets)
    for change in (
        {"templates_for": {"cat": ["a {}"]}},
        {"erase": ["cat, kitty -> forest"]},
        {"retain": ["dog"]},
        {"autocast": "bf16"},
        {"guidance": 0.3},
    ):
        assert cache_key(Config(**(erase | change)), targets) != former
    for others in (targets[:1], targets[::-1], [dataclasses.replace(t, mapped="sky") for t in targets]):
        assert cache_key(Config(**erase), others) != former
    assert cache_key(Config(**erase), targets, own=True) != former
    assert cache_key(Config(**erase, rank=2, iterations=7), targets_of(2)) == former
