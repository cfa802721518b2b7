"""Steps that give no numbers: left out, gone back from with smaller steps, and at last the end, each with its reason."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from trainer import train as training
from trainer.config import Config, from_mapping
from trainer.objectives import OBJECTIVES
from trainer.optimizer import SMALLER, new_optimizer, update
from trainer.run.beside import log_path, page_path, state_path
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


def test_weights_that_a_step_spoiled_are_put_back(run):
    network, optimizer, guard, _ = run
    before = network.values()
    step(network, optimizer)
    guard.passed({"task": 1.0})
    network.trunk.weight.data.fill_(torch.nan)
    guard.ended()
    assert same(network, before)


def test_a_training_most_of_whose_steps_failed_is_none(run):
    *_, guard, _ = run
    guard.passed({"task": 1.0})
    for _ in range(2):
        guard.failed(Diverged("the training diverged at iteration 7: lower it"))
    with pytest.raises(Diverged, match="the training diverged: 2 of 3 steps gave no numbers: lower learning_rate"):
        guard.ended()


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


# A whole training


OWN = {
    "iterations": 9,
    "learning_rate": 5e-4,
    "save_every": 4,
}


@pytest.fixture(scope="module")
def trained(comfy, tiny, tmp_path_factory):
    """A function: train in one folder, with losses that are no numbers at these calls; what was said."""
    from host.load import load_backbone

    backbone, folder = load_backbone("demo"), tmp_path_factory.mktemp("guard")
    direct = OBJECTIVES["direct"]

    def run(failing, resume: bool = False, **changes) -> tuple[Path, list[str]]:
        config, said, calls = from_mapping({**tiny, **OWN, "out": str(folder / "cat.safetensors"), **changes}, "here"), [], []

        def objective(*arguments):
            calls.append(len(calls))
            loss, task = direct(*arguments)
            return (loss * float("nan"), float("nan")) if calls[-1] in failing else (loss, task)

        with pytest.MonkeyPatch.context() as patched:
            patched.setitem(OBJECTIVES, "direct", objective)
            try:
                training.train(config, backbone, resume, progress=said.append, judged=False)
            except Diverged as error:
                said.append(str(error))
        return folder / "cat.safetensors", said

    return run


def test_a_training_goes_back_and_on_and_a_resumed_one_keeps_the_smaller_steps(trained):
    out, said = trained({1, 3, 4, 5})
    lines = [json.loads(line) for line in log_path(out).read_text().splitlines()]
    assert [line["iteration"] for line in lines if line.get("left_out")] == [2, 4, 5, 6] and len(lines) == OWN["iterations"]
    assert len([line for line in said if "the step is left out" in line]) == 2 and out.exists()
    assert [line for line in said if "steps gave no numbers and" in line] == [
        "warning: 2 of 4 steps gave no numbers and were left out: lower learning_rate"  # at the first look, and not again
    ]
    assert "4 of 9 steps gave no numbers and were left out" in page_path(out).read_text(encoding="utf-8")
    with safe_open(state_path(out), framework="pt") as file:
        assert file.metadata()["returns"] == "1"
    _, said = trained(range(1000), True, iterations=30)
    assert len([line for line in said if "back to the last good weights" in line]) == MOST - 1  # it had gone back once before


def test_a_training_that_never_gives_numbers_ends_with_the_reason(trained):
    out, said = trained(range(1, 1000), iterations=30)
    assert "and did so 4 times" in said[-1] and "lower learning_rate" in said[-1]
    assert "Ended with an error after step 1" in page_path(out).read_text(encoding="utf-8")
    with safe_open(state_path(out), framework="pt") as file:
        assert all(file.get_tensor(name).isfinite().all() for name in file.keys())
