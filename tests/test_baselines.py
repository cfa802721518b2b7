"""What the eraser is compared with: the equations against another way to their answer, and the demo base under them."""

from pathlib import Path

import pytest
import torch

from evaluation import baselines
from evaluation.controls import Lora
from trainer.prompts.concepts import Prompt, Target
from trainer.prompts.templates import fill
from unhype.adapter import low_rank
from unhype.hypernetwork import Shape
from unhype.layers import FAMILIES, layer_table

ROOT = Path(__file__).resolve().parents[1]
STEPS = 300
TEMPLATES = ["a {}, google style, on a blue background", "a drawing of a {}, yellow background, twitter style"]
PAIRED = "a {} and a {other}, twitter style, on a yellow background"
KEPT = ["dog", "pig", "bear", "rabbit", "frog", "horse", "bird", "car", "house", "pizza", "apple", "ghost", "forest"]


@pytest.fixture(scope="module")
def backbone(comfy):
    from host.load import load_backbone

    return load_backbone("demo")


@pytest.fixture
def unchanged(backbone):
    """The base's weights are bit-equal after the test, frozen, and carry no hook."""
    before = {name: value.clone() for name, value in backbone.diffusion_model.state_dict().items()}
    yield
    after = backbone.diffusion_model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(p.requires_grad or p.grad is not None for p in backbone.diffusion_model.parameters())
    assert not any(module._forward_hooks for module in backbone.diffusion_model.modules())


@pytest.fixture(scope="module")
def prompts():
    mapped = [(fill(t, "cat"), fill(t, "forest")) for t in TEMPLATES]
    mapped += [(fill(PAIRED, "cat", other), fill(PAIRED, "forest", other)) for other in KEPT[:4]]
    targets = [Target(Prompt(text, False), there, (0,)) for text, there in mapped]
    retain = [Prompt(fill(t, name), False) for t in TEMPLATES for name in KEPT]
    return targets, retain + [Prompt(fill(PAIRED, a, b), True) for a, b in zip(KEPT, KEPT[1:])]


def some_lora(backbone, seed):
    torch.manual_seed(seed)
    lora = Lora(Shape(layer_table(backbone.diffusion_model, FAMILIES["sd1"]), 3, STEPS, 8, 4, 128, 128, 1))
    for up in lora.up:
        torch.nn.init.normal_(up)
    return lora


def problem(seed=0):
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in ((5, 7), (4, 7), (4, 7), (6, 7))]


def test_closed_form_is_the_least_squares_solution():
    weight, c, c_star, kept = problem()
    e, p, r = 0.7, 0.3, 0.2
    left = torch.cat([e**0.5 * c, p**0.5 * kept, r**0.5 * torch.eye(7, dtype=torch.float64)])
    right = torch.cat([e**0.5 * c_star @ weight.T, p**0.5 * kept @ weight.T, r**0.5 * weight.T])
    expected = torch.linalg.lstsq(left, right).solution.T
    assert torch.allclose(weight + baselines.closed_form(weight, c, c_star, kept, e, p, r), expected, atol=1e-12)


def test_closed_form_has_no_lower_neighbour():
    weight, c, c_star, kept = problem(1)

    def objective(change):
        pairs, rest = (weight + change) @ c.T - weight @ c_star.T, change @ kept.T
        return 2 * pairs.square().sum() + 0.5 * rest.square().sum() + 0.1 * change.square().sum()

    change = baselines.closed_form(weight, c, c_star, kept, 2, 0.5, 0.1).requires_grad_()
    (gradient,) = torch.autograd.grad(objective(change), change)
    assert gradient.abs().max() < 1e-10


def test_nothing_to_erase_changes_nothing(backbone, prompts, unchanged):
    weight, c, c_star, kept = problem()
    assert not baselines.closed_form(weight, c, c_star, kept, 0, 0.3, 0.2).any()
    changes = baselines.uce(backbone, *prompts, erase_scale=0.0)
    assert {f"{n.name}.weight" for n in layer_table(backbone.diffusion_model, FAMILIES["sd1"])} == changes.keys()
    assert not any(change.any() for change in changes.values())


@pytest.mark.parametrize(
    "ids, mapped, spans",
    [
        ([0, 5, 6, 7, 9], [0, 5, 8, 7, 9], ((2, 5), (2, 5))),  # a word for a word
        ([0, 5, 6, 7, 9], [0, 5, 1, 2, 7, 9], ((2, 5), (3, 6))),  # for two: the last of them
        ([0, 5, 1, 2, 7, 9], [0, 5, 8, 7, 9], ((3, 6), (2, 5))),
        ([0, 5, 6, 9], [0, 9], ((3, 4), (1, 2))),  # for the empty prompt: the end tokens
        ([0, 5, 9], [0, 5, 9], ((2, 3), (2, 3))),
    ],
)
@pytest.mark.parametrize("padding", [0, 4])
def test_aligned(ids, mapped, spans, padding):
    expected = tuple(slice(start, stop + padding) for start, stop in spans)
    assert baselines.aligned(ids, mapped, padding, 77) == expected


def test_aligned_stays_inside_the_chunk():
    assert baselines.aligned([0, 1, 9], [0, 2, 3, 4, 9], 4, 6) == (slice(1, 4), slice(3, 6))


def test_token_ids_end_with_one_end_token(backbone):
    assert [len(baselines.token_ids(backbone, text)) for text in ("", "a cat", "cat " * 75)] == [2, 4, 77]
    ids = baselines.token_ids(backbone, "a cat")
    assert ids[0] == 49406 and ids[-1] == 49407


