"""Whatever bytes are in the file, the reader says CheckpointError or returns an eraser of finite tensors."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save_file

from unhype.checkpoint import CheckpointError, Concept, Eraser, load_eraser, save_eraser
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

often = settings(max_examples=200, deadline=None, database=None)
SHAPE = Shape((Layer("a", 3, 2), Layer("b", 2, 3)), rank=1, steps=10, hidden=3, queries=1, pooled_dim=2, token_dim=2, concepts=1)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([0, 1, 2, 10**9, 1 << 64, "F16"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("eraser") / "cat.safetensors"


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    path = tmp_path_factory.mktemp("valid") / "cat.safetensors"
    save_eraser(Eraser(Hypernetwork(SHAPE), "sd1", [Concept("cat", "forest", {"threshold": 0.5})], {"rank": 1}, {"seconds": 1}), path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def valid_1(valid, tmp_path_factory):
    """The same as version 1 wrote it."""
    path = tmp_path_factory.mktemp("valid_1") / "cat.safetensors"
    meta = {**json.loads(split(valid)[0]["__metadata__"]["unhype"]), "format_version": 1}
    tensors = load(valid)
    del tensors["concept"], tensors["least"]
    tensors["trunk.0.weight"] = tensors["trunk.0.weight"][:, : -SHAPE.token_dim].contiguous()
    save_file(tensors, path, {"unhype": json.dumps(meta)})
    return path.read_bytes()


def holds(path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        eraser = load_eraser(path)
    except CheckpointError as error:
        assert path.name in str(error)
    else:
        assert all(t.isfinite().all() for t in eraser.network.state_dict().values())
        assert json.loads(json.dumps(eraser.describe())) is not None


def split(raw: bytes) -> tuple[dict, bytes]:
    length = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def join(header, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + tensors


def replace(data, node, value):
    """`value` in place of, or beside, something that is drawn from a tree of JSON."""
    while True:
        keys = [*node] if isinstance(node, dict) else [*range(len(node))]
        if isinstance(node, dict) and data.draw(st.integers(0, 9)) == 0:
            node[data.draw(st.text(max_size=8))] = value
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], (dict, list)) or not node[key] or data.draw(st.booleans()):
            if data.draw(st.integers(0, 9)) == 0:
                del node[key]
            else:
                node[key] = value
            return
        node = node[key]


@often
@given(content=st.binary(max_size=200))
def test_random_bytes(file, content):
    holds(file, content)


@often
@given(header=st.binary(max_size=100) | VALUES.map(lambda v: json.dumps(v).encode()), rest=st.binary(max_size=20))
def test_random_header_of_its_own_length(file, header, rest):
    holds(file, struct.pack("<Q", len(header)) + header + rest)


@often
@given(data=st.data())
def test_random_bytes_flipped_deleted_and_inserted(file, valid, data):
    raw, header = bytearray(valid), 8 + struct.unpack("<Q", valid[:8])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, header) | st.integers(0, len(valid))) % (len(raw) + 1)
        kind = data.draw(st.sampled_from(["flip", "delete", "insert", "truncate"]))
        if kind == "flip" and at < len(raw):
            raw[at] ^= data.draw(st.integers(1, 255))
        elif kind == "delete":
            del raw[at : at + data.draw(st.integers(1, 8))]
        elif kind == "insert":
            raw[at:at] = data.draw(st.binary(min_size=1, max_size=8))
        elif kind == "truncate":
            del raw[at:]
    holds(file, bytes(raw))


@often
@given(data=st.data(), value=VALUES, old=st.booleans())
def test_random_values_in_the_table_of_tensors(file, valid, valid_1, data, value, old):
    header, tensors = split(valid_1 if old else valid)
    replace(data, header, value)
    holds(file, join(header, tensors))


@often
@given(data=st.data(), value=VALUES, old=st.booleans())
def test_random_values_in_the_description(file, valid, valid_1, data, value, old):
    header, tensors = split(valid_1 if old else valid)
    meta = json.loads(header["__metadata__"]["unhype"])
    replace(data, meta, value)
    header["__metadata__"]["unhype"] = json.dumps(meta)
    holds(file, join(header, tensors))


@often
@given(text=st.text(max_size=40) | VALUES.map(json.dumps) | st.integers(1, 200_000).map(lambda n: n * "["))
def test_random_text_as_the_description(file, valid, text):
    header, tensors = split(valid)
    header["__metadata__"]["unhype"] = text
    holds(file, join(header, tensors))


def test_the_valid_files_are_erasers(file, valid, valid_1):
    """So that the mutations above start from something that loads."""
    for content in (valid, valid_1):
        file.write_bytes(content)
        assert load_eraser(file).network.shape == SHAPE
