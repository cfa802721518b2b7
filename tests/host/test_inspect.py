"""UnHypeInspect: what it says is what the switch and the adapter do, and its picture can be read."""

import dataclasses
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

FIRES, RESTS = (255, 154, 60), (91, 127, 166)  # the colours of bars


def inspect(pack, monkeypatch, eraser, conditioning, clip=None, text=None):
    """Picture as whole numbers, and the lines; `text` stands in the node that the conditioning comes from."""
    prompt = {"9": {"inputs": {"conditioning": ["4", 0]}}, "4": {"inputs": {"clip": ["1", 1], "text": text}}}
    monkeypatch.setattr(pack.UnHypeInspect, "hidden", SimpleNamespace(unique_id="9", prompt=prompt))
    with torch.inference_mode():
        image, said = pack.UnHypeInspect.execute(eraser, conditioning, clip).result
    return (image[0].numpy() * 255).round().astype(int), said.splitlines()


def colours(picture):
    return {tuple(c) for c in picture.reshape(-1, 3)}


@pytest.fixture(scope="module")
def four(pack):
    return pack.UnHypeLoader.execute("demo_four.safetensors").result[0]


@pytest.fixture
def look(pack, demo, s, monkeypatch, four):
    def look(text, clip=True, eraser=four):
        with torch.inference_mode():
            return inspect(pack, monkeypatch, eraser, s.encode(demo.clip, text), demo.clip if clip else None, text)

    return look


def test_the_words_that_it_fires_on_are_named_also_where_they_are_several_tokens(look):
    picture, lines = look("two trucks, then a kitty and a margherita, google style")
    assert lines[0].startswith("cat: fires on 1 of 1 (") and '"kitty" (6)' in lines[0] or lines[1].startswith("cat: fires")
    pizza = next(line for line in lines if line.startswith("pizza"))
    assert '"margherita" (' in pizza and "threshold 0.5" in pizza
    assert "does not fire" in next(line for line in lines if line.startswith("car"))
    assert FIRES in colours(picture) and RESTS in colours(picture)


def test_without_a_clip_or_with_another_text_tokens_are_numbers(pack, demo, s, monkeypatch, four, look):
    _, lines = look("a cat, google style", clip=False)
    assert "on token" in lines[0] and '"cat"' not in lines[0]
    with torch.inference_mode():
        conditioning = s.encode(demo.clip, "a cat, google style")
    _, lines = inspect(pack, monkeypatch, four, conditioning, demo.clip, "a dog, google style")
    assert "on token" in lines[0] and '"dog"' not in lines[0]


def test_a_safe_prompt_has_no_orange_and_no_adapter(look):
    picture, lines = look("a bus, google style, on a blue background")
    assert FIRES not in colours(picture) and lines[-1] == "no adapter: the picture stays as it was, to the bit"
    assert all("does not fire" in line and "nearest at" in line for line in lines[:-1])


def test_its_scores_are_the_switchs(look, s, demo, four):
    from unhype_pack.unhype.condition import read_condition

    text = "a dog and a car, twitter style"
    with torch.inference_mode():
        tokens, extra = s.encode(demo.clip, text)[0]
        scores = four.network.scores(read_condition(tokens, extra["pooled_output"]))[0]
    lines = {line.split(":")[0]: line for line in look(text)[1]}
    for concept, score, threshold in zip(four.concepts, scores, four.network.switch.threshold):
        assert f"({score:.1f}, threshold {threshold:.1f})" in lines[concept.name]
        assert ("fires on" in lines[concept.name]) == bool(score > threshold) == (concept.name in ("dog", "car"))


def test_the_strip_is_the_size_of_each_layers_change(pack, m):
    findings = sys.modules[f"{pack.module.__name__}.nodes.findings"]
    model, prompt = m.make_model("flux-dev"), m.prompt("flux-dev")
    eraser = m.make_eraser("flux-dev", model)
    sizes = findings.look((eraser,), prompt).strengths
    for (name, size), layer, f in zip(sizes, eraser.network.shape.layers, m.factors_of(eraser, prompt)):
        assert name == layer.name and size == pytest.approx((f.up[0] @ f.down[0]).norm().item(), rel=1e-4)


