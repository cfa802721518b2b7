"""The hidden layer of a switch in the eraser's file."""

import pytest
import torch

from unhype.checkpoint import CheckpointError, Concept, Eraser, load_eraser, save_eraser
from unhype.condition import Condition
from unhype.description import MAX_LOOK
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer


def some_eraser(look: int) -> Eraser:
    torch.manual_seed(1)
    layers = (Layer("a.attn2.to_k", 6, 4),)
    network = Hypernetwork(Shape(layers, rank=2, steps=10, hidden=8, queries=2, pooled_dim=5, token_dim=6, concepts=2, look=look))
    if look:
        torch.nn.init.normal_(network.switch.seen)
    return Eraser(network, "sd1", [Concept("cat", "forest"), Concept("dog", "moon")])


def test_it_is_kept(tmp_path):
    eraser = some_eraser(3)
    save_eraser(eraser, path := tmp_path / "many.safetensors")
    loaded = load_eraser(path)
    condition = Condition(torch.randn(4, 5), torch.randn(4, 7, 6), torch.ones(4, 7, dtype=torch.bool))
    found = eraser.network.scores(condition)
    assert loaded.network.shape == eraser.network.shape and torch.allclose(loaded.network.scores(condition), found, atol=0.01)
    assert not torch.allclose(found[:, 0], (condition.tokens @ eraser.network.switch.weight.T).amax(1)[:, 0], atol=0.1)
    assert loaded.describe()["format_version"] == 5


def test_a_file_without_one_is_as_it_was(tmp_path):
    described = some_eraser(0).describe()
    assert described["format_version"] == 4 and "look" not in described["shape"]  # older nodes read it
    save_eraser(some_eraser(0), path := tmp_path / "few.safetensors")
    assert load_eraser(path).network.switch.look is None


def test_an_absurd_one_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=f"look is .*{MAX_LOOK}"):
        save_eraser(some_eraser(MAX_LOOK + 1), tmp_path / "a.safetensors")
