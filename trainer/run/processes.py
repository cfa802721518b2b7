"""A training in several processes, started by torchrun: what each works on, and how it becomes one result.

Every process draws the same batch, works on its share of the rows and adds its gradient to the others', so that the training
is that of one process, whatever their number. The first one alone writes files and speaks.
"""

import os
from contextlib import contextmanager

import torch
from torch import distributed

from ..settings.fields import Config, ConfigError
from .divergence import Diverged


def count() -> int:
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    return distributed.get_rank() if count() > 1 else 0


def first() -> bool:
    return rank() == 0


@contextmanager
def joined():
    """Inside, those that torchrun has started are together, each on a graphics card of its own where there are some."""
    if int(os.environ.get("WORLD_SIZE", 1)) < 2:
        yield
        return
    on_cards = torch.cuda.is_available()
    if on_cards:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if on_cards else "gloo")
    try:
        yield
        wait()
    finally:
        distributed.destroy_process_group()


def wait() -> None:
    """Until all are here: torchrun ends the others where one has ended."""
    any_of(False)


def check(config: Config) -> None:
    """Raise ConfigError where a batch is too small to be shared."""
    if count() == 1:
        return
    for name, least in (("batch", 2 * count()), ("retain_batch", count())):
        if (found := getattr(config, name)) < least:
            raise ConfigError(f"{name} is {found}, too few for {count()} processes to share: make it {least} or more")


def mine(rows: int) -> torch.Tensor:
    """The share of so many rows that this process works on: their numbers, one behind the other."""
    return torch.arange(rows).tensor_split(count())[rank()]


def any_of(said: bool) -> bool:
    """Whether any process says so."""
    return count() > 1 and bool(summed(torch.tensor([float(said)]))) or said


def summed(values: torch.Tensor) -> torch.Tensor:
    """The sum over all processes, on the device of `values`."""
    wire = values.cuda() if distributed.get_backend() == "nccl" else values.contiguous()
    distributed.all_reduce(wire)
    return wire.to(values.device)


def from_first(values: torch.Tensor) -> torch.Tensor:
    """The first process's values, in all of them."""
    return summed(values if first() else torch.zeros_like(values)) if count() > 1 else values


def whole(part: torch.Tensor, rows: torch.Tensor, total: int) -> torch.Tensor:
    """All `total` rows of a tensor of which every process has made some, exactly as they were made.

    Args:
        part: (n, ...), any type. rows: (n,) their numbers, no row being made twice.
    """
    every = torch.zeros(total, *part.shape[1:], dtype=part.dtype)
    every[rows] = part.cpu()
    if not every.numel():
        return every
    return summed(every.flatten().view(torch.uint8)).view(part.dtype).view(every.shape)  # a byte of one process and zeros of the others


def alike(module: torch.nn.Module) -> None:
    """Give every process the first one's weights and buffers."""
    if count() > 1:
        for value in module.state_dict().values():
            kept = value.cuda() if distributed.get_backend() == "nccl" else value.contiguous()
            distributed.broadcast(kept, 0)
            value.copy_(kept)


def added_up(parameters: list[torch.nn.Parameter], losses: dict[str, float], failed: Diverged | None) -> dict[str, float]:
    """Add every process's gradients, in place, and its shares of the losses, which are returned.

    Raises Diverged in all of them where one has `failed`.
    """
    if count() > 1:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        numbers = gradients[0].new_tensor([float(failed is not None), *losses.values()])
        every = summed(torch.cat([*(g.flatten() for g in gradients), numbers]))
        *gradients, numbers = every.split([*(g.numel() for g in gradients), len(numbers)])
        for p, gradient in zip(parameters, gradients):
            p.grad = gradient.view_as(p).clone()
        failures, *values = numbers.tolist()
        losses = dict(zip(losses, values))
        if failures and failed is None:
            failed = Diverged("the training diverged in another process")
    if failed is not None:
        raise failed
    return losses
