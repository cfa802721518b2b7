"""A few numbers tell how far two models' weights are apart, whatever the precision."""

import pytest
import torch

from unhype.layers import Layer
from unhype.sketch import LAYERS, PAIRS, chosen, difference, projections, sketch

KNOWN = [-0.700228, 0.590192, 0.020007, -0.020007]  # of one small matrix: the files depend on these signs
TABLE = tuple(Layer(f"block.{i}.to_v", 48, 40, 8 * (i % 2)) for i in range(50))


def some_weights(seed=0) -> dict[str, torch.Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return {layer.name: torch.randn(56, 48, generator=rng) / 7 for layer in TABLE}


def moved(weights, share, rank=None):
    rng, found = torch.Generator().manual_seed(9), {}
    for name, weight in weights.items():
        noise = torch.randn(56, rank or 48, generator=rng)
        noise = noise @ torch.randn(rank, 48, generator=rng) if rank else noise
        found[name] = weight + share * weight.norm() / noise.norm() * noise
    return found


def test_it_is_short_and_the_same_everywhere():
    weights = some_weights()
    numbers = sketch(TABLE, weights.get)
    assert len(chosen(TABLE)) == LAYERS and len(numbers) == PAIRS * LAYERS and numbers == sketch(TABLE, weights.get)
    weight = torch.arange(12.0).square().reshape(3, 4)
    assert projections(Layer("a", 4, 3), weight) == pytest.approx(KNOWN, abs=1e-5)


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("share", [0.01, 0.03, 0.1, 0.5])
def test_it_measures_the_distance(share, rank):
    weights = some_weights()
    found = difference(TABLE, sketch(TABLE, weights.get), moved(weights, share, rank).get)
    assert found == pytest.approx(share, rel=0.3)


def test_precision_and_scale_make_no_difference():
    weights = some_weights()
    numbers = sketch(TABLE, weights.get)
    for change, most in ((lambda w: w.half(), 5e-4), (lambda w: w.bfloat16(), 3e-3), (lambda w: (3 * w).to(torch.float8_e4m3fn), 0.04)):
        assert difference(TABLE, numbers, lambda name: change(weights[name])) < most
    assert difference(TABLE, numbers, some_weights(1).get) > 1


def test_only_the_adapted_rows_count():
    weights = some_weights()
    numbers = sketch(TABLE, weights.get)
    layer = chosen(TABLE)[1]
    assert layer.start
    weights[layer.name][: layer.start] += 1
    assert difference(TABLE, numbers, weights.get) == 0
    weights[layer.name][layer.start] += 1
    assert difference(TABLE, numbers, weights.get) > 0


def test_weights_that_are_no_plain_numbers_are_left_out():
    class Bytes(torch.Tensor):
        pass

    weights = some_weights()
    numbers = sketch(TABLE, weights.get)
    for strange in (torch.zeros(40, 48, dtype=torch.uint8), torch.zeros(56, 48, device="meta"), weights[TABLE[0].name].as_subclass(Bytes)):
        assert sketch(TABLE, {**weights, TABLE[0].name: strange}.get) == []
        assert difference(TABLE, numbers, {**weights, TABLE[0].name: strange}.get) == 0
        assert difference(TABLE, numbers, lambda name: strange) is None
    assert difference(TABLE, [], weights.get) is None
