"""What the training steps draw from: who is named and who is switched off, pictures per concept, batches, retained rows."""

import dataclasses
import random
import re
from collections import Counter

import pytest
import torch

from trainer import data, samples, wordings
from trainer.backbone import Text
from trainer.concepts import Prompt, Target
from trainer.config import Config
from trainer.samples import ANCHORED, FEWEST, Asked, Labels, Samples, cache_key, draw_anchors, draw_samples, picture_order
from unhype.condition import Condition
from unhype.layers import FAMILIES


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

    def predict(self, x, sigma, tokens, pooled):
        return pooled[..., None, None]


def texts_of(values) -> Text:
    return Text(torch.zeros(len(values), 1, 1), torch.tensor(values).float()[:, None])


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("pair, levels", [(False, {8, 6, 4, 2}), (True, {8})])
def test_latents_are_asked_for_other_prompts_of_their_concept(pair, levels, own):
    targets, count = targets_of(12, 30, pair=pair), 42
    config = Config(size="64x64", pictures=32, sampling_steps=16, kept_steps=8, guidance=1.0, pair_guidance=1.0)
    text, mapped = texts_of(list(range(count))), texts_of([1000 + n for n in range(count)])
    found = draw_samples(Painter(), config, Asked(targets, text, mapped), pair, lambda _: None, own)
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
    samples = [draw_samples(Painter(), config, Asked(targets, text, mapped), pair, lambda _: None, False) for pair in (False, True)]
    for found in samples:
        far = torch.tensor([0.5, 0.25, 0.25, 0.5])[found.prompt].view_as(found.eps)
        assert torch.equal(found.eps_star, 100 - far * (found.eps - 100))
    assert set(samples[1].prompt.tolist()) == {1, 2, 3}


def test_anchors_stay_and_weigh_by_their_noise_level():
    config = Config(size="64x64", pictures=32, sampling_steps=16, kept_steps=8)
    text, targets = texts_of(list(range(12))), targets_of(12)
    erased = draw_samples(Painter(), config, Asked(targets, text, texts_of([100 * n for n in range(12)])), False, lambda _: None, False)
    anchors = draw_anchors(Painter(), config, Asked(targets, text, text), erased, lambda _: None)
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


# Data


class Numbered:
    """An encoder whose pooled embedding is the prompt's number and its clip skip."""

    def __init__(self, family: str):
        self.texts: list[str] = []
        self.family = FAMILIES[family]

    def load(self) -> None:
        """Its own weights are always in place."""

    def encode(self, prompts, clip_skip=1):
        self.texts += [p for p in dict.fromkeys(prompts) if p not in self.texts]
        pooled = torch.tensor([[self.texts.index(p), clip_skip] for p in prompts]).float()
        return Text(torch.ones(len(prompts), 3, 2), pooled)

    def read(self, condition) -> list[str]:
        return [self.texts[int(n)] for n in condition.pooled[:, 0]]


def of_anchors(backbone, config, asked, anchors, *_) -> list[Samples]:
    """Samples of every anchor and of no target."""
    number = torch.arange(len(anchors.targets) if anchors else 0)
    return [Samples(number.float(), number.float(), number, 0 * number, *[number.float()] * 3)] if anchors else []


def made(tmp_path, monkeypatch, *erase: str, family="flux", objective="direct", **options):
    """Data without pictures, whose conditions are not joined or weighted, so that each can be read; its encoder and settings."""
    monkeypatch.setattr(samples, "cached_samples", of_anchors)
    monkeypatch.setattr(wordings, "joined", lambda condition, others, rng: condition)
    monkeypatch.setattr(wordings, "SHARE_WEIGHTED", 0.0)
    monkeypatch.setattr(wordings, "SHARE_AMONG", 0.0)
    monkeypatch.setattr(data, "meaningless", lambda backbone, targets, count, seed: ["stone", "cloud", "moss"])
    encoder = Numbered(family)
    config = Config(base="demo", clip_skips=[1, 2], erase=list(erase), out=str(tmp_path / "x.safetensors"), retain=["dog", "pig", "bear"])
    config.objective = objective
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
    assert 0.1 < prompts.labels.off[both].any(1).float().mean() <= 0.5 and not prompts.labels.off[~both].any()
    for target, off in zip(prompts.targets, prompts.labels.off.tolist()):
        assert named_in(config, target.mapped) == off


