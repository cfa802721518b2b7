"""One file, several concepts: the eraser node erases the ones that it is asked for, and no other prompt notices."""

import dataclasses
import inspect
import sys

import pytest
import torch

from demo.captions import NOUNS

TEMPLATES = ("a {}, google style, on a blue background", "a drawing of a {}, yellow background, twitter style")
PROMPTS = {"cat": "a cat", "dog": "a dog", "both": "a cat and a dog", "neither": "a pizza"}


@pytest.fixture(scope="module")
def two(pack, demo):
    """The bundled eraser of "cat" with a second concept, "dog": its switch fitted."""
    from trainer.states import States
    from trainer.switch import calibrate, fit_switch
    from unhype.condition import read_condition

    package = sys.modules[type(demo.eraser).__module__]
    hypernetwork = sys.modules[type(demo.eraser.network).__module__]
    torch.manual_seed(0)
    with torch.inference_mode(False), torch.enable_grad():
        network = hypernetwork.Hypernetwork(dataclasses.replace(demo.eraser.network.shape, concepts=2))
        mine = network.state_dict()
        for key, value in demo.eraser.network.state_dict().items():
            if mine[key].shape == value.shape:
                mine[key].copy_(value)
        mine["concept"].mul_(8)  # the adapters of two concepts that were never trained are to differ
        texts = [(n, t.format(n)) for t in TEMPLATES for n in NOUNS]
        texts += [(n, t.format(f"{n} and a {o}")) for t in TEMPLATES for n in ("cat", "dog") for o in NOUNS if o not in ("cat", "dog")]
        with torch.inference_mode():
            encoded = [demo.clip.encode_from_tokens(demo.clip.tokenize(t), return_pooled=True) for _, t in texts]
        condition = read_condition(*(torch.cat([e[i] for e in encoded]).clone() for i in (0, 1)))
        labels = torch.tensor([[n == "cat", n == "dog"] for n, _ in texts]).to(torch.int8)
        fit_switch(network, States.of(condition), labels, seed=0)
        calibrate(network, States.of(condition), labels)
    concepts = [package.Concept("Cat", "forest"), package.Concept("dog", "forest")]
    network.requires_grad_(False)
    return dataclasses.replace(demo.eraser, network=network, concepts=concepts, source="two.safetensors", digest="two")


@pytest.fixture(scope="module")
def prompts(s, demo):
    with torch.inference_mode():
        encoded = {name: s.encode(demo.clip, TEMPLATES[0].replace("a {}", text)) for name, text in PROMPTS.items()}
        return {**encoded, "empty": s.encode(demo.clip, "")}


@pytest.fixture(scope="module")
def base(s, demo, prompts):
    return {name: s.sample(demo.model, prompts[name], prompts["empty"], s.noise()) for name in PROMPTS}


@pytest.fixture(scope="module")
def draw(s, pack, demo, two, prompts):
    """The latents of a prompt with a chain of eraser nodes, each (strength, concepts)."""

    def draw(prompt, *nodes, conditioning=None):
        model = demo.model
        for strength, concepts in nodes:
            model = pack.UnHypeEraser.execute(model, two, strength, conditioning, concepts).result[0]
        return s.sample(model, prompts[prompt], prompts["empty"], s.noise())

    return draw


@pytest.mark.parametrize(
    "concepts, erased",
    [
        ("", ("cat", "dog", "both")),
        (" , ", ("cat", "dog", "both")),
        ("DOG,cat", ("cat", "dog", "both")),
        ("cat", ("cat", "both")),
        (" Dog ", ("dog", "both")),
    ],
)
def test_only_prompts_of_enabled_concepts_change_and_the_others_not_in_a_bit(base, draw, concepts, erased):
    changed = [name for name in PROMPTS if not torch.equal(base[name], draw(name, (1.0, concepts)))]
    assert changed == list(erased)


def test_all_by_name_are_as_none_by_name(draw):
    everything = draw("both", (1.0, ""))
    assert torch.equal(everything, draw("both", (1.0, "cat, dog")))
    assert not torch.equal(everything, draw("both", (1.0, "cat"))) and not torch.equal(everything, draw("both", (1.0, "dog")))


def test_the_value_may_be_missing(s, pack, demo, two, prompts, draw):
    """As in workflows that were saved before there was this widget."""
    model = pack.UnHypeEraser.execute(demo.model, two, 1.0).result[0]
    assert torch.equal(s.sample(model, prompts["both"], prompts["empty"], s.noise()), draw("both", (1.0, "")))


