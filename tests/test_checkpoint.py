"""The eraser file: a round trip, a refusal for every kind of wrong file, and whole writes or none."""

import dataclasses
import errno
import hashlib
import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from unhype import checkpoint
from unhype.checkpoint import CheckpointError, Concept, Eraser, load_eraser, save_eraser
from unhype.condition import Condition
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import FAMILIES, Layer

LAYERS = (Layer("a.attn2.to_k", 6, 4), Layer("a.attn2.to_v", 6, 4))
SHAPE = Shape(LAYERS, rank=2, steps=10, hidden=8, queries=2, pooled_dim=5, token_dim=6, concepts=2)
NUMBERS = [0.25, -1.5, 0.0, 1.0, 2.0, 0.5, -0.125, 3.0]  # four for each of the two layers
LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
CALIBRATION = {"threshold": 0.5, "misses": 0.0}


def some_eraser() -> Eraser:
    torch.manual_seed(0)
    network = Hypernetwork(SHAPE)
    network.switch.threshold.copy_(torch.tensor([0.5, -1.5]))
    network.least.copy_(torch.tensor([3.0, 2.5]))
    network.standardise.fit(Condition(torch.randn(9, 5), torch.randn(9, 7, 6), torch.ones(9, 7, dtype=torch.bool)))
    concepts = [Concept("cat", "forest", CALIBRATION), Concept("Zoë's dog", "moon")]
    return Eraser(network, "sd1", concepts, {"rank": 2}, {"seconds": 1.5}, {"name": "base.safetensors", "sketch": NUMBERS}, LEVELS)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "cat.safetensors"
    save_eraser(some_eraser(), path)
    return path


def rewrite(path, tensors=None, **changes):
    """The file again with other tensors or another description."""
    meta = {**some_eraser().describe(), **changes}
    save_file(load_file(path) if tensors is None else tensors, path, metadata={"unhype": json.dumps(meta)})


def with_shape(**changes) -> dict:
    return {**some_eraser().describe()["shape"], **changes}


def refused(path, *says):
    with pytest.raises(CheckpointError) as error:
        load_eraser(path)
    assert path.name in str(error.value)
    for text in says:
        assert text in str(error.value)


def test_round_trip(file):
    saved, loaded = some_eraser(), load_eraser(file)
    assert loaded.describe() == saved.describe()
    assert loaded.source == "cat.safetensors" and loaded.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.network.shape == SHAPE and not loaded.network.training
    state = loaded.network.state_dict()
    for name, tensor in saved.network.state_dict().items():
        half = name.startswith(("heads.", "base_down."))
        assert state[name].dtype == torch.float32
        torch.testing.assert_close(state[name], tensor, rtol=2**-10 if half else 0, atol=1e-7 if half else 0)
    assert not any(p.requires_grad or p.is_meta for p in loaded.network.parameters())


def test_a_file_from_before_says_no_level_at_which_a_strength_begins(file):
    meta = {key: value for key, value in some_eraser().describe().items() if key != "onset"}
    save_file(load_file(file), file, metadata={"unhype": json.dumps(meta)})
    assert some_eraser().onset == LEVELS and load_eraser(file).onset == ()


def test_saving_again_changes_no_byte(file):
    first = file.read_bytes()
    save_eraser(load_eraser(file), file)
    assert file.read_bytes() == first


def test_a_loaded_eraser_does_not_depend_on_its_file(file):
    eraser = load_eraser(file)
    before = {k: v.clone() for k, v in eraser.network.state_dict().items()}
    with open(file, "r+b") as f:
        f.write(bytes(file.stat().st_size))
    assert all(torch.equal(v, before[k]) for k, v in eraser.network.state_dict().items())


def version_2(path) -> dict:
    """The file as version 2 wrote it, without the adapter's least length; its tensors."""
    tensors = load_file(path)
    del tensors["least"]
    rewrite(path, tensors, format_version=2)
    return tensors


def version_3(path) -> None:
    """The file as version 3 wrote it, which knew neither a bottleneck nor fused layers."""
    shape = some_eraser().describe()["shape"]
    del shape["bottleneck"]
    for layer in shape["layers"]:
        del layer["start"]
    rewrite(path, format_version=3, shape=shape)


def test_a_file_of_version_3_has_no_bottleneck_and_whole_layers(file):
    version_3(file)
    eraser = load_eraser(file)
    assert eraser.network.shape == SHAPE and SHAPE.bottleneck == 0 and {n.start for n in SHAPE.layers} == {0}


def test_files_without_a_base_or_a_sketch_are_read(file):
    rewrite(file, base={"name": "quantised.safetensors", "sketch": []})
    assert load_eraser(file).base["sketch"] == []
    meta = some_eraser().describe()
    del meta["base"]
    save_file(load_file(file), file, metadata={"unhype": json.dumps(meta)})
    assert load_eraser(file).base == {}