def test_unconditional_targets_are_of_one_concept_and_become_the_empty_prompt(tmp_path, monkeypatch):
    prompts, _, config = made(tmp_path, monkeypatch, "cat, kitty -> sky", "owl -> sky", unconditional=True)
    assert {t.mapped for t in prompts.targets} == {""} and not any(t.prompt.pair for t in prompts.targets)
    assert prompts.labels.named.tolist() == [named_in(config, t.prompt.text) for t in prompts.targets]
    assert {t.named for t in prompts.targets} == {(0,), (1,)} and not prompts.labels.off.any()


def test_anchors_are_retain_prompts_under_the_adapters_of_target_prompts(two):
    prompts, encoder, config = two
    batch = prompts.anchor_batch(400, 300, generator())
    attended = encoder.read(batch)
    assert set(attended) <= {p.text for p in prompts.retain} and len(set(attended)) > 20
    assert not any(any(named_in(config, text)) for text in attended)
    read = encoder.read(batch.condition)
    assert set(read) <= set(prompts.target_texts) and all(any(named_in(config, text)) for text in read)
    assert (batch.s == 300).float().mean() == pytest.approx(0.5, abs=0.1) and batch.s.max() <= 300
    assert not (batch.off.all(1)).any()
    assert prompts.turn(0, 4, 300, generator())[0] == "anchor"  # of no other kind there are samples


@pytest.mark.parametrize("options", [{"family": "sd1"}, {"unconditional": True}, {"objective": "trajectory"}, {"objective": "authors"}])
def test_anchors_are_of_flux_and_of_the_direct_objective(tmp_path, monkeypatch, options):
    assert made(tmp_path, monkeypatch, "cat -> sky", **options)[0].anchors is None


def test_the_switch_sees_every_wording_of_targets_and_of_what_is_safe(two):
    prompts, encoder, config = two
    own = [t.prompt.text for t in prompts.targets]
    assert len(prompts.target_conditions) == len(prompts.safe_conditions) == 2
    for skip, (target, safe) in enumerate(zip(prompts.target_conditions, prompts.safe_conditions), 1):
        assert set(target.pooled[:, 1].tolist()) == set(safe.pooled[:, 1].tolist()) == {skip}
        texts, safe_texts = encoder.read(target), encoder.read(safe)
        assert texts == prompts.target_texts and safe_texts == prompts.safe_texts
        assert prompts.named.tolist() == [named_in(config, t) for t in texts]
        assert not any(any(named_in(config, t)) for t in safe_texts)
        assert texts[: len(own)] == own and all(any(text in t and t != text for t in texts) for text in own)
        assert {"cat", "a cat", "kitty", "owl", "an owl"} <= set(texts[len(own) :])
        for some in (texts, safe_texts):  # among names of what is retained, and among any words of the encoder
            assert any("moss" in t for t in some) and any("bear" in t for t in some)
        assert "" in safe_texts and {p.text for p in prompts.retain} | {"dog", "pig", "bear"} <= set(safe_texts)


def test_every_wording_of_a_target_names_what_it_names(two):
    prompts, encoder, config = two
    for row, wording in enumerate(prompts.wording.tolist()):
        assert wording[0] == row and len(set(wording)) > 2
        for other in wording:
            assert named_in(config, prompts.target_texts[other]) == prompts.labels.named[row].tolist()


