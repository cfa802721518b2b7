"""Folding heads: exact where their outputs lie in few directions, the nearest of its rank elsewhere, and undone for more training."""

import dataclasses

import pytest
import torch

from unhype.condition import read_condition
from unhype.fold import folded, unfold
from unhype.hypernetwork import Hypernetwork, Shape, whole
from unhype.layers import Layer

SHAPE = Shape((Layer("a", 24, 16), Layer("b", 8, 40)), rank=2, steps=10, hidden=32, queries=2, pooled_dim=5, token_dim=6, concepts=1)


@pytest.fixture
def network():
    torch.manual_seed(0)
    network = Hypernetwork(SHAPE)
    network.least.fill_(0.3)
    return network


def some_condition(rows: int, seed: int = 1):
    rng = torch.Generator().manual_seed(seed)
    return read_condition(torch.randn(rows, 7, 6, generator=rng), torch.randn(rows, 5, generator=rng))


def seen_by(network, condition):
    return network.hidden(condition, torch.full((len(condition.pooled),), 10.0), None)[1].detach()


def test_heads_of_a_low_rank_are_kept(network):
    """Also on prompts that were not seen."""
    for head in network.heads:
        head.weight.data = torch.randn(len(head.weight), 5) @ torch.randn(5, 32) / 100
    small, lost = folded(network, seen_by(network, some_condition(60)), 6)
    fresh, s = some_condition(20, seed=2), torch.full((20,), 10.0)
    assert lost < 1e-5 and small.shape == dataclasses.replace(SHAPE, bottleneck=6)
    for f, g in zip(network(fresh, s), small(fresh, s)):
        torch.testing.assert_close(g, f, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(small.squared_change(fresh, s), network.squared_change(fresh, s), rtol=1e-3, atol=1e-6)
    assert torch.equal(small.least, network.least)


def test_the_loss_said_is_the_loss_made(network):
    seen = seen_by(network, some_condition(200))
    small, lost = folded(network, seen, 4)
    pairs = [(seen @ whole(a).T, seen @ whole(b).T) for a, b in zip(network.heads, small.heads)]
    found = (sum((a - b).square().sum() for a, b in pairs) / sum(a.square().sum() for a, _ in pairs)).sqrt().item()
    assert lost == pytest.approx(found, rel=1e-4) and 0.001 < lost < 0.9


def test_it_is_nearer_than_folding_without_looking(network):
    """On what was seen, the weighted decomposition loses less than the plain one of the weights."""
    seen = seen_by(network, some_condition(200)) * torch.logspace(-2, 0, 32)
    small, _ = folded(network, seen, 4)
    error = plain = 0.0
    for head, thin in zip(network.heads, small.heads):
        u, s, v = torch.linalg.svd(head.weight.detach(), full_matrices=False)
        error += (seen @ (whole(thin) - head.weight).T).square().sum().item()
        plain += (seen @ (u[:, :4] * s[:4] @ v[:4] - head.weight).T).square().sum().item()
    assert error < 0.5 * plain


@pytest.mark.parametrize("width", [0, 32, 40])
def test_nothing_is_folded_where_it_would_not_be_smaller(network, width):
    same, lost = folded(network, seen_by(network, some_condition(4)), width)
    assert same is network and lost == 0


def test_half_precision_is_enough(network):
    small, _ = folded(network, seen_by(network, some_condition(100)), 6)
    c, s = some_condition(20, seed=2), torch.full((20,), 10.0)
    before = torch.cat([f.up.flatten(1) for f in small(c, s)], 1)
    for p in small.heads.parameters():
        p.data = p.half().float()
    after = torch.cat([f.up.flatten(1) for f in small(c, s)], 1)
    assert ((after - before).norm() / before.norm()).item() < 2e-3


def test_unfolding_gives_the_same_adapters(network):
    small, _ = folded(network, seen_by(network, some_condition(100)), 6)
    large = unfold(small)
    c, s = some_condition(20, seed=2), torch.full((20,), 7.0)
    assert large.shape == SHAPE and unfold(large) is large
    for f, g in zip(small(c, s), large(c, s)):
        torch.testing.assert_close(f, g)
