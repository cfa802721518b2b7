"""What the notes of the demo templates propose works at the templates' own seed, judged in the pictures."""

import json
import re
from pathlib import Path

import pytest
import torch

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"


@pytest.fixture(scope="module", params=["unhype_demo", pytest.param("unhype_flux_demo", marks=pytest.mark.since("0.3.72"))])
def template(request, pack):
    """A template's nodes by title and a function: prompt, width -> what the judge sees without and with the eraser, and both pictures."""
    import comfy.sample
    import studio

    from demo.judge import NAMES, load_judge

    nodes = {n["title"]: n for n in json.loads((WORKFLOWS / f"{request.param}.json").read_text())["nodes"]}
    value = lambda title, i=0: nodes[title]["widgets_values"][i]
    with torch.inference_mode():
        model, clip, vae = pack.UnHypeDemoModel.execute(value("Demo model, nothing to download")).result
        eraser = pack.UnHypeLoader.execute(value("Load UnHype Eraser")).result[0]
        erased = pack.UnHypeEraser.execute(model, eraser, *value_list(nodes["UnHype Eraser"])).result[0]
    seed, _, steps, cfg, sampler, scheduler, _ = nodes["With the eraser, same seed"]["widgets_values"]
    assert (sampler, scheduler) == ("euler", "normal")

    @torch.inference_mode()
    def draw(text, width):
        latent = torch.zeros(1, model.model.latent_format.latent_channels, 8, width // 8)
        noise = comfy.sample.prepare_noise(latent, seed)
        positive, negative = studio.encode(clip, text), studio.encode(clip, value("Negative prompt"))
        pictures = [vae.decode(studio.sample(m, positive, negative, noise, cfg=cfg, steps=steps)) for m in (model, erased)]
        seen = [{name for name, score in zip(NAMES, load_judge().scores(p)[0]) if score > 0.5} for p in pictures]
        return seen, pictures

    return nodes, draw


def value_list(node):
    strength, concepts, apply = node["widgets_values"]
    return strength, None, concepts, apply


def test_its_prompt_and_the_words_that_its_note_proposes(template):
    nodes, draw = template
    text = nodes["Prompt"]["widgets_values"][0]
    assert '"kitty" or "feline" for "cat"' in nodes["Read me"]["widgets_values"][0]
    for word in ("cat", "kitty", "feline"):
        seen, _ = draw(text.replace("cat", word), 64)
        assert seen == [{"cat"}, {"forest"}], (word, seen)
    seen, pictures = draw(text.replace("cat", "dog"), 64)
    assert seen == [{"dog"}, {"dog"}] and torch.equal(*pictures)


def test_the_two_things_that_its_note_proposes(template):
    nodes, draw = template
    text = re.search(r"width of 128: \*\*(.*?)\*\*", nodes["Read me"]["widgets_values"][0]).group(1)
    other = re.match(r"a cat and an? (\w+),", text).group(1)
    seen, _ = draw(text, 128)
    assert seen == [{"cat", other}, {"forest", other}]