def test_the_parts_of_a_batch_belong_together(two):
    prompts, encoder, config = two
    prompt = torch.arange(40) * 7 % len(prompts.targets)
    concept = torch.tensor([prompts.targets[p].concept for p in prompt])
    number = torch.arange(40.0)
    x = number.view(-1, 1, 1, 1)
    kind = Samples(x, number, prompt, concept, x + 1000, x + 2000, number + 3000)
    prompts.text = dataclasses.replace(prompts.text, tokens=torch.arange(float(len(prompts.targets))).view(-1, 1, 1))
    skips, wordings_read, steps = set(), Counter(), []
    for seed in range(12):
        batch = prompts.batch(kind, 64, 100, generator(seed))
        row = batch.x.flatten().long()
        assert torch.equal(batch.sigma, number[row]) and torch.equal(batch.scale, number[row] + 3000)
        assert torch.equal(batch.eps.flatten(), number[row] + 1000) and torch.equal(batch.eps_star.flatten(), number[row] + 2000)
        assert torch.equal(batch.context.flatten().long(), prompt[row])
        assert torch.equal(batch.pooled, prompts.text.pooled[prompt[row]])
        labels = prompts.labels.rows(prompt[row])
        assert not (labels.off & ~batch.off).any() and not (batch.off & labels.named & ~labels.off).any()
        (skip,) = set(batch.condition.pooled[:, 1].tolist())  # one clip skip for the whole batch
        skips.add(skip)
        for text, p in zip(encoder.read(batch.condition), prompt[row].tolist()):
            (place, *_) = [i for i, w in enumerate(prompts.wording[p].tolist()) if prompts.target_texts[w] == text]
            wordings_read[place] += 1
        steps.append(batch.s)
        assert batch.to("cpu").off is batch.off
    assert skips == {1, 2} and len(wordings_read) > 2 and min(wordings_read.values()) > 50
    s = torch.cat(steps)
    assert abs((s == 100).float().mean() - 0.5) < 0.06 and s.min() >= 0 and abs(s[s < 100].mean() - 50) < 6


def test_a_weighted_batch_is_attended_to_as_it_is_read(two, monkeypatch):
    monkeypatch.setattr(wordings, "SHARE_WEIGHTED", 1.0)
    monkeypatch.setattr(wordings, "weighted", lambda tokens, empty, rng: 3 * tokens - empty)
    prompts, encoder, config = two
    number = torch.arange(4.0)
    kind = Samples(number, number, number.long(), torch.zeros(4, dtype=torch.long), number, number, number)
    batch = prompts.batch(kind, 16, 100, generator())
    assert (batch.context == 2).all() and torch.equal(batch.condition.tokens, batch.context)
    assert encoder.read(batch.condition) == [prompts.targets[int(n)].prompt.text for n in batch.x]


def test_a_batch_among_words_is_attended_to_as_it_is_read(two, monkeypatch):
    monkeypatch.setattr(wordings, "SHARE_AMONG", 1.0)
    prompts, encoder, config = two
    first = prompts.target_conditions[0]
    prompts.target_conditions[0] = first._replace(tokens=first.tokens * first.pooled[:, :1, None])
    number = torch.arange(4.0)
    kind = Samples(number, number, number.long(), torch.zeros(4, dtype=torch.long), number, number, number)
    batch = prompts.batch(kind, 64, 100, generator())
    assert torch.equal(batch.condition.tokens, batch.context) and set(batch.condition.pooled[:, 1].tolist()) == {1}
    assert torch.equal(batch.condition.pooled, batch.pooled)
    read = encoder.read(batch.condition)
    assert [encoder.texts[int(c)] for c in batch.context[:, 0, 0]] == read
    for text, n in zip(read, batch.x):
        own = prompts.targets[int(n)].prompt.text
        assert own in text and own != text
    assert any("moss" in t for t in read) and any("bear" in t for t in read)


def test_retained_rows_with_one_concept_are_safe_prompts(tmp_path, monkeypatch):
    prompts, encoder, config = made(tmp_path, monkeypatch, "cat -> sky")
    condition, off = prompts.retained(0, 400, generator())
    texts = encoder.read(condition)
    assert len(texts) == len(off) == 400 and set(texts) <= set(prompts.safe_texts)
    assert abs(off.float().mean() - 0.25) < 0.08


def test_a_quarter_of_the_retained_rows_names_concepts_that_are_all_off(two):
    prompts, encoder, config = two
    condition, off = prompts.retained(0, 400, generator())
    texts = encoder.read(condition)
    assert len(texts) == len(off) == 400
    assert set(texts[:300]) <= set(prompts.safe_texts) and abs(off[:300].float().mean() - 0.25) < 0.08
    named = torch.tensor([named_in(config, t) for t in texts])
    assert named[300:].any(1).all() and not named[:300].any()
    assert not (named & ~off).any() and (off & ~named)[300:].any()


