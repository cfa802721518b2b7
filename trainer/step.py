"""One step of a training: the objective on a batch, and that what is safe stays as it is."""

from contextlib import ExitStack
from functools import partial

import torch

from unhype.adapter import Term, adapter

from .config import Config
from .data import Data, steps
from .objectives import OBJECTIVES, retention_loss
from .optimizer import update
from .rewriting import on_some
from .run import processes
from .run.divergence import ADVICE, Diverged, diverged
from .samples import Batch
from .text_task import LAYERS, ROWS, WEIGHT, TextTask

DIVERGED = 1e3  # a loss beyond that is one of a training that has diverged; before training the task is 1, what is read some times that


def training_step(network, backbone, config: Config, data: Data, optimizer, rng, iteration: int) -> dict:
    """One step of the objective, a part of the batch after the other, and of the retention loss; returns losses and gradient norm."""
    name, batch = data.turn(iteration, config.batch, config.steps, rng)
    losses, failed = {"loss": 0.0, name: 0.0}, None
    optimizer.zero_grad(set_to_none=True)
    kept = None
    if config.retain_weight:
        condition, off = data.retained(iteration, config.retain_batch, rng)
        kept, losses["retain"] = (condition, torch.rand(len(off), generator=rng) * config.steps, off), 0.0
    read = None
    if data.text_task:
        read, losses["text"] = read_this_time(network, config, data, rng), 0.0
    try:
        gradients(network, backbone, config, iteration, name, batch, kept, losses)
        if read:
            losses["text"] = text_gradients(network, backbone, config, data.text_task, *read)
    except Diverged as error:
        failed = error
    losses = processes.added_up([p for group in optimizer.param_groups for p in group["params"]], losses, failed)
    return losses | {"gradient": update(optimizer, config, iteration)}


def gradients(network, backbone, config: Config, iteration: int, name: str, batch: Batch, kept: tuple | None, losses: dict) -> None:
    """Of this process's share of a batch, a part after the other, and of what is `kept`: condition, s, and concepts that are off.

    Adds to the `losses` by name. Raises Diverged where one is no number.
    """
    device, size = backbone.device, len(batch.x)
    mine = processes.mine(size)
    parts = mine.split(backbone.rows or size)
    for part in parts:
        with ExitStack() as adapted:  # until after the backward pass, in which blocks may be computed again
            rows = batch.rows(part).to(device)
            read = ((part + iteration // 2) % 2 == 0).to(device)
            predict = partial(adapted_prediction, adapted, network.shape.layers, backbone, config, rows, read)
            loss, task = OBJECTIVES[config.objective](network, rows, predict, config.steps, config.eta)
            share = len(part) / size
            losses["loss"] += share * loss.item()
            losses[name] += share * task
            loss = share * loss
            if kept and part is parts[-1]:
                condition, s, off = kept
                own = processes.mine(len(off))
                retain = retention_loss(network, condition.rows(own).to(device), s[own].to(device), off[own].to(device))
                retain = len(own) / len(off) * retain
                loss = loss + config.retain_weight * retain
                losses["retain"] = retain.item()
            if not loss.isfinite() or losses[name] > DIVERGED:
                adapted.close()
                diverged(backbone, config, rows, f"at iteration {iteration} ({name} loss {losses[name]:.3g})")
            loss.backward()


def read_this_time(network, config: Config, data: Data, rng) -> tuple[torch.Tensor, ...]:
    """Of what is read without the denoiser: rows, s, concepts that are off, and the layers that are looked at."""
    rows, layers = data.text_task.drawn(ROWS * config.batch, rng), len(network.shape.layers)
    looked_at = torch.randperm(layers, generator=rng)[:LAYERS] if layers > LAYERS else torch.arange(layers)
    return rows, steps(len(rows), config.steps, rng), data.text_task.labels.rows(rows).some_off(rng), looked_at


def text_gradients(network, backbone, config: Config, task: TextTask, rows, s, off, layers) -> float:
    """Add those of this process's share of a batch that is read; returns its share of the loss.

    Raises Diverged where that is no number.
    """
    own = processes.mine(len(rows))
    loss = len(own) / len(rows) * task.loss(network, backbone, rows[own], s[own], off[own], layers)
    if not loss.isfinite() or loss > DIVERGED:
        raise Diverged(f"the training diverged in what the layers read: {ADVICE}")
    (WEIGHT * loss).backward()
    return loss.item()


def adapted_prediction(adapted: ExitStack, layers, backbone, config: Config, batch: Batch, rewritten: torch.Tensor, factors):
    """The denoiser's prediction for a batch with an adapter per row, which stays on until `adapted` is closed.

    rewritten: (N,) bool, rows whose token states are rewritten too, where the network does that.
    """
    factors = on_some(factors, rewritten)
    adapted.enter_context(adapter(backbone.diffusion_model, [Term(torch.arange(len(batch.x)), layers, factors)], len(batch.x)))
    with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
        return backbone.predict(batch.x, batch.sigma, batch.context, batch.pooled, batch.mask).float()
