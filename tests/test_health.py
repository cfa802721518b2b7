"""A training's health: networks in which each thing is wrong, provoked one at a time, and one in which nothing is."""

from types import SimpleNamespace

import pytest
import torch

from trainer.config import Config
from trainer.optimizer import new_optimizer, update
from trainer.run import health
from trainer.run.checkup import Checkup
from unhype.condition import read_condition
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

D, P, T = 12, 10, 6  # width of token states and of the pooled embedding, tokens
SHAPE = Shape((Layer("a", 8, 8), Layer("b", 6, 10)), 2, 10, 16, 2, P, D, 1)
CONFIG = Config(iterations=100, learning_rate=1e-3)


def conditions(seed: int, shift: float, count: int = 40):
    rng = torch.Generator().manual_seed(seed)
    return read_condition(torch.randn(count, T, D, generator=rng) + shift, torch.randn(count, P, generator=rng) + shift)


ERASED, KEPT = conditions(0, 1.0), conditions(1, -1.0)


@pytest.fixture
def network():
    """One whose adapters are long for erased prompts and short for kept ones, as a trained one's are."""
    torch.manual_seed(0)
    made = Hypernetwork(SHAPE)
    made.standardise.fit(ERASED)
    optimizer, s = torch.optim.Adam(made.parameters(), 0.01), torch.full((40,), 10.0)
    for _ in range(150):
        optimizer.zero_grad()
        long, short = made.squared_change(ERASED, s), made.squared_change(KEPT, s)
        ((long.add(1e-9).sqrt() - 8).square().mean() + short.mean()).backward()
        optimizer.step()
    return made


def look(network, optimizer=None, gradients=(1.0,), learning_rate=CONFIG.learning_rate) -> dict[str, health.Finding]:
    return {f.about: f for f in health.look(network, optimizer or stepped(network), learning_rate, ERASED, KEPT, list(gradients))}


def stepped(network, factor: float = 1.0):
    """An optimizer after a step of the network's, which is then put back."""
    before = {k: v.clone() for k, v in network.state_dict().items()}
    optimizer = new_optimizer(network, CONFIG)
    optimizer.zero_grad()
    (factor * network.squared_change(ERASED, torch.full((40,), 10.0)).mean()).backward()
    update(optimizer, CONFIG, 50)
    network.load_state_dict(before)
    return optimizer


def ill(found) -> set[str]:
    return {about for about, finding in found.items() if finding.ill}


def test_nothing_is_wrong_with_a_network_that_is_trained(network):
    found = look(network)
    assert not ill(found) and {"learning", "adapters", "prompts", "kept"} == found.keys()
    assert "are 8" in found["adapters"].says or "are 7.9" in found["adapters"].says


def test_nothing_is_wrong_with_a_network_that_has_not_begun():
    torch.manual_seed(1)
    fresh = Hypernetwork(SHAPE)
    assert not ill(look(fresh, new_optimizer(fresh, CONFIG), gradients=()))


def test_the_size_of_a_step_is_that_of_the_step(network):
    optimizer = stepped(network)
    said = health.step_size(optimizer, optimizer.param_groups[0]["lr"])
    trained = [p for group in optimizer.param_groups for p in group["params"] if p in optimizer.state]
    before = torch.cat([p.detach().flatten() for p in trained])
    update(new_optimizer(network, CONFIG), CONFIG, 50)  # the same step, whose gradients are still there
    moved = torch.cat([p.detach().flatten() for p in trained]) - before
    assert said == pytest.approx((moved.norm() / before.norm()).item(), rel=1e-3)


def test_a_gradient_of_zero_is_dead(network):
    found = look(network, gradients=[0.0] * 10)
    assert ill(found) == {"learning"} and "gradient is zero" in found["learning"].says
    assert not ill(look(network, gradients=[0.0, 0.0, 1e-9]))


@pytest.mark.parametrize("rate, dead", [(1e-12, True), (1e-3, False)])
def test_steps_below_the_weights_precision_are_dead(network, rate, dead):
    assert ill(look(network, learning_rate=rate)) == ({"learning"} if dead else set())


@pytest.mark.parametrize("factor, words", [(1000.0, "explode"), (1e-6, "nothing is changed"), (float("nan"), "explode")])
def test_adapters_that_explode_or_vanish(network, factor, words):
    with torch.no_grad():
        for head in network.heads:
            head.weight.mul_(factor)
    found = look(network, stepped(Hypernetwork(SHAPE)))
    assert "adapters" in ill(found) and words in found["adapters"].says


def test_a_prompt_that_is_not_read(network):
    with torch.no_grad():
        network.trunk[0].weight.zero_()
        network.trunk[0].bias.fill_(1.0)
        network.concept.zero_()
        for head in network.heads:
            head.weight.mul_(20)
    found = look(network)
    assert "prompts" in ill(found) and "0.0% of their length: the prompt is ignored" in found["prompts"].says
    assert "kept" in ill(found)  # whose adapter is the same as well


def test_a_leak_onto_kept_prompts(network):
    optimizer, s = torch.optim.Adam(network.parameters(), 0.01), torch.full((40,), 10.0)
    for _ in range(100):
        optimizer.zero_grad()
        (network.squared_change(KEPT, s).add(1e-9).sqrt() - 8).square().mean().backward()
        optimizer.step()
    found = look(network)
    assert "kept" in ill(found) and "Raise retain_weight" in found["kept"].says and "prompts" not in ill(found)


@pytest.mark.parametrize("low, high, bad", [(9.0, 2.0, False), (2.0, 2.5, True)])
def test_a_switch_by_its_margin(low, high, bad):
    found = health.switch("cat", {"lowest_target": low, "highest_safe": high})
    assert found.ill == bad and ("overlap by 0.5" if bad else "score 7.0 above") in found.says


@pytest.mark.parametrize("count, bad", [(0, False), (1, False), (2, True)])
def test_steps_that_were_left_out(count, bad):
    assert health.left_out(count, 150).ill == bad


def test_what_is_wrong_is_warned_of_once_and_shown_each_time(network):
    said, concept = [], SimpleNamespace(name="cat", calibration={"lowest_target": 0.0, "highest_safe": 1.0})
    checkup = Checkup(stepped(network), CONFIG, (ERASED, KEPT), [concept], SimpleNamespace(left_out=0, steps=9), said.append)
    for _ in range(2):
        checkup.passed({"gradient": 0.0})
        found = checkup.look(network)
        assert {f.about for f in found if f.ill} == {"learning", "switch"}
    (line,) = said  # of the switch doubts.py has warned
    assert line.startswith("warning: the gradient is zero")
