"""Token states rewritten before adapted layers read them: only what fires, row by row, as the maps have it, also from a file."""

import dataclasses

import pytest
import torch
from torch import nn

from unhype.adapter import Constant, Term, adapter
from unhype.checkpoint import Concept, Eraser, load_eraser, save_eraser
from unhype.condition import Condition
from unhype.hypernetwork import BESIDE, Hypernetwork, Shape, at_strength, rows_of
from unhype.layers import Layer
from unhype.lora import as_lora
from unhype.onset import scaled
from unhype.rewriting import FARTHEST, Rewrite

LAYERS = (Layer("to_k", 4, 3), Layer("to_v", 4, 3))
SHAPE = Shape(LAYERS, rank=2, steps=10, hidden=8, queries=1, pooled_dim=2, token_dim=4, concepts=2, rewrite=1)
# Concept k fires where channel k is above 1: in row 0 the second state, in row 1 nothing, in row 2 both states and the last is padding.
STATES = torch.tensor(
    [
        [[0.5, 0, 3, 3], [2, 0, 3, 3], [0, 0, 1, 0]],
        [[0.1, 0.2, 1, 1], [0.9, 0.9, 5, 5], [0, 0, 1, 0]],
        [[2.0, 3, 0, 1], [1, 3, 1, 1], [0] * 4],
    ]
)


def some_network(shape: Shape = SHAPE) -> Hypernetwork:
    torch.manual_seed(0)
    network = Hypernetwork(shape).requires_grad_(False)
    network.switch.weight.copy_(torch.eye(4)[:2])
    network.switch.threshold.fill_(1.0)
    if shape.rewrite:
        network.rewriting.shift.copy_(torch.tensor([[-2.0, 0, 0, 1], [0, -2.0, 1, 0]]))
    return network


def condition(states=STATES) -> Condition:
    return Condition(torch.zeros(len(states), 2), states, (states != 0).any(2))


@pytest.fixture
def network():
    return some_network()


@pytest.fixture
def model():
    return nn.ModuleDict({"to_k": nn.Linear(4, 3, bias=False), "to_v": nn.Linear(4, 3, bias=False)}).requires_grad_(False)


def read_by(network, states=STATES, off=None, s=10.0):
    return network(condition(states), torch.full((len(states),), s), off)[0].rewrite(states)


def test_only_firing_states_change_and_of_two_nouns_in_one_both_go(network):
    read = read_by(network)
    expected = STATES.clone()
    expected[0, 1] = torch.tensor([0.0, 0, 3, 4])
    expected[2, 0], expected[2, 1] = torch.tensor([0.0, 1, 1, 2]), torch.tensor([1.0, 1, 2, 1])
    assert torch.equal(read, expected)


def test_a_concept_that_is_off_stays_and_so_does_one_that_the_condition_does_not_name(network):
    off = torch.tensor([[True, False]]).expand(3, -1)
    assert torch.equal(read_by(network, off=off)[0], STATES[0])
    assert torch.equal(read_by(network, off=off)[2, 0], torch.tensor([2.0, 1, 1, 1]))
    own = network(condition(STATES[[1]]), torch.full((1,), 10.0))[0].rewrite
    assert torch.equal(own(STATES[[2]]), STATES[[2]])  # a connected conditioning that fires on nothing


@pytest.fixture
def in_pieces(network):
    """A network and a row of six states: a word of three, of which the second fires, one that fires alone, one that does not, padding."""
    network.rewriting.joins.copy_(torch.tensor([0.0, 0, 0, 1]))
    network.rewriting.joint.fill_(5.0)
    states = torch.zeros(1, 6, 4)
    states[0, :5] = torch.tensor([[0.0, 0, 1, 4], [2, 0, 3, 9], [0, 0, 2, 9], [0, 4, 1, 0], [0, 0, 3, 0]])
    return network, states


def test_a_words_other_pieces_are_read_as_the_one_that_fires(in_pieces):
    network, states = in_pieces
    read = read_by(network, states)
    assert read[0, 1].tolist() == [0, 0, 3, 10]
    assert torch.equal(read[0, 0], read[0, 1]) and torch.equal(read[0, 2], read[0, 1])
    assert not torch.equal(read[0, 3], states[0, 3]) and torch.equal(read[0, 4:], states[0, 4:])


def test_of_two_pieces_that_fire_each_has_its_own_and_the_rest_the_highest(in_pieces):
    network, states = in_pieces
    states[0, 2, :2] = torch.tensor([0.0, 7])
    read = read_by(network, states)
    assert read[0, 1].tolist() == [0, 0, 3, 10] and torch.equal(read[0, 0], read[0, 2]) and not torch.equal(read[0, 1], read[0, 2])


def test_the_pieces_of_a_concept_that_is_off_stay(in_pieces):
    network, states = in_pieces
    read = read_by(network, states, torch.tensor([[True, False]]))
    assert torch.equal(read[0, :3], states[0, :3]) and not torch.equal(read[0, 3], states[0, 3])


@pytest.mark.parametrize("s, share", [(0.0, 0.0), (5.0, 0.5), (10.0, 1.0)])
def test_it_is_as_strong_as_the_adapter(network, s, share):
    torch.testing.assert_close(read_by(network, s=s), STATES + share * (read_by(network) - STATES))
    late = scaled(network(condition(), torch.full((3,), 10.0)), torch.full((3,), share))[0].rewrite
    torch.testing.assert_close(late(STATES), STATES + share * (read_by(network) - STATES))


