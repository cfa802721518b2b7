"""Run by torchrun: what processes put together, checked in each of them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from trainer.run import processes
from trainer.run.divergence import Diverged

with processes.joined():
    n, mine = 7, processes.mine(7)
    for kind in (torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.uint8):
        every = torch.randn(n, 3, generator=torch.Generator().manual_seed(0)).mul(9).to(kind)
        assert torch.equal(processes.whole(every[mine], mine, n), every), kind
    nothing = torch.zeros(n, 0)
    assert processes.whole(nothing[mine], mine, n).shape == (n, 0)
    assert processes.any_of(processes.rank() == 1) and not processes.any_of(False)

    layer = torch.nn.Linear(2, 2, bias=False)
    processes.alike(layer)
    (layer.weight.sum() * (processes.rank() + 1)).backward()
    count = processes.count()
    losses = processes.added_up([layer.weight], {"loss": 1.0}, None)
    assert losses == {"loss": count} and layer.weight.grad.eq(count * (count + 1) / 2).all()
    try:
        processes.added_up([layer.weight], {"loss": 1.0}, Diverged("my own") if processes.rank() == 1 else None)
    except Diverged as error:
        assert str(error) == ("my own" if processes.rank() == 1 else "the training diverged in another process")
    else:
        raise AssertionError("nobody was told")
    other = torch.nn.Linear(2, 2)
    processes.alike(other)
    weights = processes.summed(other.weight.detach().clone())
    assert torch.allclose(weights, count * other.weight)
    (Path(sys.argv[1]) / str(processes.rank())).write_text("checked")
