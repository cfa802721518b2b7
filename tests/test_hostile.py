"""Erasers that a stranger wrote: values, numbers and names are judged like sizes, and what loads gives finite adapters."""

import dataclasses
import json
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from unhype.checkpoint import CheckpointError, Concept, Eraser, check_eraser, load_eraser, save_eraser
from unhype.condition import FAR, Condition, read_condition
from unhype.hypernetwork import LONGEST, STRONGEST, Hypernetwork, Shape, at_strength
from unhype.layers import Layer
from unhype.sketch import difference

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (Layer("a.attn2.to_k", 3, 2), Layer("b", 2, 3))
SHAPE = Shape(LAYERS, rank=1, steps=10, hidden=3, queries=1, pooled_dim=2, token_dim=2, concepts=2)
SKETCH = [0.5, -0.25, 1.5, -2.0, 0.0, 1.0, 0.5, -0.5]


def some_eraser(shape: Shape = SHAPE) -> Eraser:
    torch.manual_seed(0)
    network = Hypernetwork(shape)
    network.least.fill_(4.0)
    network.switch.threshold.fill_(0.5)
    concepts = [Concept("cat", "forest", {"threshold": 0.5}), Concept("👩‍🚀 Zoë's dog", "moon")]
    return Eraser(network, "sd1", concepts, {"rank": 1}, {"seconds": 1.5}, {"name": "base.safetensors", "sketch": SKETCH})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("hostile")


@pytest.fixture(scope="module")
def valid(folder):
    save_eraser(some_eraser(), folder / "valid.safetensors")
    return (folder / "valid.safetensors").read_bytes()


@pytest.fixture
def file(folder):
    return folder / "cat.safetensors"


def split(raw: bytes) -> tuple[dict, dict]:
    """Its description and its tensors."""
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(json.loads(raw[8 : 8 + length])["__metadata__"]["unhype"]), load(raw)


def refused(path, *says: str) -> None:
    with pytest.raises(CheckpointError) as error:
        load_eraser(path)
    message = str(error.value)
    assert path.name in message and message.isprintable() and len(message) < 600
    for text in says:
        assert text in message


def write(path, valid: bytes, change=lambda meta, tensors: None, text=json.dumps) -> None:
    """The valid file after `change` of its description and tensors."""
    meta, tensors = split(valid)
    change(meta, tensors)
    path.write_bytes(save(tensors, {"unhype": text(meta)}))


# Values


@pytest.mark.parametrize("value", [1e30, -1e30, 2e3, 65504.0, math.nan, math.inf])
@pytest.mark.parametrize(
    "name", ["switch.threshold", "switch.weight", "switch.bias", "summary.query", "concept", "trunk.0.weight", "trunk.2.bias"]
)
def test_a_value_far_beyond_any_trained_one_is_refused(file, valid, name, value):
    def change(meta, tensors):
        tensors[name].view(-1)[0] = value

    write(file, valid, change)
    refused(file, name)


@pytest.mark.parametrize("name", ["heads.0.weight", "base_down.1"])
def test_weights_near_the_end_of_fp16_are_refused(file, valid, name):
    write(file, valid, lambda meta, tensors: tensors[name].view(-1)[1:2].fill_(-65504))
    refused(file, name, "-65504", "from -1000 to 1000")


@pytest.mark.parametrize("value", [1e30, 1001.0, -0.5, math.nan])
def test_an_absurd_least_length_is_refused(file, valid, value):
    write(file, valid, lambda meta, tensors: tensors["least"][1:].fill_(value))
    refused(file, "least")


@pytest.mark.parametrize("name", ["standardise.token_deviation", "standardise.pooled_deviation"])
@pytest.mark.parametrize("value", [0.0, -0.0, -1.0, 1e-30, 1e-40, 1e30])
def test_a_deviation_that_is_none_is_refused(file, valid, name, value):
    write(file, valid, lambda meta, tensors: tensors[name][:1].fill_(value))
    refused(file, name, "5e-06")


def test_a_channel_that_never_changes_has_a_deviation_that_is_taken(file):
    eraser = some_eraser()
    one = Condition(torch.ones(4, 2), torch.ones(4, 7, 2), torch.ones(4, 7, dtype=torch.bool))
    eraser.network.standardise.fit(one)
    save_eraser(eraser, file)
    assert load_eraser(file).network.standardise.token_deviation.max() < 2e-5


def test_what_would_be_refused_is_not_saved(file):
    for change in (
        lambda e: e.network.switch.threshold.fill_(1e30),
        lambda e: e.network.least.fill_(-1),
        lambda e: e.network.standardise.token_deviation.zero_(),
        lambda e: e.base.update(sketch=[1e308] * 8),
        lambda e: e.metrics.update(seconds=math.nan),
        lambda e: setattr(e.concepts[0], "name", "c\nat"),
    ):
        eraser = some_eraser()
        change(eraser)
        file.unlink(missing_ok=True)
        with pytest.raises(CheckpointError, match=r"cat.safetensors.*[nN]ot saved"):
            save_eraser(eraser, file)
        assert not file.exists()
    assert check_eraser(some_eraser(), file) == json.dumps(some_eraser().describe())


