"""The hypernetwork: theta_0 is the zero adapter, gradients live from the start, rows do not see each other."""

import dataclasses
import math

import pytest
import torch

from unhype.condition import GATE, Condition, read_condition
from unhype.hypernetwork import FREQUENCIES, Hypernetwork, Shape, at_strength, fourier
from unhype.layers import Layer

S = 10
LAYERS = (Layer("a", 6, 4), Layer("b", 3, 5))


@pytest.fixture
def network():
    torch.manual_seed(0)
    return Hypernetwork(Shape(LAYERS, rank=2, steps=S, hidden=8, queries=2, pooled_dim=5, token_dim=6, concepts=1))


@pytest.fixture
def narrow(network):
    """The same with a bottleneck of three."""
    return Hypernetwork(dataclasses.replace(network.shape, bottleneck=3))


def test_a_bottleneck_is_the_rank_of_every_head(narrow):
    c, s = some_condition(12), torch.full((12,), float(S))
    flat = [torch.cat([(f.down - base).flatten(1), f.up.flatten(1)], 1) for f, base in zip(narrow(c, s), narrow.base_down)]
    assert [torch.linalg.matrix_rank(x.double(), rtol=1e-5).item() for x in flat] == [3, 3]
    expected = sum((x - y).square().sum((1, 2)) for f, g in zip(narrow(c, s), narrow(c, 0 * s)) for x, y in zip(f[:2], g[:2]))
    torch.testing.assert_close(narrow.squared_change(c, s), expected)


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
    torch.nn.init.normal_(network.switch.weight)
    c, s = some_condition(3), torch.tensor([1.0, 4.0, 10.0])
    network.standardise.fit(c)
    z = network.standardise(c)
    features = torch.cat([z.pooled, network.summary(z), fourier(s / S), network.switch.firing_state(z)], 1)
    first, _, second, _ = network.trunk
    h = first(features) + network.switch.gates(z) @ network.concept
    h = torch.nn.functional.silu(second(torch.nn.functional.silu(h)))
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


# Concepts that are switched off


ROWS_OFF = torch.tensor([[False, False, False], [True, False, False], [True, False, True]])


@pytest.fixture
def three():
    """A network of three concepts in double precision, its switch at random."""
    torch.manual_seed(0)
    network = Hypernetwork(Shape(LAYERS, rank=2, steps=S, hidden=8, queries=2, pooled_dim=5, token_dim=6, concepts=3)).double()
    torch.nn.init.normal_(network.switch.weight)
    torch.nn.init.normal_(network.switch.threshold)
    return network


def double(c: Condition) -> Condition:
    return c._replace(pooled=c.pooled.double(), tokens=c.tokens.double())


def same(a, b) -> bool:
    return all(torch.equal(x, y) for f, g in zip(a, b) for x, y in zip(f[:2], g[:2]))


def test_nothing_off_is_the_same_as_no_off(three):
    c, s = double(some_condition(3)), torch.tensor([1.0, 4.0, 10.0])
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    assert same(three(c, s), three(c, s, nothing))
    assert torch.equal(three.squared_change(c, s), three.squared_change(c, s, nothing))
    assert torch.equal(three.fires(c), three.fires(c, nothing)) and torch.equal(three.fires(c), three.fires(c, nothing[:1]))


def test_off_moves_its_own_rows_and_not_at_step_zero(three):
    c, s = double(some_condition(3)), torch.tensor([1.0, 4.0, 10.0])
    for f, g in zip(three(c, s), three(c, s, ROWS_OFF)):
        assert [torch.equal(f.up[n], g.up[n]) for n in range(3)] == [True, False, False]
    assert same(three(c, 0 * s), three(c, 0 * s, ROWS_OFF))


def test_what_is_off_opens_no_gate_and_draws_no_firing_state(three):
    c, s = double(some_condition(3)), torch.tensor([1.0, 4.0, 10.0])
    first, _, second, _ = three.trunk
    z = three.standardise(c)
    features = torch.cat([z.pooled, three.summary(z), fourier(s / S), three.switch.firing_state(z, ROWS_OFF)], 1)
    gates = (GATE * (three.scores(c) - three.switch.threshold)).sigmoid() * ~ROWS_OFF
    h = first(features) + sum(gates[:, k, None] * three.concept[k] for k in range(3))
    h = torch.nn.functional.silu(second(torch.nn.functional.silu(h)))
    for f, layer, head in zip(three(c, s, ROWS_OFF), LAYERS, three.heads):
        for n in range(3):
            torch.testing.assert_close(f.up[n], (s[n] / S * (head.weight @ h[n]))[2 * layer.inputs :].view(layer.outputs, 2))


def test_gates_open_at_the_threshold_and_never_for_what_is_off(three):
    c = double(some_condition(3))
    three.switch.threshold.copy_(three.scores(c)[0])
    gates = three.switch.gates(three.standardise(c), ROWS_OFF)
    torch.testing.assert_close(gates[0], torch.full((3,), 0.5, dtype=torch.float64))
    assert torch.equal(gates == 0, ROWS_OFF) and gates.max() < 1
    three.switch.threshold.sub_(10)
    assert three.switch.gates(three.standardise(c))[0].min() > 0.999
    empty = c._replace(mask=torch.zeros_like(c.mask))
    assert not three.switch.gates(empty).any()


