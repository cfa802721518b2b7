"""What the training steps draw from: prompts in several wordings, batches, retained rows."""

import dataclasses
import re
from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from host.encode import Text
from trainer import data, reading, room, samples
from trainer.config import Config
from trainer.prompts import wordings
from trainer.prompts.neighbours import Apart
from trainer.prompts.written import parsed
from trainer.samples import Samples
from unhype.condition import Condition
from unhype.layers import FAMILIES


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Data


class Numbered:
    """An encoder whose pooled embedding is the prompt's number and its clip skip."""

    def __init__(self, family: str):
        self.texts: list[str] = []
        self.family = FAMILIES[family]
        self.clip = SimpleNamespace(tokenize=lambda text: {"l": [[(0, 1.0), (1, 1.0), (2, 1.0)]]})

    def load(self) -> None:
        """Its own weights are always in place."""

    def encode(self, prompts, clip_skip=1):
        self.texts += [p for p in dict.fromkeys(prompts) if p not in self.texts]
        pooled = torch.tensor([[self.texts.index(p), clip_skip] for p in prompts]).float()
        return Text(torch.ones(len(prompts), 3, 2), pooled)

    def one_chunk(self, prompts: list[str]) -> list[bool]:
        return ["too long" not in p for p in prompts]

    def pieces(self, name: str) -> list[str]:
        return [name]

    def read(self, condition) -> list[str]:
        return [self.texts[int(n)] for n in condition.pooled[:, 0]]


WRITTEN = tuple(parsed(f"the {{stone}} of kind {kind}", f"kind {kind}") for kind in "abcde") + (parsed("too long", "kind a"),)


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
    monkeypatch.setattr(
        data, "told_apart", lambda backbone, erased, retain, count, seed: Apart(["stone", "cloud", "moss"], erased, ["stone"], erased)
    )
    monkeypatch.setattr(reading, "written", lambda: WRITTEN)
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


def test_more_prompts_than_there_is_room_for_are_thinned_alike(tmp_path, monkeypatch):
    names = [f"thing{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40)]
    entries = [f"{name}, kind of {name}, sort of {name} -> sky" for name in names]
    few = made(tmp_path, monkeypatch, entries[0])[0]
    whole = made(tmp_path, monkeypatch, *entries)[0]
    monkeypatch.setattr(room, "ROOM", 6000 * room.TOKENS * 2)
    monkeypatch.setattr(room, "LEAST", 100)
    less, encoder, config = made(tmp_path, monkeypatch, *entries)
    held = lambda d: len(d.conditions) * len(d.conditions[0].pooled) + 3 * len(d.targets)
    assert held(whole) > 20_000 and 5000 < held(less) < 6600
    counts = Counter((t.named[0], t.prompt.pair) for t in less.targets)
    assert {k for k, _ in counts} == {*range(40)} and max(counts.values()) - min(counts.values()) <= 3
    assert less.named.sum(0).min() >= 8 and len(less.safe_texts) > 100 and {*less.safe_texts} <= {*whole.safe_texts}
    assert made(tmp_path, monkeypatch, entries[0])[0].target_texts == few.target_texts


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


def test_pairs_are_read_where_layers_see_the_prompt_alone_and_of_the_direct_objective(tmp_path, monkeypatch, two):
    assert two[0].text_task is None  # Flux
    for options in ({"unconditional": True}, {"objective": "trajectory"}, {"objective": "authors"}):
        assert made(tmp_path, monkeypatch, "cat -> sky", **{"family": "sd1", **options})[0].text_task is None
    prompts, encoder, config = made(tmp_path, monkeypatch, "cat, kitty -> sky", "owl -> sky", family="sd1")
    task = prompts.text_task
    texts = encoder.read(task.text)
    assert len(texts) > sum(t.prompt.pair for t in prompts.targets) and task.labels.named.any(1).all()
    assert task.labels.named.tolist() == [named_in(config, text) for text in texts]
    assert sum(len(text.split()) > 9 for text in texts[1::3] + texts[2::3]) == 0 < sum(len(text.split()) > 9 for text in texts[::3])


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


def test_written_text_is_read_without_and_with_the_targets_where_it_has_room(two):
    prompts, _, config = two
    read = prompts.text_read
    assert {"the stone of kind a", "the cat of kind a", "the kitty of kind a", "the owl of kind a"} < set(read.texts)
    assert not any("too long" in t for t in read.texts) and set(read.texts) <= prompts.seen()
    assert len(read.texts) == len(read.states) == len(read.labels) == len(read.held_out)
    for text, label, held_out in zip(read.texts, read.labels.tolist(), read.held_out.tolist()):
        assert label == [int(named) for named in named_in(config, text)]
        assert held_out == ("kind e" in text) or not any(f"kind {k}" in text for k in "abcd")


def test_of_written_text_as_much_is_read_as_there_is_time_and_room_for(tmp_path, monkeypatch):
    whole = made(tmp_path, monkeypatch, "cat -> sky")[0].text_read
    monkeypatch.setattr(reading, "ROOM", 100 * 3 * 2)  # three states of two numbers a prompt
    part = made(tmp_path, monkeypatch, "cat -> sky")[0].text_read
    assert 50 < len(part.texts) <= 101 and set(part.texts) < set(whole.texts)
    for label in (0, 1):
        assert {bool(h) for h, own in zip(part.held_out, part.labels[:, 0]) if own == label} == {False, True}


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


@pytest.mark.parametrize("share", [None, "SHARE_WEIGHTED", "SHARE_AMONG"])
def test_a_batch_has_the_mask_of_what_is_attended_to(two, monkeypatch, share):
    """Of families whose denoiser heeds one; else there is none."""
    prompts, encoder, config = two
    number = torch.arange(4.0)
    kind = Samples(number, number, number.long(), torch.zeros(4, dtype=torch.long), number, number, number)
    assert prompts.batch(kind, 16, 100, generator()).mask is None
    if share:
        monkeypatch.setattr(wordings, share, 1.0)
    first, text = prompts.target_conditions[0], prompts.text
    prompts.target_conditions[0] = first._replace(mask=first.mask & torch.tensor([True, True, False]))
    prompts.text = dataclasses.replace(text, mask=torch.tensor([[1, 0, 0]]).expand(len(text.tokens), -1))
    batch = prompts.batch(kind, 16, 100, generator())
    expected = [1, 1, 0] if share == "SHARE_AMONG" else [1, 0, 0]
    assert batch.mask.dtype == torch.long and batch.mask.tolist() == [expected] * 16 == batch.rows(slice(16)).to("cpu").mask.tolist()
    if share:
        assert torch.equal(batch.condition.mask, batch.mask.bool())


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