def test_two_nodes_of_one_file_with_different_concepts_both_act(base, draw):
    nodes = (1.0, "cat"), (1.0, "dog")
    for name in ("cat", "dog"):
        alone = draw(name, (1.0, name))
        assert torch.equal(alone, draw(name, *nodes)) and torch.equal(alone, draw(name, *nodes[::-1]))
    assert torch.equal(base["neither"], draw("neither", *nodes))
    together = draw("both", *nodes)
    for node in nodes:
        assert (together - draw("both", node)).norm() > 0.05 * together.norm()
    assert torch.equal(together, draw("both", *nodes[::-1]))


def test_a_concept_counts_once_at_the_highest_strength(draw):
    for nodes in (((1.0, "cat"), (0.5, "")), ((0.5, ""), (1.0, "cat"))):
        assert torch.equal(draw("cat", *nodes), draw("cat", (1.0, "cat")))
        assert torch.equal(draw("dog", *nodes), draw("dog", (0.5, "")))
        of_both = draw("both", *nodes)
        assert torch.equal(of_both, draw("both", (1.0, "cat"), (0.5, "dog"))) and not torch.equal(of_both, draw("both", (1.0, "cat")))


def test_the_adapter_knows_what_is_off(s, demo, two, prompts, draw):
    """Of a prompt that names both, the node draws what the adapter makes with the other concept off."""
    from host.backbone import Backbone
    from trainer.previews import adapted_sampling
    from unhype.condition import read_condition

    hypernetwork = sys.modules[type(two.network).__module__]
    tokens, extra = prompts["both"][0]
    with torch.inference_mode():
        condition = read_condition(tokens, extra["pooled_output"])
        for off in ([False, True], [True, False], [False, False]):
            factors = hypernetwork.at_strength(two.network, condition, 1.0, torch.tensor([off]))
            backbone = Backbone(demo.model, demo.clip, demo.vae)
            model = adapted_sampling(backbone, two.network.shape.layers, torch.arange(1), factors)
            expected = s.sample(model, prompts["both"], prompts["empty"], s.noise())
            concepts = ", ".join(c.name for c, is_off in zip(two.concepts, off) if not is_off)
            assert (draw("both", (1.0, concepts)) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_connected_conditioning_decides_for_enabled_concepts_only(base, draw, prompts):
    for name in ("cat", "neither"):
        assert torch.equal(base[name], draw(name, (1.0, "dog"), conditioning=prompts["cat"]))
        assert not torch.equal(base[name], draw(name, (1.0, "cat"), conditioning=prompts["cat"]))
    of_many = prompts["cat"] + prompts["dog"]
    assert torch.equal(draw("neither", (1.0, "dog"), conditioning=of_many), draw("neither", (1.0, "dog"), conditioning=prompts["dog"]))


@pytest.mark.parametrize("concepts", ["kitty", "cat, kitty", "cat dog"])
def test_an_unknown_concept_is_an_error_that_names_the_files_own(pack, demo, two, concepts):
    unknown = concepts.split(", ")[-1]
    with pytest.raises(ValueError, match=f"concepts: '{unknown}' is not in two.safetensors, which erases Cat, dog; write some of these"):
        pack.UnHypeEraser.execute(demo.model, two, 1.0, None, concepts)


def test_switched_off(pack, two):
    patching = sys.modules[pack.UnHypeEraser.__module__.rsplit(".", 1)[0] + ".patching"]
    off = {text: patching.switched_off(two, text).tolist() for text in ("", ",", "cat", "Dog", "dog , CAT", "cat,cat")}
    both, cat, dog = [False, False], [False, True], [True, False]
    assert off == {"": both, ",": both, "cat": cat, "Dog": dog, "dog , CAT": both, "cat,cat": cat}


def test_the_order_of_inputs_is_a_promise(pack):
    """Saved workflows hold the widgets' values by place: a new one comes last and may be missing."""
    order = ["model", "unhype", "strength", "conditioning", "concepts", "apply"]
    schema = pack.UnHypeEraser.define_schema()
    assert [i.id for i in schema.inputs] == order
    assert [i.id for i in schema.inputs if i.optional] == ["unhype", "conditioning", "concepts", "apply"]
    parameters = inspect.signature(pack.UnHypeEraser.execute).parameters
    assert list(parameters) == order and parameters["concepts"].default == "" and parameters["conditioning"].default is None