def test_a_bottleneck_and_fused_layers_come_back(tmp_path):
    layers = (LAYERS[0], dataclasses.replace(LAYERS[1], start=8))
    eraser = dataclasses.replace(some_eraser(), network=Hypernetwork(dataclasses.replace(SHAPE, layers=layers, bottleneck=3)))
    save_eraser(eraser, tmp_path / "cat.safetensors")
    back = load_eraser(tmp_path / "cat.safetensors").network
    assert back.shape == eraser.network.shape and back.shape.layers[1].start == 8
    for name, tensor in eraser.network.state_dict().items():
        torch.testing.assert_close(back.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)


def version_1(path) -> dict:
    """The file as version 1 wrote it, without the tensor "concept" and what reads the firing state as well; its tensors."""
    tensors = version_2(path)
    del tensors["concept"]
    tensors["trunk.0.weight"] = tensors["trunk.0.weight"][:, : -SHAPE.token_dim].contiguous()
    rewrite(path, tensors, format_version=1)
    return tensors


def test_a_file_of_version_2_has_no_least_length(file):
    tensors = version_2(file)
    eraser = load_eraser(file)
    assert torch.equal(eraser.network.least, torch.zeros(2)) and eraser.describe()["format_version"] == 4
    state = eraser.network.state_dict()
    assert state.keys() == tensors.keys() | {"least"} and all(torch.equal(state[k], v.float()) for k, v in tensors.items())


def test_a_file_of_version_1_has_zeros_where_it_says_nothing(file):
    tensors = version_1(file)
    eraser = load_eraser(file)
    assert torch.equal(eraser.network.concept, torch.zeros(2, 8)) and not eraser.network.concept.requires_grad
    assert not eraser.network.trunk[0].weight[:, -SHAPE.token_dim :].any() and not eraser.network.least.any()
    state = eraser.network.state_dict()
    state["trunk.0.weight"] = state["trunk.0.weight"][:, : -SHAPE.token_dim]
    assert state.keys() == tensors.keys() | {"concept", "least"} and all(torch.equal(state[k], v.float()) for k, v in tensors.items())
    assert eraser.describe()["format_version"] == 4 and eraser.concepts == some_eraser().concepts


@pytest.mark.parametrize("older", [version_1, version_2, version_3])
def test_a_file_of_an_older_version_is_saved_again_as_this_one(file, older):
    older(file)
    before = load_eraser(file)
    save_eraser(before, file)
    after = load_eraser(file)
    assert {"concept", "least"} < load_file(file).keys() and after.describe() == before.describe()
    assert all(torch.equal(v, after.network.state_dict()[k]) for k, v in before.network.state_dict().items())


def test_a_real_file_of_version_1_is_read():
    """The eraser of "cat" that the pack once came with."""
    eraser = load_eraser(Path(__file__).with_name("files") / "demo_cat_format_1.safetensors")
    assert [c.name for c in eraser.concepts] == ["cat"] and eraser.network.concept.shape == (1, eraser.network.shape.hidden)


def test_each_version_holds_its_own_tensors(file):
    tensors = load_file(file)
    rewrite(file, tensors, format_version=1)
    refused(file, "tensor")
    old = version_1(file)
    rewrite(file, {**old, "concept": tensors["concept"]}, format_version=1)
    refused(file, "tensor concept", "does not have")
    rewrite(file, {**old, "trunk.0.weight": tensors["trunk.0.weight"]}, format_version=1)
    refused(file, "trunk.0.weight", "shape")
    rewrite(file, {**old, "concept": tensors["concept"], "least": tensors["least"]})
    refused(file, "trunk.0.weight", "shape")
    rewrite(file, {k: v for k, v in tensors.items() if k != "concept"})
    refused(file, "tensor concept", "missing")
    rewrite(file, {k: v for k, v in tensors.items() if k != "least"})
    refused(file, "tensor least", "missing")
    rewrite(file, tensors, format_version=2)
    refused(file, "tensor least", "does not have")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.safetensors"):
        load_eraser(tmp_path / "nothing.safetensors")


def without_pooled(path) -> Eraser:
    """An eraser of a family that reads no pooled embedding, saved."""
    eraser = some_eraser()
    eraser.network = Hypernetwork(dataclasses.replace(SHAPE, pooled_dim=0))
    save_eraser(eraser, path)
    return eraser


def test_an_eraser_without_a_pooled_embedding_is_read_again(file):
    before = without_pooled(file).network.state_dict()
    after = load_eraser(file).network
    assert after.shape.pooled_dim == 0 and after.standardise.pooled_mean.shape == (0,)
    assert all(torch.equal(v, before[k].half().float()) or torch.equal(v, before[k]) for k, v in after.state_dict().items())


