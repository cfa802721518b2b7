"""What is read of a conditioning, and the switch: padding, repetition and zeroed-out prompts change nothing."""

import pytest
import torch

from unhype.condition import Condition, Standardise, Summary, Switch, read_condition, stack_conditions
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

T, D, P = 7, 6, 5


def some_condition(rows: int = 2, tokens: int = T, seed: int = 0) -> Condition:
    rng = torch.Generator().manual_seed(seed)
    return read_condition(torch.randn(rows, tokens, D, generator=rng), torch.randn(rows, P, generator=rng))


@pytest.fixture
def network():
    """A fitted standardisation, so that zero padding is no longer zero behind it, and a switch of three random probes."""
    torch.manual_seed(0)
    network = Hypernetwork(Shape((Layer("a", 3, 3),), rank=1, steps=10, hidden=4, queries=2, pooled_dim=P, token_dim=D, concepts=3))
    network.standardise.fit(Condition(*(t + 2 if t.is_floating_point() else t for t in some_condition(20))))
    torch.nn.init.normal_(network.switch.weight)
    torch.nn.init.normal_(network.switch.bias)
    return network.requires_grad_(False)


def test_no_pooled_output_is_refused_by_name():
    with pytest.raises(ValueError, match="the positive conditioning has no pooled_output.*CLIPTextEncode"):
        read_condition(torch.ones(1, T, D), None, "the positive conditioning")


@pytest.mark.parametrize(
    "tokens, pooled",
    [
        ((T, D), (1, P)),
        ((2, T, D, 1), (2, P)),
        ((2, T, D), (P,)),
        ((2, T, D), (3, P)),
        ((1, T, D), (2, P)),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(tokens, pooled):
    with pytest.raises(ValueError) as error:
        read_condition(torch.ones(tokens), torch.ones(pooled), "erase_prompt")
    assert str(error.value).startswith("erase_prompt has") and str(tokens) in str(error.value) and str(pooled) in str(error.value)


def test_one_pooled_embedding_serves_every_row_and_halves_become_fp32():
    pooled = torch.randn(1, P).half()
    c = read_condition(torch.ones(3, T, D).half(), pooled)
    assert c.pooled.dtype == c.tokens.dtype == torch.float32
    assert torch.equal(c.pooled, pooled.float().repeat(3, 1))


def test_zero_tokens_are_masked():
    tokens = torch.ones(2, T, D)
    tokens[0, 3] = 0
    tokens[1, 5:] = 0
    tokens[1, 0] = torch.tensor([0, 0, -1e-6, 0, 0, 0])  # a single small channel is not nothing
    expected = torch.ones(2, T, dtype=torch.bool)
    expected[0, 3] = expected[1, 5] = expected[1, 6] = False
    assert torch.equal(read_condition(tokens, torch.ones(2, P)).mask, expected)


def test_masked_tokens_do_not_reach_the_summary(network):
    c = some_condition()
    c.mask[:, 4] = False
    changed = c._replace(tokens=c.tokens.clone())
    changed.tokens[:, 4] = 1e3
    assert torch.equal(network.summary(c), network.summary(changed)) and torch.equal(network.switch(c), network.switch(changed))


def test_the_summary_is_softmax_attention_over_what_is_seen():
    torch.manual_seed(0)
    summary, c = Summary(2, D), some_condition(1)
    c.mask[0, 2] = False
    rows = c.tokens[0][c.mask[0]]
    expected = torch.cat([((rows @ q).exp() / (rows @ q).exp().sum()) @ rows for q in summary.query])
    torch.testing.assert_close(summary(c)[0], expected)


def test_stacking_pads_with_masked_zeros(network):
    short, long = some_condition(2, 4), some_condition(1, 9, seed=1)
    both = stack_conditions([short, long])
    assert both.tokens.shape == (3, 9, D) and torch.equal(both.pooled, torch.cat([short.pooled, long.pooled]))
    assert torch.equal(both.tokens[:2, :4], short.tokens) and not both.tokens[:2, 4:].any()
    assert both.mask[:2, :4].all() and not both.mask[:2, 4:].any() and torch.equal(both.mask[2:], long.mask)
    for part in (network.summary, network.switch):
        alone = torch.cat([part(network.standardise(c)) for c in (short, long)])
        torch.testing.assert_close(part(network.standardise(both)), alone)


def test_a_zeroed_out_conditioning_never_fires(network):
    nothing = read_condition(torch.zeros(1, T, D), torch.zeros(1, P))
    mixed = stack_conditions([nothing, some_condition(1)])
    for threshold in (-1e30, torch.finfo(torch.float32).min, -torch.inf):
        network.switch.threshold.fill_(threshold)
        assert network.fires(mixed).tolist() == [False, True]
    assert (network.summary(network.standardise(nothing)) == 0).all()


def test_one_concept_above_its_threshold_is_enough(network):
    c = some_condition(1)
    scores = network.scores(c)
    for thresholds, fires in ((scores + 0.1, False), (scores, False), (scores + torch.tensor([0.1, -0.1, 0.1]), True)):
        network.switch.threshold.copy_(thresholds[0])
        assert network.fires(c).item() is fires


def test_neither_length_nor_place_changes_the_score():
    torch.manual_seed(0)
    switch, c = Switch(1, D), some_condition(1)
    torch.nn.init.normal_(switch.weight)
    order = (c.tokens @ switch.weight[0])[0].argsort()
    low = c.tokens[:, order[:3]]
    for tokens in (torch.cat([c.tokens, c.tokens], 1), torch.cat([low, c.tokens, low], 1), c.tokens.flip(1), c.tokens[:, order[-1:]]):
        torch.testing.assert_close(switch(read_condition(tokens, c.pooled)), switch(c))
    assert switch(read_condition(low, c.pooled)) < switch(c)


def test_standardise_fits_what_is_seen_only():
    rng = torch.Generator().manual_seed(0)
    tokens = 5 + 3 * torch.randn(40, T, D, generator=rng)
    tokens[::3, 4:] = 0
    c = read_condition(tokens, -2 + 0.1 * torch.randn(40, P, generator=rng))
    standardise = Standardise(P, D)
    standardise.fit(c)
    z = standardise(c)
    for values in (z.tokens[c.mask], z.pooled):
        torch.testing.assert_close(values.mean(0), torch.zeros(values.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(values.std(0), torch.ones(values.shape[1]), atol=1e-3, rtol=0)
    assert z.tokens[~c.mask].abs().min() > 0.5  # the masked zeros did not pull the mean
