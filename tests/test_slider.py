"""Measuring how late a strength begins: it draws what a sampler draws, and the levels that it finds are even."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
STEPS = 4


@pytest.fixture(scope="module", params=["demo_cat", pytest.param("demo_flux_cat", marks=pytest.mark.since("0.3.72"))])
def bundled(comfy, request):
    """A demo base, its bundled eraser, and its settings with fewer steps."""
    from host.load import load_backbone
    from trainer.config import from_mapping
    from unhype.checkpoint import load_eraser

    eraser = load_eraser(ROOT / f"demo/erasers/{request.param}.safetensors")
    config = from_mapping(eraser.training | {"sampling_steps": STEPS, "kept_steps": STEPS}, "test")
    backbone = load_backbone(config.base)
    backbone.load()
    return backbone, eraser, config


def test_changes_are_those_of_a_sampler_whose_adapter_begins_late(bundled):
    from host.sampling import adapted_sampling
    from trainer.slider import Late, change_at
    from unhype.hypernetwork import at_strength
    from unhype.onset import level

    backbone, eraser, config = bundled
    texts = ["a cat, google style, on a blue background", "a cat on yellow, drawn in twitter style"]
    text, empty = backbone.encode(texts), backbone.encode([""]).repeated(2)
    factors = at_strength(eraser.network, text.condition(), 1.0)

    def drawn(begin):
        model = adapted_sampling(backbone, eraser.network.shape.layers, torch.arange(2), factors, begin)
        return backbone.sample(text.conditioning(), empty.conditioning(), (64, 64), 7, STEPS, config.cfg, model)

    base, whole = drawn(0.0), drawn(1.0)
    known = level(backbone.sigmas(STEPS), backbone.flow)
    rms = lambda x: (x - base).square().flatten(1).mean(1).sqrt()
    with torch.no_grad():
        got = Late(backbone, eraser.network, config, text, backbone.encode([""]), 7)
        for begin, at in ((2, known[2]), (1.5, (known[1] + known[2]) / 2)):
            late = drawn(at.item())
            assert (rms(late) > 0).all()
            torch.testing.assert_close(got.moved(begin) / got.whole, rms(late) / rms(whole), atol=1e-3, rtol=1e-3)
            assert change_at([got], begin) == pytest.approx((rms(late) / rms(whole)).mean().item(), abs=1e-3)


def test_it_is_looked_at_more_closely_where_most_changes():
    from trainer.slider import between

    changes = {0: 1.0, 4: 0.9, 8: 0.3, 9: 0.1, 12: 0.0}
    assert between(changes) == 6 and between(changes | {6: 0.8}) == 7
    assert between({0: 1.0, 1: 0.0}) == 0.5 and between({0: 1.0, 0.5: 0.5, 1: 0.0}) is None


def test_levels_are_measured_between_never_and_at_once(bundled):
    from trainer.prompts.concepts import target_prompts
    from trainer.samples import Asked
    from trainer.slider import measured_onset
    from unhype.onset import STRENGTHS

    backbone, eraser, config = bundled
    targets, said = target_prompts(config.erased(), config.retain, 2, 0), []
    text = backbone.encode([t.prompt.text for t in targets])
    asked = Asked(targets, text, text, backbone.encode([""]))
    levels = measured_onset(backbone, eraser.network, config, asked, said.append)
    assert len(levels) == len(STRENGTHS) and list(levels) == sorted(levels) and 0 < levels[0] and levels[-1] < 1
    assert said == ["measuring how late a strength below 1 begins"]


def test_the_bundled_erasers_say_their_levels():
    from unhype.checkpoint import load_eraser

    found = [load_eraser(path).onset for path in sorted((ROOT / "demo/erasers").glob("*.safetensors"))]
    assert len(found) == 3 and all(len(levels) == 9 for levels in found) and len(set(found)) == 3