def test_uce_erases_the_cat_and_keeps_the_dog(backbone, prompts, unchanged):
    from demo.judge import NAMES, load_judge
    from evaluation.methods import edited

    method = edited("uce", backbone, baselines.uce(backbone, *prompts))
    judge, seeds = load_judge(), range(4)
    noise = torch.stack([backbone.noise((64, 64), seed) for seed in seeds])
    negative = backbone.encode([""]).repeated(len(seeds)).conditioning()

    def drawn(noun, model):
        positive = backbone.encode([fill(TEMPLATES[0], noun)]).repeated(len(seeds)).conditioning()
        latents = backbone.sample(positive, negative, (64, 64), 0, 8, 3.0, model=model, noise=noise)
        return [NAMES[i] for i in judge.scores(backbone.decode(latents)).argmax(-1)]

    assert drawn("cat", backbone.model) == ["cat"] * 4
    assert "cat" not in drawn("cat", method.model)
    assert drawn("dog", method.model) == ["dog"] * 4
    assert drawn("cat", backbone.model) == ["cat"] * 4


def test_lora_weights_do_what_the_adapter_does(backbone):
    lora = some_lora(backbone, 0)
    changes, factors = baselines.lora_weights(lora), lora(None, torch.full((2,), float(STEPS)))
    assert len(changes) == len(lora.shape.layers)
    for layer, f in zip(lora.shape.layers, factors):
        x = torch.randn(2, 3, layer.inputs)
        change = changes[f"{layer.name}.weight"]
        assert backbone.diffusion_model.get_submodule(layer.name).weight.shape == change.shape and not change.requires_grad
        assert torch.allclose(low_rank(x, f), x @ change.T, atol=1e-3)


def test_stack_adds(backbone):
    loras = [some_lora(backbone, seed) for seed in range(3)]
    one, two, three = map(baselines.lora_weights, loras)
    stacked = baselines.stack(loras)
    assert stacked.keys() == one.keys() and all(torch.equal(stacked[n], one[n] + two[n] + three[n]) for n in one)


@pytest.fixture(scope="module")
def training(backbone, tmp_path_factory):
    from trainer.config import from_mapping, read_yaml
    from trainer.data import Data

    small = {"pictures": 4, "sampling_steps": 4, "kept_steps": 2, "iterations": 2, "batch": 4, "autocast": "none"}
    out = {"out": str(tmp_path_factory.mktemp("full") / "x.safetensors")}
    config = from_mapping(read_yaml(ROOT / "trainer/configs/demo_cat.yaml") | small | out, "test")
    return config, Data(config, backbone, lambda text: None)


def test_full_training_leaves_the_base_alone(backbone, training, unchanged):
    config, data = training
    changes = baselines.train_full(config, backbone, data)
    layers = len(layer_table(backbone.diffusion_model, FAMILIES["sd1"])) // 2
    assert len(changes) == 4 * layers and all(change.abs().max() > 0 for change in changes.values())


def test_full_training_is_fine_tuning(backbone, training, unchanged):
    """The prediction with the changes on hooks is that with the changes added to the weights."""
    config, data = training
    changes = baselines.train_full(config, backbone, data)
    layers = baselines.own_layers(backbone, baselines.CROSS_ATTENTION)
    some = data.samples[0]
    x, sigma, context = some.x[:2], some.sigma[:2], data.text.tokens[some.prompt[:2]]
    with torch.no_grad():
        with baselines.changed(layers, changes.values()):
            hooked = backbone.predict(x, sigma, context)
        assert not torch.allclose(hooked, backbone.predict(x, sigma, context), atol=1e-4)
        before = {name: layer.weight.clone() for name, layer in layers.items()}
        for name, layer in layers.items():
            layer.weight += changes[f"{name}.weight"]
        added = backbone.predict(x, sigma, context)
        for name, layer in layers.items():
            layer.weight.copy_(before[name])
    assert torch.allclose(hooked, added, atol=1e-4)


def test_full_training_that_fails_leaves_the_base_alone(backbone, training, unchanged, monkeypatch):
    config, data = training
    predict, calls = backbone.predict, []

    def second_fails(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return predict(*arguments)

    monkeypatch.setattr(backbone, "predict", second_fails)
    with pytest.raises(KeyboardInterrupt):
        baselines.train_full(config, backbone, data)
    assert len(calls) == 2


def test_full_training_that_diverges_says_so(backbone, training, unchanged, monkeypatch):
    from trainer.run.divergence import Diverged

    monkeypatch.setattr(baselines, "task_loss", lambda *arguments: torch.tensor(float("nan")))
    with pytest.raises(Diverged, match="lower learning_rate"):
        baselines.train_full(training[0], backbone, training[1])


def test_base_is_read_without_what_a_method_patched_in(backbone, prompts, training, unchanged):
    """A MODEL sampled from before leaves its changes in the weights that all MODELs share."""
    from evaluation.methods import edited

    config, data = training
    uce, full = baselines.uce(backbone, *prompts), baselines.train_full(config, backbone, data)
    text = backbone.encode(["a cat"]).conditioning()
    method = edited("lora", backbone, baselines.lora_weights(some_lora(backbone, 0)))
    for found, again in ((uce, lambda: baselines.uce(backbone, *prompts)), (full, lambda: baselines.train_full(config, backbone, data))):
        backbone.sample(text, text, (64, 64), 0, 1, 3.0, model=method.model)
        assert all(torch.equal(change, found[name]) for name, change in again().items())