def test_only_what_older_nodes_cannot_read_asks_for_newer_ones(file, monkeypatch):
    """A file of today's families is as it was; one without a pooled embedding, or of a denoiser that heeds masks, is of version 2."""
    version = lambda eraser: eraser.describe()["condition_version"]
    assert version(load_eraser(file)) == 1 and version(without_pooled(file)) == 2
    monkeypatch.setitem(FAMILIES, "sd1", dataclasses.replace(FAMILIES["sd1"], masked=True))
    assert version(some_eraser()) == 2


def test_a_file_of_the_former_condition_has_a_pooled_embedding(file):
    eraser = without_pooled(file)
    rewrite(file, shape=eraser.describe()["shape"], condition_version=1)
    refused(file, "pooled_dim is 0", "from 1 to", "damaged")


# Files that are something else


@pytest.mark.parametrize(
    "content, says",
    [
        (b"", "it has 0 bytes"),
        (b"GIF89a" * 100, "but a picture: it goes into Load Image"),
        (struct.pack("<Q", 40) + b"these are forty bytes of no JSON at all", "does not fit into 47 bytes"),
        (struct.pack("<Q", 12) + b"not any JSON", "cannot be read"),
        (struct.pack("<Q", 4) + b"[{}]", "cannot be read"),
        (struct.pack("<Q", 22) + b'{"__metadata__": null}', "metadata is no object"),
        (struct.pack("<Q", 2) + b"{}", "no entry 'unhype'"),
        (struct.pack("<Q", 1 << 40) + b"{}", f"{1 << 40} bytes long"),
    ],
)
def test_no_eraser_file_is_refused(file, content, says):
    file.write_bytes(content)
    refused(file, says)


def test_an_ordinary_lora_is_refused(file):
    file.write_bytes(save({"lora_unet_down.weight": torch.ones(2, 4)}, metadata={"ss_network_dim": "2"}))
    refused(file, "not an UnHype eraser", "'unhype'", "LoRA loader")


