"""The Eraser's "weight patch": one prompt's adapter in the weights of a clone, for all rows, the base as it was."""

import dataclasses
import sys

import pytest
import torch

PATCH = "weight patch"


def patched(pack, model, eraser, conditioning, strength=1.0, concepts=""):
    return pack.UnHypeEraser.execute(model, eraser, strength, conditioning, concepts, PATCH).result[0]


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "flux-dev", "flux-schnell"])
def test_a_weight_patch_is_the_adapter_on_the_conditional_rows(pack, m, name):
    """At cfg 1 there are no others: both ways give the same picture, and the base its own again."""
    model = m.make_model(name)
    before, eraser, prompt = m.weights(model), m.make_eraser(name, model), m.prompt(name)
    draw = lambda model: m.sample(model, prompt, prompt, m.noise(name), cfg=1.0, steps=2)
    plain = draw(model)
    adapter = draw(pack.UnHypeEraser.execute(model, eraser, 1.0, prompt).result[0])
    weights = draw(patched(pack, model, eraser, prompt))
    assert m.distance(weights, adapter) < 1e-4 < 0.01 < m.distance(weights, plain)
    assert torch.equal(draw(model), plain) and m.unchanged(model, before)


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_what_an_eraser_rewrites_is_in_the_weights_too(pack, m, name):
    """Also on a model with a LoRA, whose weights are read with it."""
    model = m.make_model(name)
    other = m.make_eraser(name, model, 50.0)
    model = m.merged(model, other, m.factors_of(other, m.prompt(name, 1)))
    eraser, prompt = m.make_eraser(name, model, rewrite=4), m.prompt(name)
    draw = lambda model: m.sample(model, prompt, prompt, m.noise(name), cfg=1.0, steps=2)
    adapter = draw(pack.UnHypeEraser.execute(model, eraser, 1.0, prompt).result[0])
    alone = draw(patched(pack, model, dataclasses.replace(eraser, network=unrewritten(eraser.network)), prompt))
    weights = draw(patched(pack, model, eraser, prompt))
    assert 20 * m.distance(weights, adapter) < m.distance(alone, adapter) > 0.01


def test_an_instant_eraser_is_in_the_weights_as_it_is_on_the_model_and_comes_back_from_its_file(pack, m, tmp_path):
    checkpoint = sys.modules[f"{pack.module.__name__}.unhype.checkpoint"]
    model = m.make_model("sd1")
    eraser, prompt = m.make_instant("sd1", model), m.prompt("sd1")
    checkpoint.save_eraser(eraser, tmp_path / "instant.safetensors")
    assert (tmp_path / "instant.safetensors").stat().st_size < 40_000
    draw = lambda model: m.sample(model, prompt, prompt, m.noise("sd1"), cfg=1.0, steps=2)
    plain, weights = draw(model), draw(patched(pack, model, eraser, prompt))
    adapter, again = (
        draw(pack.UnHypeEraser.execute(model, e, 1.0, prompt).result[0])
        for e in (eraser, checkpoint.load_eraser(tmp_path / "instant.safetensors"))
    )
    assert m.distance(adapter, plain) > 0.01 and 20 * m.distance(weights, adapter) < m.distance(adapter, plain)
    assert m.distance(again, adapter) < 0.01
    with pytest.raises(ValueError, match="rewrites words and has no adapter, .* Connect model"):
        pack.UnHypeToLora.execute(eraser, prompt, 1.0, "", "kohya")


def unrewritten(network):
    other = type(network)(dataclasses.replace(network.shape, rewrite=0)).requires_grad_(False)
    other.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("rewriting.")})
    return other


def test_weights_that_cannot_be_read_get_the_adapter_alone_and_a_warning(pack, m, monkeypatch, caplog):
    model = m.make_model("sd1")
    eraser, prompt = m.make_eraser("sd1", model, rewrite=4), m.prompt("sd1")
    monkeypatch.setattr(sys.modules["unhype_pack.nodes.base"], "in_full", lambda module, stored: None)
    weights = patched(pack, model, eraser, prompt)
    alone = patched(pack, model, dataclasses.replace(eraser, network=unrewritten(eraser.network)), prompt)
    assert "packed in a way that cannot be read here" in caplog.text
    key = next(iter(weights.patches))
    ours, expected = (patched.patches[key][0][1].weights[:2] for patched in (weights, alone))
    assert all(torch.equal(a, b) for a, b in zip(ours, expected))


