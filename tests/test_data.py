"""What the training steps draw from: who is named and who is switched off, pictures per concept, batches, retained rows."""

import dataclasses
import random
import re
from collections import Counter

import pytest
import torch

from trainer import data, samples
from trainer.backbone import Text
from trainer.concepts import Prompt, Target
from trainer.config import Config
from trainer.samples import FEWEST, Labels, Samples, cache_key, picture_order
from unhype.condition import read_condition


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


def test_another_setting_or_prompt_of_the_pictures_is_another_cache():
    erase, targets = {"erase": ["cat -> forest"]}, targets_of(2)
    former = cache_key(Config(**erase), targets)
    for change in ({"templates_for": {"cat": ["a {}"]}}, {"erase": ["cat, kitty -> forest"]}, {"retain": ["dog"]}, {"autocast": "bf16"}):
        assert cache_key(Config(**(erase | change)), targets) != former
    for others in (targets[:1], targets[::-1], [dataclasses.replace(t, mapped="sky") for t in targets]):
        assert cache_key(Config(**erase), others) != former
    assert cache_key(Config(**erase, rank=2, iterations=7), targets_of(2)) == former


# Batches


@pytest.fixture
def unequal():
    """300 latents of prompt 0 or 1 (concept 0) and 5 of prompt 2 (concept 1), each latent its own number."""
    concept = torch.tensor([0] * 300 + [1] * 5)
    prompt = torch.where(concept == 1, 2, torch.arange(305) % 2)
    number = torch.arange(305.0)
    x = number.view(-1, 1, 1, 1)
    kept = Samples(x, number, prompt, concept, x + 1000, x + 2000, number + 3000)
    text = Text(torch.arange(3.0).view(3, 1, 1).expand(3, 2, 4) + 1, torch.arange(3.0).view(3, 1))
    labels = Labels(torch.eye(2, dtype=torch.bool)[[0, 0, 1]], torch.zeros(3, 2, dtype=torch.bool))
    return kept, text, [read_condition(text.tokens, text.pooled), read_condition(text.tokens, text.pooled + 10)], labels


def test_concepts_are_drawn_evenly_whatever_their_number_of_latents(unequal):
    kept, text, conditions, labels = unequal
    batch = kept.batch(4000, text, conditions, labels, 100, generator())
    rare = batch.x.flatten() >= 300
    assert abs(rare.float().mean() - 0.5) < 0.04
    assert Counter(batch.x.flatten()[rare].long().tolist()).keys() == set(range(300, 305))
    assert abs((batch.s == 100).float().mean() - 0.5) < 0.04 and batch.s.min() >= 0 and abs(batch.s[batch.s < 100].mean() - 50) < 4


def test_the_parts_of_a_batch_belong_together(unequal):
    kept, text, conditions, labels = unequal
    seen = set()
    for seed in range(8):
        batch = kept.batch(64, text, conditions, labels, 100, generator(seed))
        number = batch.x.flatten()
        prompt = kept.prompt[number.long()]
        assert torch.equal(batch.sigma, number) and torch.equal(batch.scale, number + 3000)
        assert torch.equal(batch.eps.flatten(), number + 1000) and torch.equal(batch.eps_star.flatten(), number + 2000)
        assert torch.equal(batch.context, text.tokens[prompt])
        (skip,) = set((batch.condition.pooled[:, 0] - prompt).tolist())  # one clip skip for the whole batch
        seen.add(skip)
        assert not (batch.off & labels.named[prompt]).any() and batch.off.any()
        assert batch.to("cpu").off is batch.off
    assert seen == {0, 10}


# Data


class Numbered:
    """An encoder whose pooled embedding is the prompt's number and its clip skip."""

    def __init__(self):
        self.texts: list[str] = []

    def load(self) -> None:
        """Its own weights are always in place."""

    def encode(self, prompts, clip_skip=1):
        self.texts += [p for p in dict.fromkeys(prompts) if p not in self.texts]
        pooled = torch.tensor([[self.texts.index(p), clip_skip] for p in prompts]).float()
        return Text(torch.ones(len(prompts), 3, 2), pooled)

    def read(self, condition) -> list[str]:
        return [self.texts[int(n)] for n in condition.pooled[:, 0]]


