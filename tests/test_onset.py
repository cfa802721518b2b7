"""A strength below 1 as a late start: when it begins, and how much of a sampler's step it acts on."""

import pytest
import torch

from unhype.hypernetwork import Factors
from unhype.onset import STRENGTHS, USUAL, acting, even, level, onset, scaled

SCHEDULE = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])


def test_strengths_begin_between_never_and_at_once_at_the_files_own_levels():
    levels = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8)
    assert onset(0.0, levels) == 0 and onset(1.0, levels) == 1 and onset(1.5, levels) == 1
    for strength, own in zip(STRENGTHS, levels):
        assert onset(strength, levels) == pytest.approx(own)
    assert onset(0.75, levels) == pytest.approx(0.55) and onset(0.05, levels) == pytest.approx(0.05)
    assert onset(0.95, levels) == pytest.approx(0.9)


def test_a_file_without_levels_takes_the_usual_ones_which_rise():
    assert onset(0.3) == pytest.approx(USUAL[2])
    every = [onset(i / 100) for i in range(101)]
    assert all(a < b for a, b in zip(every, every[1:]))


def test_noise_levels_of_both_kinds_of_model():
    sigma = torch.tensor([0.0, 1.0, 3.0])
    assert level(sigma, False).tolist() == [0.0, 0.5, 0.75]
    assert torch.equal(level(sigma / 3, True), sigma / 3)


@pytest.mark.parametrize("begin, shares", [(0.0, [0, 0, 0, 0]), (0.5, [0, 0, 1, 1]), (0.65, [0, 0.5, 1, 1]), (1.0, [1, 1, 1, 1])])
def test_of_the_step_in_which_it_begins_it_acts_on_its_part(begin, shares):
    got = acting(SCHEDULE[:-1], SCHEDULE, begin, True)
    torch.testing.assert_close(got, torch.tensor(shares, dtype=torch.float32))


def test_a_sigma_that_is_rounded_or_between_two_of_the_schedule_has_a_step_too():
    got = acting(torch.tensor([0.80001, 0.6]), SCHEDULE, 0.55, True)
    torch.testing.assert_close(got, torch.tensor([1 / 6, 0.5]), atol=1e-3, rtol=0)


def test_without_a_schedule_it_is_all_or_nothing():
    assert acting(SCHEDULE, None, 0.5, True).tolist() == [0, 0, 1, 1, 1]


def test_each_row_acts_by_its_own_share():
    factors = [Factors(torch.ones(2, 3, 4), torch.ones(2, 5, 3))]
    (got,) = scaled(factors, torch.tensor([0.0, 0.5]))
    assert torch.equal(got.down, factors[0].down) and got.up[0].eq(0).all() and got.up[1].eq(0.5).all()


def test_even_levels_are_where_the_change_is_the_strength():
    levels = [i / 20 for i in range(1, 20)]
    found = even(levels, [x**2 for x in levels])
    torch.testing.assert_close(torch.tensor(found), torch.tensor(STRENGTHS) ** 0.5, atol=0.01, rtol=0)
    # A change that falls back, or is more than at a strength of 1.
    found = even([0.2, 0.4, 0.6], [0.5, 0.3, 1.2])
    assert found == tuple(sorted(found)) and found[4] == pytest.approx(0.2) and found[-1] < 0.6
