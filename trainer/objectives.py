"""The losses, as free functions: task, removal and retention (arXiv 2602.03410), and the two objectives made of them."""

import torch

from unhype.hypernetwork import Factors


def guided_target(eps_mapping, eps_target, guidance):
    """What the adapted model is asked to predict for a target prompt (ESD, UnGuide, UnHype).

    eps* = eps(z_t, t, c_m) - gamma * (eps(z_t, t, c) - eps(z_t, t, c_m))
    """
    return eps_mapping - guidance * (eps_target - eps_mapping)


def task_loss(predicted, eps_target, eps_star, strength, scale):
    """How much of the wanted change is missing: 1 before training, 0 when done.

        L_task = E [ || eps_{theta_s}(z_t, t, c) - (eps + (s / S) (eps* - eps)) ||^2 / scale(t) ]

    At s = S the paper's task loss. Below it the target lies that far on the way, so that s / S is a strength.
    Args:
        predicted, eps_target, eps_star: (N, C, H, W); eps_target the frozen model's own prediction.
        strength: s / S, (N,).
        scale: (N,) mean of || eps* - eps ||^2 at the row's noise level, so that every level counts alike.
    """
    aim = eps_target + strength.view(-1, 1, 1, 1) * (eps_star - eps_target)
    return ((predicted - aim).square().mean((1, 2, 3)) / scale).mean()


def squared_distance(a: list[Factors], b: list[Factors]):
    """|| theta_a - theta_b ||^2 per row, over all layers: (N,)."""
    return sum((x - y).square().sum((1, 2)) for f, g in zip(a, b) for x, y in zip(f[:2], g[:2]))


def retention_loss(network, condition, s, off=None):
    """The adapter of retain prompts stays the zero adapter, and so does that of prompts whose concepts are `off`.

    L_retain = E || H(c_retain, s) - H(c_retain, 0) ||^2
    """
    return network.squared_change(condition, s, off).mean()


def removal_loss(before: list[Factors], after: list[Factors], gradient: list[Factors], eta: float):
    """The hypernetwork's step along s is one step of gradient descent on the task (Hypernet Fields).

        L_remove = || (H(c, s+1) - H(c, s)) + eta * g ||^2 / || eta * g ||^2,   g = grad_{theta_s} L_task

    Divided by the step's own length: with the paper's plain square, steps of 1e-4 give losses of 1e-8 that
    shrinking the adapter to nothing satisfies best. eta is the length of the step relative to that of the down
    projections.
    """
    norm = sum(g.square().sum((1, 2)) for f in gradient for g in f[:2]).sqrt().clamp_min(1e-12)
    length = eta * sum(f.down.square().sum((1, 2)) for f in before).sqrt().detach()
    step = [Factors(*(-(length / norm)[:, None, None] * g for g in f[:2])) for f in gradient]
    moved = [Factors(a.down - b.down, a.up - b.up) for a, b in zip(after, before)]
    return (squared_distance(moved, step) / length.square()).mean()


def direct(network, batch, predict, total_steps: int, eta: float):
    """Back-propagate L_task through theta = H(c, s) into the hypernetwork: amortised fine-tuning.

    Args:
        batch: samples.Batch. predict: callable(factors) -> noise prediction (N, C, H, W) with that adapter.
    Returns:
        the loss, and L_task as a number.
    """
    loss = task_loss(predict(network(batch.condition, batch.s, batch.off)), batch.eps, batch.eps_star, batch.s / total_steps, batch.scale)
    return loss, loss.item()


def trajectory(network, batch, predict, total_steps: int, eta: float):
    """The paper's: match H(c, s+1) - H(c, s) to a simulated step of gradient descent at theta_s.

    The task is judged at its end, s = S, whatever s the adapter is at. Arguments and result as `direct`.
    """
    before, task, gradient = simulated_step(network, batch, predict, total_steps)
    after = network(batch.condition, batch.s.clamp(max=total_steps - 1) + 1, batch.off)
    return removal_loss(before, after, gradient, eta), task.item()


def authors(network, batch, predict, total_steps: int, eta: float):
    """As the authors' released code: the task's gradient reaches the hypernetwork too, beside the trajectory's.

    L = L_task(H(c, s)) + L_remove
    """
    before, task, gradient = simulated_step(network, batch, predict, total_steps)
    after = network(batch.condition, batch.s.clamp(max=total_steps - 1) + 1, batch.off)
    return task + removal_loss(before, after, [Factors(f.down.detach(), f.up.detach()) for f in gradient], eta), task.item()


def simulated_step(network, batch, predict, total_steps: int):
    """H(c, s), L_task there, judged at its end s = S, and its gradient with respect to the factors."""
    s = batch.s.clamp(max=total_steps - 1)
    before = network(batch.condition, s, batch.off)
    task = task_loss(predict(before), batch.eps, batch.eps_star, torch.ones_like(s), batch.scale)
    gradients = iter(torch.autograd.grad(task, [t for f in before for t in f[:2]], retain_graph=True))
    return before, task, [Factors(next(gradients), next(gradients)) for _ in before]


OBJECTIVES = {"direct": direct, "trajectory": trajectory, "authors": authors}
