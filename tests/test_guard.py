"""Steps that give no numbers: left out, gone back from with smaller steps, and at last the end, each with its reason."""

import pytest
import torch
from torch import nn

from trainer.config import Config
from trainer.optimizer import SMALLER, new_optimizer, update
from trainer.run.divergence import Diverged
from trainer.run.guard import EVERY, IN_A_ROW, MOST, Guard

CONFIG = Config(iterations=1000, learning_rate=0.1)


class Small(nn.Module):
    """One weight of the heads and one of what reads the prompt."""

    def __init__(self):
        super().__init__()
        self.heads, self.trunk = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)

    def values(self) -> list[torch.Tensor]:
        return [p.detach().clone() for p in self.parameters()]


@pytest.fixture
def run():
    network, said = Small(), []
    optimizer = new_optimizer(network, CONFIG)
    return network, optimizer, Guard(optimizer, said.append), said


def step(network, optimizer, factor: float = 1.0, iteration: int = 500) -> float:
    optimizer.zero_grad()
    (factor * sum(p.square().sum() for p in network.parameters())).backward()
    return update(optimizer, CONFIG, iteration)


def same(network, values) -> bool:
    return all(torch.equal(p, v) for p, v in zip(network.parameters(), values))


@pytest.mark.parametrize("factor", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_moves_no_weight(run, factor):
    network, optimizer, *_ = run
    step(network, optimizer)
    before = network.values()
    moments = {p: {k: v.clone() for k, v in s.items()} for p, s in optimizer.state.items()}
    with pytest.raises(Diverged, match="at iteration 500 .* lower learning_rate"):
        step(network, optimizer, factor)
    assert same(network, before)
    assert all(torch.equal(v, optimizer.state[p][k]) for p, s in moments.items() for k, v in s.items())


def test_the_gradients_norm_is_returned_as_it_was_before_it_was_clipped(run):
    network, optimizer, *_ = run
    expected = 200 * torch.cat([v.flatten() for v in network.values()]).norm().item()
    assert step(network, optimizer, 100.0) == pytest.approx(expected)


def test_a_step_alone_is_left_out_and_several_in_a_row_go_back_with_smaller_steps(run):
    network, optimizer, guard, said = run
    start = network.values()
    step(network, optimizer)
    moved = network.values()
    guard.passed({"task": 1.0})
    for _ in range(IN_A_ROW - 1):
        guard.failed(Diverged("the training diverged at iteration 7: lower it"))
    assert same(network, moved) and said == ["warning: the training diverged at iteration 7: the step is left out"]
    guard.passed({"task": 1.0})
    for _ in range(IN_A_ROW):
        guard.failed(Diverged("the training diverged at iteration 9: lower it"))
    assert same(network, start) and guard.left_out == 2 * IN_A_ROW - 1 and not optimizer.state
    assert "back to the last good weights" in said[-1]
    step(network, optimizer)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(SMALLER * CONFIG.learning_rate)


def test_it_goes_back_to_weights_whose_losses_were_good(run):
    network, optimizer, guard, _ = run
    kept = None
    for task in [*[1.0] * EVERY, *[5.0] * EVERY]:  # the second half is worse than no adapter
        step(network, optimizer)
        guard.passed({"task": task, "retain": 9.0})
        kept = kept or (network.values() if guard.steps == EVERY else None)
    for _ in range(IN_A_ROW):
        guard.failed(Diverged("x: y"))
    assert same(network, kept)


def test_where_going_back_does_not_help_it_ends_with_the_reason(run):
    *_, guard, said = run
    with pytest.raises(Diverged, match="iteration 7, and did so 4 times, at last with steps of 1.6% of the size: lower learning_rate"):
        for _ in range(IN_A_ROW * (MOST + 1)):
            guard.failed(Diverged("the training diverged at iteration 7: lower it"))
    assert len([line for line in said if "back to" in line]) == MOST


def test_what_a_failing_step_left_is_not_saved(run):
    network, optimizer, guard, _ = run
    start = network.values()
    guard.settle()
    step(network, optimizer)
    moved = network.values()
    guard.settle()
    assert same(network, moved)  # nothing failed
    guard.failed(Diverged("x: y"))
    guard.settle()
    assert same(network, start) and optimizer.param_groups[0]["returns"] == 0
