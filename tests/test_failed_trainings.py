"""Trainings that cannot end well: each ends with the cause in its last words, and never with exit code 0; the same training
without the fault does."""

import pytest
import torch
import yaml

from trainer import data, reading, switch
from trainer import train as training

SETTINGS = {
    "base": "demo",
    "erase": ["cat -> forest"],
    "templates": [
        "a {}, {google|twitter} style, on a {blue|yellow} background",
        "a {google|twitter} style emoji of a {} on a {blue|yellow} background",
        "a {} and a {other}, {google|twitter} style, on a {blue|yellow} background",
    ],
    "retain": ["dog", "bear", "fish", "car", "house", "ball", "pizza", "guitar"],
    "neighbours": 0,
    "clip_skips": [1],
    "size": "64x64",
    "pair_size": "64x64",
    "pictures": 8,
    "pair_prompts": 16,
    "sampling_steps": 4,
    "cfg": 3.0,
    "kept_steps": 4,
    "rank": 4,
    "hidden": 32,
    "iterations": 60,
    "batch": 4,
    "retain_batch": 32,
    "learning_rate": 0.01,
    "guidance": 0.5,
    "pair_guidance": 0.0,
    "preview_every": 0,
}


@pytest.fixture
def trained(comfy, tmp_path, monkeypatch, capsys):
    """A function: train by the command with these settings changed, on a base that is changed first; its exit code and last words."""
    from host.load import load_backbone

    texts, out = reading.written()[::40], tmp_path / "it.safetensors"
    monkeypatch.setattr(reading, "written", lambda: texts)
    monkeypatch.setattr(switch, "ITERATIONS", 400)
    monkeypatch.setattr(data, "VOCABULARY", 200)

    def run(spoil=lambda backbone: None, **changes) -> tuple[int, str]:
        out.with_suffix(".yaml").write_text(yaml.safe_dump(SETTINGS | changes), encoding="utf-8")
        backbone = load_backbone("demo")
        spoil(backbone)
        monkeypatch.setattr(training, "load_backbone", lambda *_: backbone)
        code = training.main(["--config", str(out.with_suffix(".yaml")), "--out", str(out)])
        said = "".join(capsys.readouterr())
        with capsys.disabled():
            print(code, said)
        verdict = said.partition("verdict, on prompts")[2]
        return code, verdict or said.splitlines()[-1]

    return run


def test_without_a_fault_it_passes(trained):
    code, says = trained()
    assert code == 0 and "verdict: passed" in says


def test_a_dead_learning_rate(trained):
    code, says = trained(learning_rate=1e-12)
    assert code == training.MISSED and "FAILED 'cat': the trained adapter does nothing" in says
    assert "nothing is learned. Raise learning_rate" in says


def test_a_dead_learning_rate_of_another_objective(trained):
    code, says = trained(learning_rate=1e-12, objective="trajectory", eta=0.05)
    assert code == training.MISSED and "FAILED 'cat': 0% of the wanted change is reached" in says
    assert "nothing is learned. Raise learning_rate" in says


def test_a_word_that_the_encoder_does_not_know(trained):
    code, says = trained(erase=["xqzvplk -> forest"])
    assert code == training.MISSED and "FAILED 'xqzvplk'" in says and "hardly to know it" in says


def test_a_target_that_is_retained(trained):
    code, says = trained(retain_prompts=["a cat in a garden", "two cats on a sofa"])
    assert code == 1 and "retain_prompts is 'a cat in a garden', expected prompts that do not name a target" in says


def test_a_base_of_nan(trained):
    def spoil(backbone):
        with torch.no_grad():
            next(backbone.diffusion_model.parameters()).fill_(torch.nan)

    code, says = trained(spoil)
    assert code == 1 and "gives NaN or infinite values by itself" in says


def test_a_divergence(trained):
    # Going back with a smaller rate mends a rate that is too large alone.
    code, says = trained(learning_rate=1.0, guidance=100.0, pair_guidance=100.0)
    assert code not in (0, 130) and "lower learning_rate" in says
