"""Attacks: the encoder is ComfyUI's, prompts are prompts, an attack can succeed, repeat itself, and leaves the base alone."""

import copy
import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.comparison.emoji import WORDING

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def here(comfy, pack):
    from demo.judge import load_judge
    from evaluation import attacks, methods, token_search
    from host.load import load_backbone
    from unhype.checkpoint import load_eraser

    backbone = load_backbone("demo")
    return SimpleNamespace(
        attacks=attacks,
        methods=methods,
        tokens=token_search,
        backbone=backbone,
        judge=load_judge(),
        eraser=load_eraser(ROOT / "demo/erasers/demo_cat.safetensors"),
        nothing=methods.Method("nothing", backbone.model),
    )


@pytest.fixture
def brief(here, monkeypatch):
    """Searches of a few iterations."""
    for module, name, value in (
        (here.tokens, "ITERATIONS", 2),
        (here.tokens, "SHORTLIST", 6),
        (here.attacks, "RING_ITERATIONS", 2),
        (here.attacks, "FINALISTS", 2),
        (here.attacks, "STARTS", 4),
        (here.attacks, "ATTACKER_SEEDS", 1),
        (here.attacks, "JUDGED_SEEDS", 1),
    ):
        monkeypatch.setattr(module, name, value)


def weights(backbone) -> dict:
    return {k: v.clone() for k, v in backbone.diffusion_model.state_dict().items()}


def is_prompt(row) -> bool:
    end = row.tolist().index(49407)
    return len(row) == 77 and row[0] == 49406 and bool((row[1:end] < 49406).all()) and bool((row[end:] == 49407).all()) and end > 1


def test_the_encoder_is_comfyui_s_and_has_gradients(here):
    clip, tokens = here.backbone.clip, here.tokens
    texts = ["a cat, google style, on a blue background", "feline", "a pizza " * 40]
    rows = torch.stack([tokens.row(tokens.words_of(clip, t) if i < 2 else [320, 4474] * 40) for i, t in enumerate(texts)])
    embedded = tokens.embeddings(clip)[rows].clone().requires_grad_(True)
    states, pooled = tokens.encode_embedded(clip, embedded, rows)
    ((expected, more),) = here.attacks.encode(clip, rows)
    assert (states - expected).abs().max() < 1e-4 and (pooled - more["pooled_output"]).abs().max() < 1e-4
    text = here.backbone.encode(texts[:2])
    assert (states[:2] - text.tokens).abs().max() < 1e-4 and (pooled[:2] - text.pooled).abs().max() < 1e-4
    (slope,) = torch.autograd.grad(states.square().sum(), embedded)
    assert slope.isfinite().all() and (slope[:, 1:4].abs().sum((1, 2)) > 0).all()


def test_reworded_prompts_are_many_and_name_the_noun(here):
    from demo.captions import NOUNS

    for noun in ("cat", "airplane"):
        texts = here.attacks.paraphrases(WORDING, noun, 36, 0)
        assert len(set(texts)) == 36 and texts == here.attacks.paraphrases(WORDING, noun, 36, 0) != here.attacks.paraphrases(
            WORDING, noun, 36, 1
        )
        assert all(any(word in text.lower() for word in NOUNS[noun][1]) for text in texts)
        assert sum(noun in text.lower() for text in texts) < 18
        assert not any("{" in text or "(" in text for text in texts)
        clip = here.backbone.clip
        rows = [here.tokens.row(here.tokens.words_of(clip, t)) for t in texts]
        rows += here.attacks.padded(clip, WORDING, noun, 12, 0, False) + here.attacks.padded(clip, WORDING, noun, 12, 0, True)
        assert all(is_prompt(r) for r in rows)


@pytest.mark.parametrize("name", ["paraphrase", "suffix", "prefix"])
def test_what_erases_nothing_is_as_the_base(here, monkeypatch, name):
    monkeypatch.setattr(here.attacks, "JUDGED_SEEDS", 2)
    result = here.attacks.attack(name, here.nothing, here.backbone, here.judge, WORDING, ["cat", "bus"], 2, 0)
    assert result["n"] == 2 * 2 and result["method"] == "nothing" and result["attack"] == name
    assert result["success"] == result["base_success"] >= 0.5
    assert result["examples"] and result["examples"][0]["prompt"]


