"""The hypernetwork: theta_0 is the zero adapter, gradients live from the start, rows do not see each other."""

import math

import pytest
import torch

from unhype.condition import Condition, read_condition
from unhype.hypernetwork import FREQUENCIES, Hypernetwork, Shape, at_strength, fourier
from unhype.layers import Layer

S = 10
LAYERS = (Layer("a", 6, 4), Layer("b", 3, 5))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Hypernetwork(Shape(LAYERS, rank=2, steps=S, hidden=8, queries=2, pooled_dim=5, token_dim=6, concepts=1))


def some_condition(rows: int, scale: float = 1.0, seed: int = 1) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    return read_condition(scale * torch.randn(rows, 7, 6, generator=rng), scale * torch.randn(rows, 5, generator=rng))


def changes(factors):
    return [f.up @ f.down for f in factors]


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e4])
def test_step_zero_is_the_zero_adapter(network, scale):
    factors = network(some_condition(3, scale), torch.zeros(3))
    for f, base, layer in zip(factors, network.base_down, LAYERS):
        assert f.down.shape == (3, 2, layer.inputs) and f.up.shape == (3, layer.outputs, 2)
        assert torch.equal(f.down, base.expand(3, -1, -1))
        assert torch.equal(f.up, torch.zeros(3, layer.outputs, 2))
        assert torch.equal(f.up @ f.down, torch.zeros(3, layer.outputs, layer.inputs))


def test_factors_are_base_plus_strength_times_head(network):
    """theta_s = theta_0 + (s / S) head(c, s), with the trunk written out."""
    c, s = some_condition(3), torch.tensor([1.0, 4.0, 10.0])
    network.standardise.fit(c)
    z = network.standardise(c)
    features = torch.cat([z.pooled, network.summary(z), fourier(s / S)], 1)
    first, _, second, _ = network.trunk
    h = torch.nn.functional.silu(second(torch.nn.functional.silu(first(features))))
    for f, layer, base, head in zip(network(c, s), LAYERS, network.base_down, network.heads):
        for n in range(3):
            change = s[n] / S * (head.weight @ h[n])
            torch.testing.assert_close(f.down[n], base + change[: 2 * layer.inputs].view(2, layer.inputs))
            torch.testing.assert_close(f.up[n], change[2 * layer.inputs :].view(layer.outputs, 2))


def test_gradients_are_alive_at_the_start(network):
    c, s = some_condition(3), torch.tensor([1.0, 5.0, 10.0])
    rng = torch.Generator().manual_seed(2)
    wanted = [torch.randn(3, n.outputs, n.inputs, generator=rng) for n in LAYERS]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        sum((x - y).square().sum() for x, y in zip(changes(network(c, s)), wanted)).backward()
        optimizer.step()

    step()
    assert all(head.weight.grad.abs().max() > 0 for head in network.heads)
    step()
    for name in ("heads", "trunk", "base_down", "summary"):
        for p in getattr(network, name).parameters():
            assert p.grad.isfinite().all() and p.grad.abs().max() > 0, name


@pytest.mark.parametrize("strength, step, up", [(0.0, 0, 1), (0.5, S / 2, 1), (0.7, 0.7 * S, 1), (1.0, S, 1), (2.0, S, 2), (3.5, S, 3.5)])
def test_strength_walks_s_up_to_one_and_scales_up_beyond(network, strength, step, up):
    c = some_condition(2)
    for got, there in zip(at_strength(network, c, strength), network(c, torch.full((2,), float(step)))):
        assert torch.equal(got.down, there.down)
        assert torch.equal(got.up, up * there.up)
        assert torch.equal(got.up == 0, torch.full_like(got.up, strength == 0, dtype=torch.bool))


def test_fourier_features_against_the_formula():
    x = [0.0, 0.1, 0.5, 0.77, 1.0]
    expected = [[wave(math.pi * k * v) for wave in (math.sin, math.cos) for k in range(1, FREQUENCIES + 1)] for v in x]
    torch.testing.assert_close(fourier(torch.tensor(x, dtype=torch.float64)), torch.tensor(expected, dtype=torch.float64))
    assert fourier(torch.tensor(x)).shape == (5, 32)


def test_every_row_uses_its_own_condition(network):
    s = torch.full((2,), 7.0)
    c, other = some_condition(2), some_condition(2, seed=9)
    mixed = Condition(*(torch.stack([mine[0], theirs[1]]) for mine, theirs in zip(c, other)))
    for f, g in zip(network(c, s), network(mixed, s)):
        assert torch.equal(f.down[0], g.down[0]) and torch.equal(f.up[0], g.up[0])
        assert not torch.equal(f.down[1], g.down[1]) and not torch.equal(f.up[1], g.up[1])


@pytest.mark.parametrize("part", ["pooled", "tokens", "s"])
def test_factors_depend_on_every_input(network, part):
    c, s = some_condition(1), torch.full((1,), 5.0)
    before = changes(network(c, s))
    if part == "s":
        s = s + 1
    else:
        c = c._replace(**{part: getattr(c, part) + 0.5})
    assert all(not torch.equal(x, y) for x, y in zip(before, changes(network(c, s))))
