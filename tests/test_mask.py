"""The attention_mask of a conditioning: every kind that text encoders and nodes make, and nothing hidden that a denoiser attends to."""

import pytest
import torch

from unhype.condition import read_condition, stack_conditions
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer
from unhype.mask import seen

T, D, P = 5, 6, 3
REAL = [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]  # a prompt of three tokens, and one without padding
EXPECTED = torch.tensor(REAL).bool()
BIAS = torch.zeros(2, T).masked_fill(~EXPECTED, -torch.inf)


def states(rows: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, T, D, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    "mask",
    [
        torch.tensor(REAL),
        torch.tensor(REAL, dtype=torch.int32),
        EXPECTED,
        EXPECTED[:, None],
        EXPECTED[:, None, None],
        BIAS,
        BIAS.clamp_min(torch.finfo(torch.float16).min).half()[:, None, None],
    ],
    ids=["long", "int", "bool", "N1T", "N11T", "bias", "half bias"],
)
def test_every_kind_hides_the_padding(mask):
    assert torch.equal(seen(mask, states(), "it"), EXPECTED)


def test_what_lies_beyond_the_mask_is_seen():
    """ConditioningConcat keeps the first prompt's mask for the states of both."""
    assert torch.equal(seen(torch.tensor([[1, 0]]), states(), "it"), torch.tensor([[1, 0, 1, 1, 1]] * 2).bool())


@pytest.mark.parametrize("mask", [torch.zeros(1, T, dtype=torch.long), BIAS[:1] * 0, torch.ones(2, T), torch.tensor(REAL).float()])
def test_what_a_denoiser_attends_to_is_never_hidden(mask):
    """Where all is hidden alike it attends to all alike, and a bias of 0 or 1 hides nothing."""
    assert seen(mask, states(), "it").all()


@pytest.mark.parametrize(
    "mask, says",
    [
        (torch.ones(T), "shape (5,)"),
        (torch.ones(3, T), "shape (3, 5)"),
        (torch.ones(2, T + 1, dtype=torch.long), "shape (2, 6)"),
        (torch.ones(2, T, T), "shape (2, 5, 5)"),
        (torch.tensor([[1, 2, 0, 0, 0]]), "holds 2, expected 1 where a token is real"),
        (torch.tensor([[0, -1, 1, 0, 0]]), "holds -1"),
    ],
)
def test_another_kind_is_refused_in_one_line(mask, says):
    with pytest.raises(ValueError) as error:
        read_condition(states(), torch.ones(2, P), "the positive conditioning", mask)
    text = str(error.value)
    assert text.startswith("the positive conditioning has an attention_mask ") and says in text and "CLIPTextEncode" in text
    assert "\n" not in text


def test_masked_and_zero_states_are_both_unseen():
    tokens = states()
    tokens[1, 2] = 0
    assert read_condition(tokens, torch.ones(1, P), "it", torch.tensor(REAL)).mask.tolist() == [
        [True, True, True, False, False],
        [True, True, False, True, True],
    ]


@pytest.fixture(params=[0, P])
def network(request):
    torch.manual_seed(0)
    shape = Shape((Layer("a", 3, 4),), rank=1, steps=10, hidden=8, queries=2, pooled_dim=request.param, token_dim=D, concepts=2)
    network = Hypernetwork(shape).requires_grad_(False)
    network.standardise.fit(read_condition(2 + 3 * states(20), torch.randn(20, P), reads_pooled=request.param > 0))
    torch.nn.init.normal_(network.switch.weight)
    network.switch.threshold.fill_(-100)
    return network


def outputs(network, condition):
    return [network.scores(condition), *(t for f in network(condition, torch.full((len(condition.tokens),), 10.0)) for t in f[:2])]


def test_padding_changes_neither_score_nor_adapter(network):
    """Whatever a text encoder pads with, and however far: the prompt alone is read."""
    read = lambda tokens, mask=None: read_condition(tokens, torch.ones(1, P), "it", mask, network.shape.pooled_dim > 0)
    tokens = states(1)
    alone = outputs(network, read(tokens[:, :3]))
    for padding in (tokens[:, 3:], 50 * tokens[:, 3:], tokens[:, :1].repeat(1, 9, 1)):
        padded = torch.cat([tokens[:, :3], padding], 1)
        mask = torch.tensor([[1] * 3 + [0] * padding.shape[1]])
        for found, expected in zip(outputs(network, read(padded, mask)), alone):
            torch.testing.assert_close(found, expected)
        unmasked = zip(outputs(network, read(padded)), alone)
        assert not all(torch.allclose(found, expected) for found, expected in unmasked)


def test_masks_stay_with_their_rows_when_conditions_are_stacked():
    short = read_condition(states(2), torch.ones(1, P), "it", torch.tensor(REAL))
    long = read_condition(torch.randn(1, 2 * T, D), torch.ones(1, P))
    both = stack_conditions([short, long])
    assert torch.equal(both.mask[:2, :T], EXPECTED) and not both.mask[:2, T:].any() and both.mask[2].all()


def test_without_a_pooled_embedding_none_is_read(network):
    if network.shape.pooled_dim:
        with pytest.raises(ValueError, match="the negative conditioning has no pooled_output"):
            read_condition(states(), None, "the negative conditioning")
        return
    without, ignored = (read_condition(states(), p, reads_pooled=False) for p in (None, torch.randn(2, 99)))
    assert without.pooled.shape == ignored.pooled.shape == (2, 0)
    for a, b in zip(outputs(network, without), outputs(network, ignored)):
        assert torch.equal(a, b) and a.isfinite().all()