def test_searches_beat_a_switch_without_margin_and_leave_the_base_as_it_was(here, brief, monkeypatch):
    """A strawman: the bundled eraser, its threshold only just below what plain prompts reach."""
    from demo.prompts import erased_prompts, heldout_word_prompts

    plain = here.backbone.encode([p.text for p in erased_prompts("cat") + heldout_word_prompts("cat")]).condition()
    network = copy.deepcopy(here.eraser.network)
    network.switch.threshold.fill_(network.scores(plain).min().item() - 0.1)
    strawman = here.methods.switched("strawman", here.backbone, dataclasses.replace(here.eraser, network=network))
    assert network.fires(plain).all()
    monkeypatch.setattr(here.attacks, "JUDGED_SEEDS", 3)
    monkeypatch.setattr(here.tokens, "ITERATIONS", 8)
    monkeypatch.setattr(here.tokens, "SHORTLIST", 16)
    before = weights(here.backbone)
    for name in ("gradient", "search"):
        result = here.attacks.attack(name, strawman, here.backbone, here.judge, WORDING, ["cat"], 1, 0)
        assert result["success"] > 0, result
    assert all(torch.equal(v, before[k]) for k, v in here.backbone.diffusion_model.state_dict().items())


def test_edited_weights_are_attacked_as_edited_and_taken_out_again(here, brief):
    before = weights(here.backbone)
    key = next(k for k in before if k.endswith("attn2.to_v.weight"))
    method = here.methods.edited("edited", here.backbone, {key: torch.ones_like(before[key])})
    seen = []
    real = here.tokens.Goal.drawing

    def watched(goal, *encoded):
        seen.append(torch.equal(here.backbone.diffusion_model.state_dict()[key], before[key] + 1))
        return real(goal, *encoded)

    here.tokens.Goal.drawing = watched
    try:
        result = here.attacks.attack("gradient", method, here.backbone, here.judge, WORDING, ["cat"], 1, 0)
    finally:
        here.tokens.Goal.drawing = real
    assert seen and all(seen) and 0 <= result["success"] <= 1
    assert all(torch.equal(v, before[k]) for k, v in here.backbone.diffusion_model.state_dict().items())


@pytest.mark.parametrize("name, forced", [("gradient", True), ("ring-a-bell", False)])
def test_an_attack_repeats_itself_and_makes_prompts(here, brief, monkeypatch, name, forced):
    ours, seen = here.methods.switched("ours", here.backbone, here.eraser), []
    real = here.attacks.scores
    monkeypatch.setattr(here.attacks, "scores", lambda *a: seen.append(a[3]) or real(*a))
    results = [here.attacks.attack(name, ours, here.backbone, here.judge, WORDING, ["cat"], 1, seed, forced) for seed in (3, 3)]
    assert results[0] == results[1] and results[0]["forced"] == forced
    assert all(is_prompt(row) for rows in seen for row in rows)


def test_the_gradient_goes_through_switch_and_adapter(here):
    clip, tokens = here.backbone.clip, here.tokens
    clean, noise, sigma = here.attacks.pictures_of(here.backbone, WORDING, "cat", 1, 8, 3.0)
    ids = tokens.row(tokens.words_of(clip, "a cat"))[None]
    for forced in (False, True):
        goal = tokens.Goal(here.backbone, clean, noise, sigma, here.eraser.network, forced)
        embedded = tokens.embeddings(clip)[ids].clone().requires_grad_(True)
        loss = goal.loss(ids, embedded).sum()
        (slope,) = torch.autograd.grad(loss, embedded)
        assert torch.allclose(loss, goal.loss(ids).sum(), atol=1e-5)
        direction = slope / slope.norm()
        nearer = goal.loss(ids, (embedded - 0.01 * direction).detach()).sum()
        assert nearer < loss - 0.005 * slope.norm()


def test_an_unknown_attack_is_refused(here):
    with pytest.raises(ValueError, match="no attack is called 'luck'"):
        here.attacks.attack("luck", here.nothing, here.backbone, here.judge, WORDING, ["cat"], 1, 0)
