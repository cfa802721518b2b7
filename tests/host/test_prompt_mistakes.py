"""Prompts that look like a mistake are named in the log; what users do on purpose is not."""

import logging

import pytest
import torch
from safetensors.torch import save_file

FREE = "photo of an astronaut riding a horse on the moon, cinematic, bokeh"


@pytest.fixture
def said(caplog):
    """A function: what the log has said about prompts since it was called last."""
    caplog.set_level(logging.WARNING, "unhype")

    def said():
        texts = [r.getMessage() for r in caplog.records if r.name == "unhype"]
        caplog.clear()
        return texts

    return said


@pytest.fixture(scope="module")
def flux(pack):
    with torch.inference_mode():
        model, clip, _ = pack.UnHypeDemoModel.execute("emoji-flux").result
        eraser = pack.UnHypeLoader.execute("demo_flux_cat.safetensors").result[0]
    return model, clip, eraser


def as_random(clip):
    """The text encoder's like with random weights."""
    torch.manual_seed(0)
    for name, p in clip.cond_stage_model.named_parameters():
        ones = name.endswith("weight") and "norm" in name
        p.data = torch.ones_like(p) if ones else torch.randn(p.shape) * 0.05 * (p.ndim > 1)
    return clip


@pytest.mark.since("0.3.72")
def test_a_prompt_of_another_text_encoder_of_the_same_width_warns_once(s, pack, demo, flux, erased_model, said):
    from unhype_pack.demo.base import new_clip

    with torch.inference_mode():
        for clip in (flux[1], as_random(new_clip())):
            model = pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0).result[0]
            for text in (s.ERASED, FREE):
                positive = s.encode(clip, text)
                assert positive[0][0].shape[-1] == 128
                s.sample(model, positive, s.encode(clip, ""), s.noise(), steps=1)
            (warned,) = said()
            assert "another text encoder" in warned and "demo_cat.safetensors" in warned and "positive" in warned
            pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, positive)
            assert "another text encoder" in said()[0]


@pytest.mark.since("0.3.72")  # the Flux demo base
def test_the_flux_eraser_knows_its_own_text_encoder_too(s, pack, demo, flux, said):
    model, clip, eraser = flux
    erased = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    draw = lambda c: s.sample(erased, c, c, torch.zeros(1, model.model.latent_format.latent_channels, 8, 8), cfg=1.0, steps=1)
    with torch.inference_mode():
        for text in ("", s.ERASED, FREE, FREE * 6, "(a cat:1.6)", "1 2 3 4 5"):
            draw(s.encode(clip, text))
        assert not said()
        draw(s.encode(demo.clip, s.ERASED))
    assert len(said()) == 1


@pytest.mark.parametrize("text", ["", "a (cat:1.6), google style", "(a cat:0.2)", FREE, FREE * 6, "1 2 3", "$$%& 漢字", "embedding:mine"])
@pytest.mark.parametrize("layer", [-1, -2, -3])
def test_no_warning_for_what_the_right_text_encoder_makes(s, comfy, demo, erased_model, said, tmp_path, text, layer):
    import nodes

    table = demo.clip.cond_stage_model.clip_l.transformer.text_model.embeddings.token_embedding.weight
    save_file({"emb_params": table[[320, 1929]] + 0.01}, tmp_path / "mine.safetensors")
    demo.clip.tokenizer.clip_l.embedding_directory = str(tmp_path)
    clip = demo.clip.clone()
    clip.clip_layer(layer)
    with torch.inference_mode():
        one, other = s.encode(clip, text), s.encode(clip, s.ERASED)
        average = nodes.ConditioningAverage().addWeighted(one, other, 0.5)[0]
        zero = nodes.ConditioningZeroOut().zero_out(one)[0]
        s.sample(erased_model, one + average + zero, other, s.noise(), steps=1)
    assert not said()


def test_the_negative_prompt_wired_into_the_eraser_warns_once(s, pack, demo, prompts, said):
    put = lambda c: pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, c).result[0]
    wrong = put(prompts["empty"])
    for _ in range(2):
        s.sample(wrong, prompts["erased"], prompts["empty"], s.noise(), steps=1)
    (warned,) = said()
    assert "negative prompt" in warned and "UnHype Eraser" in warned
    s.sample(put(prompts["erased"]), prompts["erased"], prompts["empty"], s.noise(), steps=1)
    s.sample(put(prompts["erased2"]), prompts["erased"], prompts["empty"], s.noise(), steps=1)
    s.sample(put(prompts["empty"]), prompts["empty"], prompts["empty"], s.noise(), steps=1)
    assert not said()