def test_it_acts_on_all_rows_and_leaves_the_base_to_the_bit(pack, s, demo, prompts):
    before = s.weights(demo.model)
    rows = lambda model: s.first_step(watched(s, model, prompts))
    plain, own = rows(demo.model), rows(patched(pack, demo.model, demo.eraser, prompts["erased"]))
    assert all(not torch.equal(plain[i][0], own[i][0]) for i in (0, 1))  # of a safe prompt and its negative
    again = rows(demo.model)
    assert all(torch.equal(plain[i][0], again[i][0]) for i in (0, 1)) and s.unchanged(demo.model, before)


def watched(s, model, prompts):
    model, calls = s.watch(model)
    s.sample(model, prompts["safe"], prompts["empty"], s.noise(), steps=1)
    return calls


def test_where_nothing_fires_or_at_strength_0_the_model_itself_comes_out(pack, demo, prompts):
    assert patched(pack, demo.model, demo.eraser, prompts["safe"]) is demo.model
    assert patched(pack, demo.model, demo.eraser, None, strength=0.0) is demo.model


def test_it_needs_one_prompt(pack, s, demo, prompts):
    with pytest.raises(ValueError, match="conditioning: nothing is connected, but apply = weight patch needs the one prompt"):
        patched(pack, demo.model, demo.eraser, None)
    for several in (prompts["erased"] + prompts["safe"], s.two_rows(prompts["erased"], prompts["safe"])):
        with pytest.raises(ValueError, match="holds 2 different prompts, but apply = weight patch makes one set of weights"):
            patched(pack, demo.model, demo.eraser, several)
    same = patched(pack, demo.model, demo.eraser, prompts["erased"] + s.two_rows(prompts["erased"], prompts["erased"]))
    assert same is not demo.model


def test_a_file_that_is_there_as_an_adapter_is_refused(pack, demo, prompts, erased_model):
    with pytest.raises(ValueError, match="demo_cat.safetensors is on this model already, by an UnHype Eraser"):
        patched(pack, erased_model, demo.eraser, prompts["erased"])
    twin = dataclasses.replace(demo.eraser, digest="another file")
    assert patched(pack, erased_model, twin, prompts["erased"]) is not erased_model


def test_a_model_whose_layers_have_no_weights_of_their_names_is_refused(pack, m):
    """As where a loader puts a denoiser of its own in the place of the host's."""
    model, prompt = m.make_model("sd1"), m.prompt("sd1")
    eraser, other = m.make_eraser("sd1", model), m.make_model("sd1")
    del other.model.diffusion_model.middle_block
    other.add_object_patch("diffusion_model", model.model.diffusion_model)
    with pytest.raises(ValueError, match="no weight for 2 of 14 layers, .*Choose apply = adapter"):
        patched(pack, other, eraser, prompt)


def test_what_is_in_the_weights_is_told(pack, demo, prompts, monkeypatch):
    weights, said = sys.modules[f"{pack.module.__name__}.nodes.weights"], []
    monkeypatch.setattr(weights, "tell", lambda node, source, text: said.append((source, text)))
    patched(pack, demo.model, demo.eraser, prompts["erased"])
    ((source, text),) = said
    assert source == "demo_cat.safetensors" and text.startswith("in the weights, for every prompt: cat: fired on 1 of 1 prompt (")


def test_apply_comes_last_and_a_workflow_from_before_has_the_adapter(pack):
    schema = pack.UnHypeEraser.define_schema()
    apply = schema.inputs[-1]
    assert (apply.id, apply.options, apply.default, apply.optional) == ("apply", ["adapter", PATCH], "adapter", True)
