"""The losses against their equations, and the objectives' gradients through a small linear denoiser."""

from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn

from trainer.objectives import OBJECTIVES, authors, direct, guided_target, removal_loss, retention_loss, task_loss, trajectory
from unhype.adapter import Term, adapter
from unhype.condition import Condition
from unhype.hypernetwork import Factors, Hypernetwork, Shape
from unhype.layers import Layer

S, ETA, N = 10, 0.05, 3
LAYERS = (Layer("0", 4, 5), Layer("2", 5, 4))


@pytest.fixture
def setup():
    """A hypernetwork in float64, a two-layer denoiser of 1 x 2 x 2 latents, a batch, and predict(factors)."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    try:
        network = Hypernetwork(Shape(LAYERS, rank=2, steps=S, hidden=6, queries=2, pooled_dim=3, token_dim=4, concepts=2)).double()
        torch.nn.init.normal_(network.switch.weight)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 4)).requires_grad_(False)
        x = torch.randn(N, 1, 2, 2)
        batch = SimpleNamespace(
            x=x,
            sigma=torch.ones(N),
            context=None,
            s=torch.tensor([2.0, 7.5, 10.0]),
            off=torch.tensor([[False, False], [True, False], [True, True]]),
            scale=torch.tensor([0.5, 1.0, 3.0]),
            condition=Condition(torch.randn(N, 3), torch.randn(N, 5, 4), torch.ones(N, 5, dtype=torch.bool)),
            eps=model(x.flatten(1)).view(x.shape),
            eps_star=torch.randn(N, 1, 2, 2),
        )
    finally:
        torch.set_default_dtype(torch.float32)

    def predict(factors):
        with adapter(model, [Term(torch.arange(N), LAYERS, factors)], N):
            return model(x.flatten(1)).view(x.shape)

    return network, model, batch, predict


def task_by_hand(predicted, batch, strengths):
    total = 0
    for n, strength in enumerate(strengths):
        aim = batch.eps[n] + strength * (batch.eps_star[n] - batch.eps[n])
        total += ((predicted[n] - aim) ** 2).sum() / aim.numel() / batch.scale[n]
    return total / len(strengths)


def test_guided_target_goes_beyond_the_mapping_concept():
    mapping, target = torch.tensor([1.0, -2.0]), torch.tensor([3.0, 5.0])
    assert guided_target(mapping, target, 0.0).tolist() == [1.0, -2.0]
    assert guided_target(mapping, target, 0.5).tolist() == [1 - 0.5 * 2, -2 - 0.5 * 7]


def test_task_loss(setup):
    _, _, batch, _ = setup
    predicted, strength = torch.randn_like(batch.eps), torch.tensor([0.2, 0.75, 1.0], dtype=torch.float64)
    got = task_loss(predicted, batch.eps, batch.eps_star, strength, batch.scale)
    torch.testing.assert_close(got, task_by_hand(predicted, batch, strength))


def test_task_loss_is_one_before_and_zero_after(setup):
    _, _, batch, _ = setup
    scale = torch.stack([(batch.eps_star[n] - batch.eps[n]).square().mean() for n in range(N)])
    for predicted, expected in ((batch.eps, 1.0), (batch.eps_star, 0.0)):
        torch.testing.assert_close(task_loss(predicted, batch.eps, batch.eps_star, torch.ones(N), scale).item(), expected)


@pytest.mark.parametrize("switched", [False, True])
def test_retention_loss(setup, switched):
    network, _, batch, _ = setup
    off = batch.off if switched else None
    factors = network(batch.condition, batch.s, off)
    rows = [
        sum(
            ((numpy.array(f.down[n].tolist()) - numpy.array(base.tolist())) ** 2).sum() + (numpy.array(f.up[n].tolist()) ** 2).sum()
            for f, base in zip(factors, network.base_down)
        )
        for n in range(N)
    ]
    torch.testing.assert_close(retention_loss(network, batch.condition, batch.s, off).item(), sum(rows) / N)
    assert retention_loss(network, batch.condition, torch.zeros(N, dtype=torch.float64), off).item() == 0


def test_removal_loss(setup):
    network, _, batch, _ = setup
    before, after = network(batch.condition, batch.s - 2), network(batch.condition, batch.s - 1)
    gradient = [Factors(torch.randn_like(f.down), torch.randn_like(f.up)) for f in before]
    rows = []
    for n in range(N):
        flat = lambda factors: numpy.concatenate([numpy.array(t[n].tolist()).ravel() for f in factors for t in f[:2]])
        length = ETA * numpy.sqrt(sum((numpy.array(f.down[n].tolist()) ** 2).sum() for f in before))
        g = flat(gradient)
        rows.append((((flat(after) - flat(before)) + length * g / numpy.linalg.norm(g)) ** 2).sum() / length**2)
    torch.testing.assert_close(removal_loss(before, after, gradient, ETA).item(), sum(rows) / N)


@pytest.mark.parametrize("layer", [0, 1])
def test_direct_agrees_with_finite_differences(setup, layer):
    network, _, batch, predict = setup
    loss, task = direct(network, batch, predict, S, ETA)
    predicted = predict(network(batch.condition, batch.s, batch.off))
    torch.testing.assert_close(loss.item(), task_by_hand(predicted, batch, [0.2, 0.75, 1.0]).item())
    assert task == loss.item()
    weight, h = network.heads[layer].weight, 1e-5
    loss.backward()
    for flat in weight.grad.abs().flatten().topk(9).indices[::4].tolist():  # where the gradient is no rounding error
        place = divmod(flat, weight.shape[1])
        kept, losses = weight[place].item(), []
        for value in (kept + h, kept - h):
            weight.data[place] = value
            losses.append(direct(network, batch, predict, S, ETA)[1])
        weight.data[place] = kept
        difference = (losses[0] - losses[1]) / (2 * h)
        assert abs(difference) > 1e-6
        assert weight.grad[place].item() == pytest.approx(difference, rel=1e-5)


def merged_step(model, batch, factors):
    """-g, the way of steepest descent of the task at s = S, by autograd through W + up @ down."""
    leaves = [t.detach().requires_grad_() for f in factors for t in f[:2]]
    predicted = []
    for n in range(N):
        first, second = (m.weight + leaves[2 * i + 1][n] @ leaves[2 * i][n] for i, m in enumerate((model[0], model[2])))
        predicted.append(((batch.x[n].flatten() @ first.T + model[0].bias).tanh() @ second.T + model[2].bias).view(1, 2, 2))
    loss = task_by_hand(predicted, batch, [1.0] * N)
    return [-g for g in torch.autograd.grad(loss, leaves)], loss.item()


@pytest.mark.parametrize("way, expected", [(1.0, 0.0), (0.0, 1.0), (-1.0, 4.0)])
def test_trajectory_steps_down_the_task(setup, way, expected):
    """A network that moves by the independent step exactly has no loss, one that stands 1, one that goes back 4."""
    network, model, batch, predict = setup
    s = batch.s.clamp(max=S - 1)
    before = network(batch.condition, s, batch.off)
    step, task = merged_step(model, batch, before)
    flat = iter(step)
    length = ETA * sum(f.down.square().sum((1, 2)) for f in before).sqrt()
    norm = sum(t.square().sum((1, 2)) for t in step).sqrt()
    after = [Factors(*(t + way * (length / norm)[:, None, None] * next(flat) for t in f[:2])) for f in before]
    asked = []

    def walks(condition, at, off):
        asked.append(at)
        assert off is batch.off
        return before if torch.equal(at, s) else after

    loss, measured = trajectory(walks, batch, predict, S, ETA)
    assert [a.tolist() for a in asked] == [[2, 7.5, 9], [3, 8.5, 10]]
    assert loss.item() == pytest.approx(expected, abs=1e-9) and measured == pytest.approx(task)


def test_trajectory_trains_only_the_hypernetwork(setup):
    network, model, batch, predict = setup
    trajectory(network, batch, predict, S, ETA)[0].backward()
    assert all(head.weight.grad.abs().max() > 0 for head in network.heads)
    assert all(p.grad is None for p in model.parameters())


def gradient(network, loss) -> dict:
    network.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_authors_is_the_task_at_its_end_and_the_trajectory_in_one(setup):
    network, _, batch, predict = setup
    s = batch.s.clamp(max=S - 1)
    by_hand = task_by_hand(predict(network(batch.condition, s, batch.off)), batch, [1.0] * N)
    expected = gradient(network, by_hand)
    # The simulated step is not differentiated through: with it as constants, the trajectory's own share.
    before, after = network(batch.condition, s, batch.off), network(batch.condition, s + 1, batch.off)
    step = iter(merged_step(setup[1], batch, before)[0])
    removal = removal_loss(before, after, [Factors(-next(step), -next(step)) for _ in before], ETA)
    assert trajectory(network, batch, predict, S, ETA)[0].item() == pytest.approx(removal.item())
    for name, share in gradient(network, removal).items():
        expected[name] = expected.get(name, 0) + share
    loss, measured = authors(network, batch, predict, S, ETA)
    assert loss.item() == pytest.approx(by_hand.item() + removal.item()) and measured == pytest.approx(by_hand.item())
    found = gradient(network, loss)
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], msg=name)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_concepts_that_are_off_change_every_objective(setup, name):
    network, _, batch, predict = setup
    losses = []
    for off in (batch.off, torch.zeros_like(batch.off)):
        batch.off = off
        losses.append(OBJECTIVES[name](network, batch, predict, S, ETA)[0])
    assert losses[0].item() != losses[1].item()
    assert gradient(network, losses[0])["concept"].abs().amin() > 0


def test_every_objective_learns(setup):
    network, _, batch, predict = setup
    for objective in OBJECTIVES.values():
        trained = Hypernetwork(network.shape).double()
        trained.load_state_dict(network.state_dict())
        optimizer = torch.optim.Adam(trained.parameters(), lr=0.01)
        losses = []
        for _ in range(40):
            loss, _ = objective(trained, batch, predict, S, ETA)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.7 * losses[0], objective.__name__
