"""UnHypeMerge: several files on one wire act as each would by itself."""

import dataclasses
import sys

import pytest
import torch


@pytest.fixture(scope="module")
def dog(demo):
    """The bundled eraser with the concept called "dog", its switch the cat's own turned round: it fires where cat does not."""
    package = sys.modules[type(demo.eraser).__module__]
    hypernetwork = sys.modules[type(demo.eraser.network).__module__]
    network = hypernetwork.Hypernetwork(demo.eraser.network.shape).requires_grad_(False).eval()
    network.load_state_dict(demo.eraser.network.state_dict())
    network.switch.weight.mul_(-1)
    network.switch.threshold.fill_(-1000.0)
    return dataclasses.replace(
        demo.eraser, network=network, concepts=[package.Concept("dog", "forest")], source="dog.safetensors", digest="d"
    )


@pytest.fixture(scope="module")
def merged(pack, demo, dog):
    return pack.UnHypeMerge.execute(demo.eraser, dog).result[0]


def draw(s, prompts, model, name):
    return s.sample(model, prompts[name], prompts["empty"], s.noise(), steps=2)


@pytest.mark.parametrize("name", ["erased", "safe"])
def test_a_merge_is_the_same_as_two_erasers_one_after_the_other(pack, s, demo, dog, merged, prompts, name):
    erase = lambda model, unhype, *more: pack.UnHypeEraser.execute(model, unhype, 1.0, *more).result[0]
    chain = draw(s, prompts, erase(erase(demo.model, demo.eraser), dog), name)
    assert torch.equal(draw(s, prompts, erase(demo.model, merged), name), chain)
    assert torch.equal(draw(s, prompts, erase(demo.model, merged, None, "dog"), name), draw(s, prompts, erase(demo.model, dog), name))


def test_a_merge_in_the_weights_is_both_adapters(pack, s, demo, dog, merged, prompts):
    erase = lambda unhype, *more: pack.UnHypeEraser.execute(demo.model, unhype, 1.0, *more).result[0]
    plain = s.sample(demo.model, prompts["erased"], prompts["erased"], s.noise(), cfg=1.0, steps=2)
    adapter = s.sample(erase(merged), prompts["erased"], prompts["erased"], s.noise(), cfg=1.0, steps=2)
    weights = s.sample(
        erase(merged, prompts["erased"], "", "weight patch"), prompts["erased"], prompts["erased"], s.noise(), cfg=1.0, steps=2
    )
    assert (weights - adapter).norm() < 1e-4 * adapter.norm() and (weights - plain).norm() > 0.1 * plain.norm()
    lora = pack.UnHypeToLora.execute(merged, prompts["erased"]).result[0]
    assert next(v for k, v in lora.items() if k.endswith("lora_down.weight")).shape[0] == 2 * demo.eraser.network.shape.rank


def test_its_node_tells_of_both_in_one_account(pack, s, demo, merged, prompts, monkeypatch):
    patching, said = sys.modules[f"{pack.module.__name__}.nodes.patching"], []
    monkeypatch.setattr(patching, "tell", lambda node, source, text: said.append((node, source, text)))
    entries = demo.model
    for eraser in merged.erasers:
        entries = patching.erase(entries, eraser, 1.0, node="7")
    draw(s, prompts, entries, "erased")
    ((node, source, text),) = said
    assert node == "7" and source == "demo_cat.safetensors and dog.safetensors"
    assert "cat: fired on 1 of 1 prompt (" in text and "dog: fired on 1 of 1 prompt (" in text


def test_merges_can_be_merged_and_looked_into(pack, demo, dog, merged, prompts):
    package = sys.modules[type(demo.eraser).__module__]
    bus = dataclasses.replace(dog, concepts=[package.Concept("bus", "")], source="bus.safetensors", digest="b")
    three = pack.UnHypeMerge.execute(merged, bus).result[0]
    assert [e.source for e in three.erasers] == ["demo_cat.safetensors", "dog.safetensors", "bus.safetensors"]
    lines = pack.UnHypeInspect.execute(three, prompts["erased"]).result[1].splitlines()
    assert {line.split(":")[0] for line in lines[:-1]} == {"cat", "dog", "bus"}


def test_what_does_not_go_together_is_refused(pack, demo, dog, merged):
    merge = lambda *unhype: pack.UnHypeMerge.execute(*unhype)
    with pytest.raises(ValueError, match="cat is in demo_cat.safetensors and in demo_cat.safetensors, and would be erased twice over"):
        merge(demo.eraser, demo.eraser)
    with pytest.raises(ValueError, match="dog is in dog.safetensors and in dog.safetensors"):
        merge(merged, dog)
    with pytest.raises(ValueError, match="is for Stable Diffusion 1.x, dog.safetensors for Flux.1: merge erasers of one kind"):
        merge(demo.eraser, dataclasses.replace(dog, family="flux"))
    with pytest.raises(ValueError, match="unhype: nothing is connected"):
        merge(demo.eraser, None)


def test_a_name_that_neither_has_is_an_error_that_names_all(pack, demo, merged):
    with pytest.raises(ValueError, match="'kitty' is not in demo_cat.safetensors or dog.safetensors, which erases cat, dog; write some"):
        pack.UnHypeEraser.execute(demo.model, merged, 1.0, None, "kitty")