# Descriptions


@pytest.mark.parametrize(
    "onset", [None, {}, "0.1", [0.5] * 8, [0.5] * 10, [0.5] * 8 + [0.4], [0.1] * 8 + [1.1], [-0.1] * 9, [math.nan] * 9, [1] * 9]
)
def test_levels_at_which_no_strength_can_begin_are_refused(file, valid, onset):
    write(file, valid, lambda meta, tensors: meta.__setitem__("onset", onset))
    refused(file)


@pytest.mark.parametrize("number", [1e308, -1e308, 1e30, 5.0, math.nan, math.inf, 10**400, "1", True, None])
def test_a_sketch_that_no_weights_give_is_refused(file, valid, number):
    write(file, valid, lambda meta, tensors: meta["base"]["sketch"].__setitem__(3, number))
    refused(file)


def test_the_largest_sketch_can_be_compared(file, valid):
    """A number is at most the root of the matrix's size, and one more for rounding."""
    write(file, valid, lambda meta, tensors: meta["base"].update(sketch=[6**0.5] * 8))
    numbers = load_eraser(file).base["sketch"]
    assert difference(LAYERS, numbers, lambda name: torch.ones(2, 3) if name.startswith("a") else torch.ones(3, 2)) < 10


def deep(levels: int):
    tree = {}
    for _ in range(levels):
        tree = [tree]
    return tree


@pytest.mark.parametrize("where", ["calibration", "training", "metrics"])
@pytest.mark.parametrize(
    "value",
    [math.nan, -math.inf, 1e300, -(10**39), 10**400, deep(900), deep(30), "x" * 200_000, {"y" * 200_000: 1}, {"\x1b[2J": 1}, "\ud800"],
)
def test_oddities_in_what_is_only_said_are_refused(file, valid, where, value):
    def change(meta, tensors):
        (meta["concepts"][0] if where == "calibration" else meta).setdefault(where, {})["odd"] = value

    write(file, valid, change)
    refused(file)


@pytest.mark.parametrize("text", ["1e999", "[" * 500_000, "1" * 5000, '{"a": 1, "a": 2}', "{" * 500_000, "NaN"])
def test_oddities_of_json_are_refused(file, valid, text):
    write(file, valid, text=lambda meta: json.dumps(meta).replace('"seconds": 1.5', f'"seconds": {text}'))
    refused(file)


def test_a_key_that_stands_twice_is_refused(file, valid):
    write(file, valid, text=lambda meta: '{"family": "flux", ' + json.dumps(meta)[1:])
    refused(file, "twice")


NAMES = ["\x1b[31mred\x1b[0m", "a\nb", "a\r", "\u202egnp.tac", "\u2066x", "\ud800", "\0", "\u200b", "x\u2028y", "x" * 200_000]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("where", ["name", "mapping", "layer", "base", "family", "key", "tensor", "size"])
def test_a_name_that_cannot_be_shown_is_refused(file, valid, where, name):
    def change(meta, tensors):
        if where in ("name", "mapping"):
            meta["concepts"][1][where] = name
        elif where == "layer":
            meta["shape"]["layers"][0]["name"] = name
        elif where == "base":
            meta["base"]["name"] = name
        elif where == "family":
            meta["family"] = name
        elif where == "key":
            meta["concepts"][1][name] = 1
        elif where == "size":
            meta["shape"][name] = 1
        elif name.isascii():
            tensors[name] = torch.zeros(1)

    write(file, valid, change)
    if where != "tensor" or name.isascii():
        refused(file)


@pytest.mark.parametrize("name", ["", " ", "a b", "a..b", ".a", "a.", "../a", "a/b", "a[0]", "__init__().x", "é", "a" * 301])
def test_a_layers_name_is_the_path_of_a_module(file, valid, name):
    write(file, valid, lambda meta, tensors: meta["shape"]["layers"][0].update(name=name))
    refused(file, "layer's name")


@pytest.mark.parametrize("name", ["cat", "Zoë's 猫", "👨‍👩‍👧", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "می‌خواهم", "x" * 300, "in the style of Vincent van Gogh, 1889"])
def test_a_name_in_any_script_is_taken(file, valid, name):
    write(file, valid, lambda meta, tensors: meta["concepts"][0].update(name=name, mapping=name))
    assert load_eraser(file).concepts[0].name == name


def test_a_concept_without_a_name_is_refused(file, valid):
    write(file, valid, lambda meta, tensors: meta["concepts"][0].update(name=" "))
    refused(file, "name is empty")