@pytest.mark.parametrize("where", ["header", "tensors"])
def test_a_truncated_file_is_refused(file, where):
    raw = file.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    cut = raw[: 8 + length // 2] if where == "header" else raw[:-100]
    file.write_bytes(cut)
    expected, found = (length, len(cut)) if where == "header" else (len(raw) - 8 - length, len(cut) - 8 - length)
    refused(file, "truncated", str(expected), str(found))


# Descriptions


@pytest.mark.parametrize(
    "changes, says",
    [
        ({"format_version": 7}, ("format_version is 7", "up to 6", "Update")),
        ({"condition_version": 7}, ("condition_version is 7", "up to 2", "Update")),
        ({"format_version": "1"}, ("format_version is '1'", "whole number")),
        ({"format_version": True}, ("format_version is True", "whole number")),
        ({"condition_version": 0}, ("condition_version is 0", "whole number")),
        ({"family": "sd9"}, ("'sd9'", "expected one of sd1")),
        ({"family": ["sd1"]}, ("['sd1']", "expected one of sd1")),
        ({"concepts": [{"name": "cat"}]}, ("incomplete", "mapping")),
        ({"concepts": [{"name": "cat", "mapping": 3}] * 2}, ("mapping is no text",)),
        ({"concepts": [{"name": "cat", "mapping": "forest"}]}, ("1 concepts", "2")),
        ({"concepts": [{"name": "cat", "mapping": "forest", "calibration": 1}] * 2}, ("calibration",)),
        ({"training": "long"}, ("training", "no object")),
        ({"base": "demo"}, ("its base model is described as demo", "8 finite numbers")),
        ({"base": {"name": "demo"}}, ("its base model",)),
        ({"base": {"name": 3, "sketch": []}}, ("its base model",)),
        ({"base": {"name": "demo", "sketch": NUMBERS[:7]}}, ("its base model",)),
        ({"base": {"name": "demo", "sketch": [*NUMBERS[:7], float("nan")]}}, ("its base model",)),
        ({"base": {"name": "demo", "sketch": [*NUMBERS[:7], "1"]}}, ("its base model",)),
        ({"shape": {}}, ("incomplete", "layers")),
        ({"shape": with_shape(colour=3)}, ("incomplete", "colour")),
        ({"shape": with_shape(layers=[])}, ("0 layers",)),
        ({"shape": with_shape(bottleneck=-1)}, ("bottleneck is -1", "from 0")),
        ({"shape": with_shape(bottleneck=True)}, ("bottleneck is True", "whole number")),
        ({"shape": with_shape(bottleneck=3)}, ("heads.0",)),
        ({"shape": with_shape(layers=[{"name": "a", "inputs": 6, "outputs": 4, "start": -2}])}, ("starts at row -2", "from 0")),
        ({"shape": with_shape(layers=[{"name": "a", "inputs": 6, "outputs": 4}] * 2)}, ("2 layers", "each once")),
        ({"shape": with_shape(layers=[{"name": ["a"], "inputs": 6, "outputs": 4}])}, ("layer's name",)),
        ({"shape": with_shape(layers=[{"name": "a", "inputs": -6, "outputs": 4}])}, ("'a'", "4 x -6")),
        ({"shape": with_shape(hidden=9)}, ("tensor", "shape")),
    ],
)
def test_a_wrong_description_is_refused(file, changes, says):
    rewrite(file, **changes)
    refused(file, *says)


@pytest.mark.parametrize(
    "shape, says",
    [
        (with_shape(rank=10**9), "rank is 1000000000"),
        (with_shape(hidden=10**30), "hidden is 1" + 30 * "0"),
        (with_shape(queries=0), "queries is 0"),
        (with_shape(token_dim=1e4), "token_dim is 10000.0"),
        (with_shape(layers=[{"name": "a", "inputs": 10**9, "outputs": 4}]), "4 x 1000000000"),
        (with_shape(layers=[{"name": str(i), "inputs": 1, "outputs": 1} for i in range(5000)]), "5000 layers"),
    ],
)
def test_absurd_sizes_are_refused_before_a_network_is_built(file, shape, says, monkeypatch):
    rewrite(file, shape=shape)
    monkeypatch.setattr(checkpoint, "Hypernetwork", lambda _: pytest.fail("a network of absurd sizes was built"))
    refused(file, says)


def test_large_sizes_take_no_memory_before_the_tensors_are_compared(file):
    """Within the limits, 8 layers of 2 TB each: refused by the header's table alone."""
    layers = [{"name": str(i), "inputs": 65_536, "outputs": 65_536} for i in range(8)]
    rewrite(file, shape=with_shape(rank=256, hidden=16_384, layers=layers))
    refused(file, "tensor")


# Tensors


@pytest.mark.parametrize(
    "change, says",
    [
        ({"trunk.0.bias": torch.zeros(9)}, ("trunk.0.bias", "(9,)", "(8,)")),
        ({"concept": torch.zeros(2, 9)}, ("concept", "(2, 9)", "(2, 8)")),
        ({"concept": torch.full((2, 8), torch.nan)}, ("concept", "NaN")),
        ({"heads.0.weight": None}, ("heads.0.weight", "missing")),
        ({"heads.2.weight": torch.zeros(2)}, ("heads.2.weight", "does not have")),
        ({"trunk.2.weight": torch.full((8, 8), torch.nan)}, ("trunk.2.weight", "NaN")),
        ({"base_down.1": torch.full((2, 6), torch.inf).half()}, ("base_down.1", "infinite")),
        ({"switch.bias": torch.zeros(2, dtype=torch.int64)}, ("switch.bias", "I64", "F16, F32")),
        ({"switch.bias": torch.zeros(2, dtype=torch.bfloat16)}, ("switch.bias", "BF16", "F16, F32")),
    ],
)
def test_wrong_tensors_are_refused(file, change, says):
    tensors = {**load_file(file), **change}
    rewrite(file, {k: v for k, v in tensors.items() if v is not None})
    refused(file, *says)


@pytest.mark.parametrize(
    "edit, says",
    [
        (lambda h: h["switch.bias"].update(data_offsets=[0, 8]), ("does not fill its bytes",)),
        (lambda h: h["switch.bias"].update(shape=[2.0]), ("cannot be read",)),
        (lambda h: h["switch.bias"].update(dtype=["F32"]), ("cannot be read",)),
        (lambda h: h["__metadata__"].update(author=3), ("no safetensors file",)),
        (lambda h: h["__metadata__"].update(unhype="{"), ("metadata cannot be read",)),
        (lambda h: h["__metadata__"].update(unhype="[1]"), ("metadata cannot be read", "not an object")),
    ],
)
def test_a_damaged_header_is_refused(file, edit, says):
    raw = file.read_bytes()
    length = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + length])
    edit(header)
    edited = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(edited)) + edited + raw[8 + length :])
    refused(file, *says)


# Writing


def test_a_full_disk_leaves_the_former_file(file, monkeypatch):
    former = file.read_bytes()

    def full(tensors, path, metadata):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        save_eraser(some_eraser(), file)
    assert str(file) in str(error.value)
    assert file.read_bytes() == former and list(file.parent.iterdir()) == [file]


def test_saving_makes_folders_and_leaves_no_temporary_file(tmp_path):
    path = tmp_path / "models" / "unhype" / "cat.safetensors"
    save_eraser(some_eraser(), path)
    assert list(path.parent.iterdir()) == [path]