def test_a_map_keeps_what_it_was_not_fitted_to_change(network):
    network.rewriting.mean[0], network.rewriting.shift[0] = torch.tensor([2.0, 0, 1, 1]), torch.zeros(4)
    network.rewriting.down[0, :, 0], network.rewriting.up[0, 0] = torch.tensor([0.0, 0, 1, 0]), torch.tensor([-1.0, 0, 0, 0.5])
    read = read_by(network)[0, 1]
    torch.testing.assert_close(read, torch.tensor([2.0 - 2, 0, 3, 3 + 1]))


def test_no_state_is_moved_farther_than_so_many_times_its_length(network):
    network.rewriting.shift.fill_(1e3)
    network.rewriting.up.fill_(1e3), network.rewriting.down.fill_(-1e3)
    moved = (read_by(network) - STATES).norm(dim=2)
    assert moved.isfinite().all() and (moved <= FARTHEST * STATES.norm(dim=2) * 1.001).all() and moved.max() > STATES.norm(dim=2).max()


def by_hand(model, network, rows):
    """What a layer gives where the rows' states are replaced, and the adapter reads those."""
    factors = at_strength(network, condition().rows(rows), 1.0)
    read = STATES.clone()
    read[rows] = read_by(network)[rows]
    out = model["to_k"](read)
    for i, row in enumerate(rows):
        out[row] += read[row] @ factors[0].down[i].T @ factors[0].up[i].T
    return factors, out


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1, 2], [2]])
def test_layers_read_rewritten_states_and_the_adapter_adds_to_them(model, network, rows):
    factors, expected = by_hand(model, network, rows)
    before = model["to_k"](STATES)
    terms = [Term(torch.tensor(rows), LAYERS[:1], factors[:1])]
    for constant in (None, Constant(STATES, [0, 1, 2])):
        for _ in range(2):
            with torch.no_grad(), adapter(model, terms, 3, constant):
                got = model["to_k"](STATES)
            torch.testing.assert_close(got, expected)
            others = [row for row in range(3) if row not in rows]
            assert torch.equal(got[others], before[others])
    assert torch.equal(model["to_k"](STATES), before)


def test_two_erasers_on_a_row_add_up_and_one_that_begins_later_is_followed(model, network):
    other = some_network()
    other.rewriting.shift.copy_(torch.tensor([[-1.0, 0, 0, 0], [0, 0, 0, 0.5]]))
    one, two = (at_strength(n, condition(), 1.0) for n in (network, other))
    constant = Constant(STATES, [0, 1, 2])
    for share in (0.0, 0.5, 1.0):
        late = scaled(two, torch.full((3,), share))
        terms = [Term(torch.arange(3), LAYERS[:1], f[:1]) for f in (one, late)]
        read = STATES + (read_by(network) - STATES) + share * (read_by(other) - STATES)
        expected = model["to_k"](read) + sum(read @ f[0].down.transpose(1, 2) @ f[0].up.transpose(1, 2) for f in (one, late))
        with torch.no_grad(), adapter(model, terms, 3, constant):
            torch.testing.assert_close(model["to_k"](STATES), expected)


def test_rows_are_picked_together(network):
    factors = at_strength(network, condition(), 1.0)
    picked = rows_of(factors, torch.tensor([2, 0]))
    assert torch.equal(picked[0].rewrite(STATES[[2, 0]]), read_by(network)[[2, 0]]) and picked[1].rewrite is picked[0].rewrite
    assert torch.equal(factors[0].rows(slice(1)).rewrite(STATES[:1]), read_by(network)[:1])


def test_it_comes_back_from_its_file_as_version_6(network, tmp_path):
    path = tmp_path / "cat.safetensors"
    eraser = Eraser(network, "sd1", [Concept("cat", "forest"), Concept("dog", "moon")])
    assert eraser.describe()["format_version"] == 6
    save_eraser(eraser, path)
    back = load_eraser(path).network
    assert back.shape == SHAPE and torch.equal(read_by(back), read_by(network))
    without = dataclasses.replace(eraser, network=some_network(dataclasses.replace(SHAPE, rewrite=0)))
    assert without.describe()["format_version"] == 4 and "rewrite" not in without.describe()["shape"]
    assert without.network(condition(), torch.full((3,), 10.0))[0].rewrite is None


def test_on_another_device_it_is_made_once(network):
    rewrite = network(condition(), torch.full((3,), 10.0))[0].rewrite
    there = rewrite.to(torch.device("meta"))
    assert there is rewrite.to(torch.device("meta")) and there(STATES.to("meta")).shape == STATES.shape
    assert isinstance(there, Rewrite) and rewrite.to(torch.device("cpu")) is rewrite


def test_a_lora_of_one_prompt_has_none(network):
    (factors, *_), layer = at_strength(network, condition(STATES[:1]), 1.0), Layer("input_blocks.1.1.transformer_blocks.0.attn2.to_k", 4, 3)
    names = (f"lora_unet_{layer.name.replace('.', '_')}.{x}" for x in ("lora_down.weight", "lora_up.weight", "alpha"))
    assert set(as_lora({layer: factors}, "kohya")) == {*names}


def test_a_part_of_the_adapter_acts_on_rewritten_states_and_all_of_it_in_weights(network):
    whole = network(condition(), torch.full((3,), 10.0))
    used, alone = at_strength(network, condition(), 1.0), at_strength(network, condition(), 1.0, alone=True)
    for f, half, every in zip(whole, used, alone):
        assert torch.equal(half.up, BESIDE * f.up) and torch.equal(half.down, f.down) and half.rewrite is not None
        assert torch.equal(every.up, f.up) and every.rewrite is None
    torch.testing.assert_close(at_strength(network, condition(), 2.0)[0].up, 2 * used[0].up)
    plain = some_network(dataclasses.replace(SHAPE, rewrite=0))
    assert torch.equal(at_strength(plain, condition(), 1.0)[0].up, plain(condition(), torch.full((3,), 10.0))[0].up)
