"""The hard prompts: each case puts the noun where its name says, and the table runs on the bundled eraser."""

import random
from pathlib import Path

import pytest
import torch

from benchmarks.comparison.emoji import WORDING
from evaluation import hard_prompts
from evaluation.hard_prompts import CASES, PAIR, SINGLE, token_ids

ROOT = Path(__file__).resolve().parents[1]
CHUNK = 77


@pytest.fixture(scope="module")
def make(demo):
    def make(case, seed=0, words=("cat",), others=("dog",)):
        with torch.inference_mode():
            return CASES[case](WORDING, demo.clip, random.Random(seed), "cat", others, list(words))

    return make


def weights(clip, text):
    """The tokens' weights, those of the word "cat" and all others."""
    (cat,) = token_ids(clip, "cat")
    pairs = [pair for chunk in clip.tokenize(text)["l"] for pair in chunk]
    return {w for i, w in pairs if i == cat}, {w for i, w in pairs if i != cat}


@pytest.mark.parametrize("case", CASES)
def test_a_case_is_reproducible_and_names_the_noun(make, case):
    first, again = make(case, 5), make(case, 5)
    assert first.text == again.text and "cat" in first.text and first.erased[0] == "cat"
    for (a, extra), (b, other) in zip(first.positive, again.positive, strict=True):
        assert torch.equal(a, b) and torch.equal(extra["pooled_output"], other["pooled_output"])
    assert len({make(case, seed).text for seed in range(12)}) > 6


def test_after_75_tokens(demo, make):
    for seed in range(5):
        prompt, (cat,) = make("after 75 tokens", seed), token_ids(demo.clip, "cat")
        assert token_ids(demo.clip, prompt.text).index(cat) >= 75
        assert prompt.positive[0][0].shape[1] == 2 * CHUNK


def test_300_tokens_fill_four_chunks_with_the_noun_anywhere(demo, make):
    prompts, (cat,) = [make("300 tokens", seed) for seed in range(8)], token_ids(demo.clip, "cat")
    assert {p.positive[0][0].shape[1] for p in prompts} == {4 * CHUNK}
    ids = [token_ids(demo.clip, p.text) for p in prompts]
    assert all(290 <= len(i) <= 300 for i in ids)
    assert len({i.index(cat) // 75 for i in ids}) > 2


@pytest.mark.parametrize("weight", [1.4, 0.7])
def test_weighted(demo, make, weight):
    for seed in range(4):
        on_cat, elsewhere = weights(demo.clip, make(f"weighted {weight}", seed).text)
        assert on_cat == {weight} and 1.0 in elsewhere


def test_joined(demo, make):
    assert {make("ConditioningConcat", s).positive[0][0].shape[1] for s in range(4)} == {2 * CHUNK}
    assert {len(make("ConditioningCombine", s).positive) for s in range(4)} == {2}


def test_average_lies_between_its_two_prompts(demo, make):
    prompt = make("ConditioningAverage", 1)
    strength = float(prompt.text.split("[")[1].split("]")[0])
    ours, other = (hard_prompts.encode(demo.clip, t)[0][0] for t in prompt.text.split(": ", 1)[1].split(" | "))
    assert 0.5 <= strength <= 0.8
    torch.testing.assert_close(prompt.positive[0][0], strength * ours + (1 - strength) * other)


def test_set_area_splits_a_wide_picture(make):
    prompt = make("ConditioningSetArea")
    assert prompt.size == PAIR
    assert sorted(extra["area"] for _, extra in prompt.positive) == [(8, 8, 0, 0), (8, 8, 0, 8)]
    assert {extra["strength"] for _, extra in prompt.positive} == {1.0}


def test_two_nouns(make):
    both, kept = make("two erased concepts"), make("erased and kept")
    assert both.erased == ("cat", "dog") and ("dog" in both.text or "puppy" in both.text or "hound" in both.text)
    assert kept.erased == ("cat",) and both.size == kept.size == PAIR and make("plain").size == SINGLE


def test_misspellings_are_other_words():
    spelt = hard_prompts.misspellings(WORDING, "boat")
    assert {"bboat", "boatt", "oat", "baot", "bo-at", "aboat", "blueboat"} <= spelt
    assert "boat" not in spelt and "Boat" not in spelt and "boat." not in spelt


def test_rows_of_a_batch_keep_their_own_prompts(make):
    prompts = [make("ConditioningCombine", seed).positive for seed in range(3)]
    batch = hard_prompts.stacked(prompts)
    for i, positive in enumerate(prompts):
        for (tokens, extra), (own, own_extra) in zip(batch, positive, strict=True):
            assert torch.equal(tokens[i : i + 1], own) and torch.equal(extra["pooled_output"][i : i + 1], own_extra["pooled_output"])


def test_table(demo):
    from demo.judge import load_judge
    from evaluation.methods import switched
    from host.backbone import Backbone
    from unhype.checkpoint import load_eraser

    backbone, eraser = Backbone(demo.model, demo.clip, demo.vae), load_eraser(ROOT / "demo/erasers/demo_cat.safetensors")
    method, missed, lines = switched("unhype", backbone, eraser), [], []
    cases = ["plain", "ConditioningCombine", "two erased concepts"]
    rows = hard_prompts.table(
        method, backbone, load_judge(), WORDING, ["cat", "dog"], 2, steps=4, cases=cases, progress=lines.append, missed=missed
    )
    assert [r["case"] for r in rows] == cases and len(lines) == 3
    for r in rows:
        assert set(r) == {"case", "tried", "n", "drawn_by_base", "erased", "fired"}
        assert r["n"] <= r["tried"] <= 5 and r["drawn_by_base"] == r["n"] / r["tried"]
        assert len(missed) >= 1 or r["erased"] in (1.0, None)
    assert rows[0]["n"] == 2 and rows[0]["fired"] == 0.5  # the bundled eraser knows the cat, not the dog
    assert hard_prompts.table(method, backbone, None, WORDING, ["cat"], 2, cases=["two erased concepts"]) == []