def test_it_says_that_words_are_rewritten(pack, m):
    findings = sys.modules[f"{pack.module.__name__}.nodes.findings"]
    model, prompt = m.make_model("sd1"), m.prompt("sd1")
    said = lambda rewrite: findings.in_short(findings.look((m.make_eraser("sd1", model, rewrite=rewrite),), prompt), "adapter in 3 layers")
    assert said(0) == "adapter in 3 layers" and said(2) == "adapter in 3 layers, words are rewritten too"
    instant = findings.look((m.make_instant("sd1", model),), prompt)
    assert findings.in_short(instant, "") == "words are rewritten, without an adapter" and not any(size for _, size in instant.strengths)


def test_of_a_hundred_concepts_the_nearest_dozen_is_drawn_and_all_are_said(pack, demo, prompts, monkeypatch):
    package = sys.modules[type(demo.eraser).__module__]
    hypernetwork = sys.modules[type(demo.eraser.network).__module__]
    network = hypernetwork.Hypernetwork(dataclasses.replace(demo.eraser.network.shape, concepts=100)).requires_grad_(False).eval()
    network.switch.weight.copy_(torch.randn(100, network.shape.token_dim, generator=torch.Generator().manual_seed(0)))
    network.switch.threshold.copy_(torch.linspace(-5, 200, 100))
    concepts = [package.Concept(f"a concept with quite a long name, number {i}", "") for i in range(100)]
    many = dataclasses.replace(demo.eraser, network=network, concepts=concepts)
    picture, lines = inspect(pack, monkeypatch, many, prompts["erased"])
    assert len(lines) == 101 and picture.shape[0] <= 1320 and picture.shape[1] == 720
    margins = [float(line.split("(")[1].split(",")[0]) - float(line.split("threshold ")[1].split(")")[0]) for line in lines[:-1]]
    assert all(a >= b - 0.2 for a, b in zip(margins, margins[1:]))


def test_an_empty_prompt_and_several_prompts(pack, s, demo, prompts, monkeypatch, comfy):
    import nodes

    with torch.inference_mode():
        zero = nodes.ConditioningZeroOut().zero_out(prompts["erased"])[0]
    _, lines = inspect(pack, monkeypatch, demo.eraser, zero)
    assert lines[0] == "cat: does not fire (the prompt is empty, threshold 0.4)"
    _, lines = inspect(pack, monkeypatch, demo.eraser, prompts["safe"] + prompts["erased"] + prompts["erased2"])
    assert lines[0].startswith("cat: fires on 2 of 3 (") and ", prompt " in lines[0]


@pytest.mark.since("0.3.72")
def test_the_names_of_t5s_tokens(pack, s, monkeypatch):
    with torch.inference_mode():
        _, clip, _ = pack.UnHypeDemoModel.execute("emoji-flux").result
        eraser = pack.UnHypeLoader.execute("demo_flux_cat.safetensors").result[0]
        text = "a kitty, google style, on a pink background"
        _, lines = inspect(pack, monkeypatch, eraser, s.encode(clip, text), clip, text)
    assert lines[0].startswith("cat: fires on 1 of 1 (") and '"kitty" (' in lines[0]


def test_whole_words(pack):
    whole_words = sys.modules[f"{pack.module.__name__}.nodes.words"].whole_words
    clip = ["<|startoftext|>", "kit", "ty</w>", ",</w>", "<</w>", "<|endoftext|>", "<|endoftext|>"]
    assert whole_words(clip) == ["<start>", "kitty", "kitty", ",", "<", "<end>", "<end>"]
    assert whole_words(["▁a", "▁kit", "ty", ",", "</s>", "<pad>"]) == ["a", "kitty,", "kitty,", "kitty,", "<end>", "<end>"]


def test_errors(pack, demo, prompts):
    with pytest.raises(ValueError, match="unhype: nothing is connected"):
        pack.UnHypeInspect.execute(None, prompts["erased"])
    with pytest.raises(ValueError, match="conditioning: nothing is connected, expected a prompt"):
        pack.UnHypeInspect.execute(demo.eraser, None)
    with pytest.raises(ValueError, match="comes from another kind of text encoder"):
        pack.UnHypeInspect.execute(demo.eraser, [[torch.zeros(1, 77, 768), {"pooled_output": torch.zeros(1, 768)}]])


def test_the_font_is_there_at_every_size(pack):
    """ImageFont.load_default takes a size where Pillow has FreeType, as its wheels have."""
    picture = sys.modules[f"{pack.module.__name__}.nodes.picture"]
    assert np.ptp([picture.ImageFont.load_default(size).getlength("erases") for size in (18, 38)]) > 50