@pytest.mark.parametrize("least", [0.0, 0.2])
@pytest.mark.parametrize("off", [None, ROWS_OFF], ids=["all on", "some off"])
def test_squared_change_is_that_of_the_factors(three, off, least):
    c, s = double(some_condition(3)), torch.tensor([0.0, 4.0, 10.0], dtype=torch.float64)
    three.least.fill_(least)
    three.standardise.fit(c)
    there, start = three(c, s, off), three(c, 0 * s, off)
    expected = sum((x - y).square().sum((1, 2)) for f, g in zip(there, start) for x, y in zip(f[:2], g[:2]))
    found = three.squared_change(c, s, off)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)
    assert found[0] == 0 and found[1:].min() > 0
    weights = [*three.heads.parameters(), *three.trunk.parameters()]
    for p, q in zip(*(torch.autograd.grad(total.sum(), weights) for total in (found, expected))):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)


def test_an_adapter_that_fires_is_as_long_as_its_concept_s_least_and_keeps_its_direction(three):
    c, s = double(some_condition(3)), torch.full((3,), 10.0, dtype=torch.float64)
    gates = three.switch.gates(three.standardise(c), ROWS_OFF)
    before = torch.cat([(f.up).flatten(1) for f in three(c, s, ROWS_OFF)], 1)
    length = three.squared_change(c, s, ROWS_OFF).sqrt()
    three.least.copy_(torch.tensor([3.0, 50.0, 2.0]))
    wanted = (gates * three.least).amax(1)
    assert (wanted > length).any() and not gates[1, 0]
    torch.testing.assert_close(three.squared_change(c, s, ROWS_OFF).sqrt(), torch.maximum(length, wanted))
    after = torch.cat([(f.up).flatten(1) for f in three(c, s, ROWS_OFF)], 1)
    torch.testing.assert_close(after, before * (torch.maximum(length, wanted) / length)[:, None])
    half = torch.cat([(f.up).flatten(1) for f in three(c, 0 * s, ROWS_OFF)], 1)
    assert not half.any()


def test_only_concepts_that_are_on_fire(three):
    """Scores are the tokens' own first three channels: row 0 fires nobody, row 1 concept 0, row 2 concepts 0 and 2."""
    three.switch.weight.data.copy_(torch.eye(6)[:3])
    three.switch.threshold.fill_(0.5)
    tokens = torch.zeros(3, 7, 6, dtype=torch.float64)
    tokens[:, :, 5] = 1
    tokens[1, 2, 0] = tokens[2, 0, 0] = tokens[2, 6, 2] = 1
    c = double(read_condition(tokens, torch.zeros(3, 5)))
    off = lambda *concepts: torch.tensor([[k in concepts for k in range(3)]])
    assert three.fires(c).tolist() == [False, True, True]
    assert three.fires(c, off(0)).tolist() == [False, False, True]
    assert three.fires(c, off(1)).tolist() == [False, True, True]
    assert three.fires(c, off(2)).tolist() == [False, True, True]
    assert three.fires(c, off(0, 2)).tolist() == [False, False, False]
    assert three.fires(c, torch.cat([off(), off(0), off(1, 2)])).tolist() == [False, False, True]


@pytest.mark.parametrize("length", [1, 7, 500])
def test_the_firing_state_is_the_token_that_fires_however_long_the_prompt_is(three, length):
    """Token 0 reaches concept 0 and the last one concept 2; what is off draws nobody."""
    three.switch.weight.data.copy_(20 * torch.eye(6)[:3])
    three.switch.threshold.copy_(torch.tensor([1.0, 2.0, 3.0]))
    tokens = torch.zeros(1, length, 6, dtype=torch.float64)
    tokens[0, 0, 0], tokens[0, -1, 2], tokens[0, :, 5] = 1, 0.9, torch.arange(length) + 1
    c = double(read_condition(tokens, torch.zeros(1, 5)))
    state = lambda *off: three.switch.firing_state(c, torch.tensor([[k in off for k in range(3)]]))[0]
    torch.testing.assert_close(three.switch.firing_state(c)[0], state())
    torch.testing.assert_close(state(2), tokens[0, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(state(0), tokens[0, -1], rtol=0, atol=1e-6)
    torch.testing.assert_close(state(0, 1, 2), tokens[0].mean(0))


def test_a_masked_token_is_no_firing_state(three):
    three.switch.weight.data.copy_(torch.eye(6)[:3])
    c = double(some_condition(1))
    cut = c._replace(mask=torch.arange(7)[None] < 3)
    short = Condition(c.pooled, c.tokens[:, :3], c.mask[:, :3])
    torch.testing.assert_close(three.switch.firing_state(cut), three.switch.firing_state(short))
    assert not torch.allclose(three.switch.firing_state(cut), three.switch.firing_state(c))


@pytest.mark.parametrize("strength", [0.5, 2.0])
def test_at_strength_passes_on_what_is_off(three, strength):
    c = double(some_condition(3))
    s = torch.full((3,), min(strength, 1) * S)
    for got, there in zip(at_strength(three, c, strength, ROWS_OFF), three(c, s, ROWS_OFF)):
        assert torch.equal(got.down, there.down) and torch.equal(got.up, max(strength, 1) * there.up)