def made(tmp_path, monkeypatch, *erase: str, **options):
    monkeypatch.setattr(samples, "cached_samples", lambda *_: [])
    encoder = Numbered()
    config = Config(base="demo", erase=list(erase), out=str(tmp_path / "x.safetensors"), retain=["dog", "pig", "bear"])
    return data.Data(config, encoder, lambda _: None, **options), encoder, config


@pytest.fixture
def two(tmp_path, monkeypatch):
    return made(tmp_path, monkeypatch, "cat, kitty -> sky", "owl -> sky")


def named_in(config, text: str) -> list[bool]:
    return [any(re.search(rf"\b{w}\b", text) for w in e.words) for e in config.erased()]


def test_labels_say_what_each_prompt_names(two):
    prompts, encoder, config = two
    texts = [t.prompt.text for t in prompts.targets]
    assert prompts.labels.named.tolist() == [named_in(config, t) for t in texts]
    assert not (prompts.labels.off & ~prompts.labels.named).any()
    both = prompts.labels.named.all(1)
    assert prompts.labels.off[both].any(1).float().mean() == 0.5 and not prompts.labels.off[~both].any()
    for target, off in zip(prompts.targets, prompts.labels.off.tolist()):
        assert named_in(config, target.mapped) == off


def test_unconditional_targets_are_of_one_concept_and_become_the_empty_prompt(tmp_path, monkeypatch):
    prompts, _, config = made(tmp_path, monkeypatch, "cat, kitty -> sky", "owl -> sky", unconditional=True)
    assert {t.mapped for t in prompts.targets} == {""} and not any(t.prompt.pair for t in prompts.targets)
    assert prompts.labels.named.tolist() == [named_in(config, t.prompt.text) for t in prompts.targets]
    assert {t.named for t in prompts.targets} == {(0,), (1,)} and not prompts.labels.off.any()


def test_the_switch_also_sees_prompts_among_other_words(two):
    prompts, encoder, config = two
    assert len(prompts.conditions) == len(prompts.retain_conditions) == len(prompts.mixed_conditions) == 2
    for skip, mixed in enumerate(prompts.mixed_conditions, 1):
        texts = encoder.read(mixed)
        assert set(mixed.pooled[:, 1].tolist()) == {skip}
        assert prompts.mixed_named.tolist() == [named_in(config, t) for t in texts]
        for target, text in zip(prompts.targets, texts):
            assert target.prompt.text in text and len(text.split()) > len(target.prompt.text.split())
        assert 0 < (~prompts.mixed_named.any(1)).sum() <= 2 * len(prompts.targets)


def test_retained_rows_with_one_concept_are_retain_prompts(tmp_path, monkeypatch):
    prompts, encoder, config = made(tmp_path, monkeypatch, "cat -> sky")
    condition, off = prompts.retained(0, 400, generator())
    texts = encoder.read(condition)
    assert len(texts) == len(off) == 400 and set(texts) <= {p.text for p in prompts.retain} | {""}
    assert abs(off.float().mean() - 0.25) < 0.08


def test_a_quarter_of_the_retained_rows_names_concepts_that_are_all_off(two):
    prompts, encoder, config = two
    condition, off = prompts.retained(0, 400, generator())
    texts = encoder.read(condition)
    assert len(texts) == len(off) == 400
    assert set(texts[:300]) <= {p.text for p in prompts.retain} | {""} and abs(off[:300].float().mean() - 0.25) < 0.08
    named = torch.tensor([named_in(config, t) for t in texts])
    assert named[300:].any(1).all() and not named[:300].any()
    assert not (named & ~off).any() and (off & ~named)[300:].any()


def test_retained_rows_take_the_clip_skips_in_turn(two):
    prompts, *_ = two
    for iteration in range(4):
        condition, _ = prompts.retained(iteration, 16, generator())
        assert set(condition.pooled[:, 1].tolist()) == {1 + iteration % 2}