def test_retained_rows_take_the_clip_skips_in_turn(two):
    prompts, *_ = two
    for iteration in range(4):
        condition, _ = prompts.retained(iteration, 16, generator())
        assert set(condition.pooled[:, 1].tolist()) == {1 + iteration % 2}


# Wordings


def numbered(count: int, first: int, chunk: int = 3) -> Condition:
    """Conditions whose pooled embedding and tokens are their number; as many tokens are masked as the number's last digit says."""
    number = torch.arange(first, first + count)
    tokens = number.float().view(-1, 1, 1).expand(count, chunk, 2)
    return Condition(number.float().view(-1, 1), tokens, torch.arange(chunk) >= number[:, None] % chunk)


@pytest.mark.parametrize("count", [1, 3])
def test_among_chunks_a_prompt_stands_anywhere_once_and_the_first_chunk_is_pooled(count):
    own, others = numbered(900, 0), numbered(50, 10_000)
    found = wordings.among_chunks(own, others, count, generator())
    numbers = found.tokens.view(900, count + 1, 3, 2)
    assert torch.equal(numbers, numbers[:, :, :1, :1].expand_as(numbers))
    numbers = numbers[:, :, 0, 0]
    assert torch.equal(found.pooled[:, 0], numbers[:, 0])
    assert torch.equal(found.mask.view(900, count + 1, 3), torch.arange(3) >= numbers[..., None] % 3)
    is_own = numbers == torch.arange(900.0)[:, None]
    assert is_own.sum(1).eq(1).all() and ((numbers >= 10_000) != is_own).all()
    assert (is_own.float().mean(0) - 1 / (count + 1)).abs().max() < 0.07


def test_an_average_is_at_least_half_the_prompt_itself():
    own, others = numbered(500, 0), numbered(20, 1000)
    found = wordings.averaged(own, others, generator())
    shares = []
    for n in range(500):
        fits = [(m - found.pooled[n].item()) / (m - n) for m in range(1000, 1020)]
        assert torch.equal(found.tokens[n], found.pooled[n].expand(3, 2)) and max(fits) >= 0.5 and min(fits) <= 1
        assert any(torch.equal(found.mask[n], own.mask[n] | others.mask[m]) for m in range(20))
        shares.append(sum(fits) / 20)
    assert min(shares) < 0.55 and max(shares) > 0.95


def test_batches_are_joined_in_every_way_in_their_shares():
    own, others, rng = numbered(4, 0), numbered(9, 1000), generator()
    kinds = Counter()
    for _ in range(1000):
        found = wordings.joined(own, others, rng)
        chunks = found.tokens.shape[1] // 3
        kinds[chunks if chunks > 1 else "as it is" if found is own else "averaged"] += 1
    assert set(kinds) == {"as it is", "averaged", 2, 3, 4}
    chunks, blends = 1000 * wordings.SHARE_CHUNKS, 1000 * wordings.SHARE_AVERAGED
    assert abs(kinds["as it is"] - (1000 - chunks - blends)) < 60 and abs(kinds["averaged"] - blends) < 60


def test_weighting_scales_a_prompts_distance_from_the_empty_one():
    tokens, empty = torch.randn(400, 6, 4, generator=generator(1)), torch.randn(1, 6, 4, generator=generator(2))
    found = wordings.weighted(tokens, empty, generator())
    ratio = ((found - empty) / (tokens - empty)).mean(2)
    low, high = wordings.WEIGHTS
    whole = 0
    for row, got, was in zip(ratio, found, tokens):
        moved = ~(got == was).all(1)
        if moved.any():  # of a few rows no token is
            assert low - 1e-3 <= row[moved].min() <= row[moved].max() <= min(high, row[moved].min()) + 1e-3  # one weight a row
        whole += bool(moved.all())
    assert 150 < whole < 260 and ratio.min() < low + 0.1 and ratio.max() > high - 0.1