# What loads


LARGE = 3.4e38
NUMBERS = st.floats(-LARGE, LARGE, allow_subnormal=False) | st.sampled_from([0.0, 1e-45, 1e30, -1e30, 999.0, -999.0, 1e-5, 1e5])
often = settings(max_examples=150, deadline=None, database=None)
odd = st.integers(0, 10**6)


def conditions(seed: int, size: float) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    some = lambda *shape: (torch.randn(shape, generator=rng) * size).clamp(-LARGE, LARGE)
    return read_condition(some(3, 5, 2), some(3, 2))


def gives_finite_factors(eraser: Eraser, condition: Condition) -> None:
    network = eraser.network
    assert not network.scores(condition).isnan().any() and network.fires(condition).dtype == torch.bool
    for strength in (0.0, 0.5, 1.0, 2.0):
        for f in at_strength(network, condition, strength):
            assert all(t.isfinite().all() and t.half().isfinite().all() for t in f[:2])


@often
@given(data=st.data(), seed=odd, size=st.sampled_from([0.0, 1.0, 100.0, 1e10, 1e30, LARGE]))
def test_an_eraser_that_loads_gives_finite_factors(folder, valid, data, seed, size):
    """Any numbers in any of its tensors, and any finite conditioning."""
    path = folder / "drawn.safetensors"
    meta, tensors = split(valid)
    for name in data.draw(st.lists(st.sampled_from(sorted(tensors)), min_size=1, max_size=4)):
        flat = tensors[name].view(-1)
        flat[: data.draw(st.integers(1, len(flat)))] = data.draw(NUMBERS)
    path.write_bytes(save(tensors, {"unhype": json.dumps(meta)}))
    try:
        eraser = load_eraser(path)
    except CheckpointError:
        return
    gives_finite_factors(eraser, conditions(seed, size))


@pytest.mark.parametrize("bottleneck", [0, 3])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_values_that_load_give_finite_factors(file, bottleneck, sign):
    wide = dataclasses.replace(SHAPE, hidden=64, pooled_dim=128, token_dim=256, queries=8, rank=4, bottleneck=bottleneck)
    eraser = some_eraser(wide)
    for name, value in eraser.network.state_dict().items():
        value.fill_(1e3 if name != "switch.threshold" else sign * 1e3)
        if name.endswith("_deviation"):
            value.fill_(5.1e-6)
        elif name.endswith("_mean"):
            value.fill_(-sign * 1e5)
    save_eraser(eraser, file)
    loaded = load_eraser(file)
    for size in (1.0, 1e30, LARGE):
        gives_finite_factors(loaded, read_condition(torch.full((2, 7, 256), sign * size), torch.full((2, 128), sign * size)))


def test_the_largest_values_that_load_draw_no_nan(comfy, file):
    """On the demo base, at the node's highest strength."""
    from host.load import load_backbone
    from host.sampling import adapted_sampling

    backbone = load_backbone("demo")
    text, empty = backbone.encode(["a cat, google style, on a blue background"]), backbone.encode([""])
    bundled = load_eraser(ROOT / "demo/erasers/demo_cat.safetensors")
    for name, value in bundled.network.state_dict().items():
        value.copy_(torch.randn(value.shape) * 100)
        if name.endswith(("_deviation", "least")):
            value.fill_(LONGEST if name == "least" else 1e-5)
    save_eraser(bundled, file)
    network = load_eraser(file).network
    model = adapted_sampling(backbone, network.shape.layers, torch.tensor([0]), at_strength(network, text.condition(), 2.0))
    with torch.inference_mode():
        x = backbone.sample(text.conditioning(), empty.conditioning(), (64, 64), 1, 4, 3.0, model)
        assert x.isfinite().all() and backbone.decode(x).isfinite().all()


def test_an_adapter_is_never_longer_than_the_longest():
    network, far = some_eraser().network, conditions(0, 1e30)
    with torch.no_grad():
        for head in network.heads:
            head.weight.mul_(1e3)
        factors = at_strength(network, far, 1.0)
        length = sum((f.up**2).sum((1, 2)) + ((f.down - base) ** 2).sum((1, 2)) for f, base in zip(factors, network.base_down)).sqrt()
    assert length.max() <= LONGEST * 1.01 and length.max() > LONGEST / 2
    z = network.standardise(far)
    assert z.tokens.abs().max() == FAR and z.pooled.abs().max() == FAR


@pytest.mark.parametrize("strength", [math.nan, math.inf, -math.inf, -0.1, 1e30, STRONGEST + 1])
def test_a_strength_that_is_none_is_refused(strength):
    with pytest.raises(ValueError, match="strength is"):
        at_strength(some_eraser().network, conditions(0, 1.0), strength)
