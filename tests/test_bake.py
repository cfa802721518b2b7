"""Rewriting folded into a prompt's weights: its layers give on this prompt what they give on rewritten states."""

import torch

from unhype.bake import RANK, baked, fold
from unhype.hypernetwork import Factors, at_strength

from .test_rewrites import LAYERS, STATES, condition, model, network  # noqa: F401


def test_the_layers_give_what_they_give_on_rewritten_states(network, model):  # noqa: F811
    read = condition(STATES[:1])
    factors = at_strength(network, read, 1.0)
    found = baked(LAYERS, factors, read, lambda name: model[name].weight)
    for layer, own, given in zip(LAYERS, factors, found):
        weight, x = model[layer.name].weight, own.rewrite(STATES[:1])[0]
        expected = x @ (weight + own.up[0] @ own.down[0]).T
        assert given.rewrite is None and given.down.shape == (1, 2 + min(RANK, 3), 4)
        torch.testing.assert_close(STATES[0] @ (weight + given.up[0] @ given.down[0]).T, expected, atol=0.02, rtol=0)


def test_states_that_stay_and_what_is_not_like_the_prompt_stay():
    torch.manual_seed(0)
    states, changes = torch.randn(6, 32), torch.zeros(6, 32)
    changes[2] = torch.randn(32)
    own = fold(states, changes)
    made = lambda x: x @ own.into.T @ own.out.T
    torch.testing.assert_close(made(states), changes, atol=0.05, rtol=0)
    beside = torch.randn(32) @ (torch.eye(32) - torch.linalg.pinv(states) @ states)
    assert made(beside).norm() < 1e-4 * beside.norm()


def test_without_rewriting_it_is_the_adapter_and_without_weights_nothing(network):  # noqa: F811
    read = condition(STATES[:1])
    plain = [Factors(f.down, f.up) for f in at_strength(network, read, 1.0)]
    assert baked(LAYERS, plain, read, lambda name: None) is plain
    assert baked(LAYERS, at_strength(network, read, 1.0), read, lambda name: None) is None
