"""Train the judge of the CIFAR-10 base on the real training pictures and test it on the 10,000 test pictures.

    python benchmarks/cifar10/make_judge.py --out out/cifar10

Writes judge.safetensors under --out, its figures in the metadata. A few pictures of the mapping concept are among
the training pictures, with every class equally likely, so that the judge takes them for none.
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from benchmarks.cifar10 import data
from benchmarks.cifar10.judge import NAMES, Judge

SEED, BATCH, FOREST_ROWS = 7, 128, 4
LEARNING_RATE, MOMENTUM, DECAY, SMOOTHING, SHIFT = 0.15, 0.9, 5e-4, 0.1, 2


def distort(pictures, generator):
    """Pictures (N, 3, 32, 32), mirrored at random and moved by up to 2 pixels."""
    padded = F.pad(pictures, (SHIFT,) * 4, mode="reflect")
    dy, dx = torch.randint(2 * SHIFT + 1, (2, len(pictures)), generator=generator)
    mirror = torch.rand(len(pictures), 1, generator=generator) < 0.5
    span = torch.arange(data.SIZE)
    columns = dx[:, None] + torch.where(mirror, span.flip(0), span)
    rows = dy[:, None] + span
    return padded[torch.arange(len(pictures))[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2)


def accuracy(judge, pictures, labels):
    """Share of pictures (N, 32, 32, 3) uint8 that the judge names rightly."""
    return (judge.eval().scores(pictures / 255).argmax(1) == labels).float().mean().item()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, default=ROOT / "out/cifar10")
    p.add_argument("--epochs", type=int, default=10)
    args = p.parse_args()
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    cifar, forest = data.load(args.out), data.foliage(1000, SEED).permute(0, 3, 1, 2)
    pictures, labels = cifar["train"].permute(0, 3, 1, 2), cifar["train_labels"]
    judge = Judge().to(memory_format=torch.channels_last)
    judge.whiten(pictures[:2000] / 255)
    trained = [q for q in judge.parameters() if q.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=LEARNING_RATE, momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    rows = BATCH - FOREST_ROWS
    an_epoch = len(pictures) // rows
    steps, started = args.epochs * an_epoch, time.time()
    targets = torch.cat([torch.eye(len(NAMES)) * (1 - SMOOTHING), torch.zeros(1, len(NAMES))]) + SMOOTHING / len(NAMES)
    targets[-1] = 1 / len(NAMES)
    for step in range(steps):
        if step % an_epoch == 0:
            order = torch.randperm(len(pictures), generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min((step + 1) / (0.2 * steps), (steps - step) / (0.8 * steps))
        picked = order[step % an_epoch * rows :][:rows]
        some = forest[torch.randint(len(forest), (FOREST_ROWS,), generator=generator)]
        shown = distort(torch.cat([pictures[picked], some]) / 255, generator).contiguous(memory_format=torch.channels_last)
        wanted = targets[torch.cat([labels[picked], torch.full((FOREST_ROWS,), len(NAMES))])]
        with torch.autocast("cpu", torch.bfloat16):
            logits = judge.train()(shown)
        loss = F.cross_entropy(logits.float(), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(step + 1, round(loss.item(), 4), round(time.time() - started), flush=True)
        if (step + 1) % an_epoch == 0:
            print("test accuracy", accuracy(judge, cifar["test"][:1000], cifar["test_labels"][:1000]), flush=True)
    unseen = judge.eval().scores(data.foliage(1000, SEED + 1) / 255)
    figures = {
        "test_accuracy": accuracy(judge, cifar["test"], cifar["test_labels"]),
        "test_n": len(cifar["test"]),
        "forest_highest_mean": unseen.amax(1).mean().item(),
        "epochs": args.epochs,
        "seed": SEED,
    }
    print(json.dumps(figures))
    tensors = {k: v.contiguous() for k, v in judge.state_dict().items()}
    save_file(tensors, args.out / "judge.safetensors", metadata={k: str(v) for k, v in figures.items()})


if __name__ == "__main__":
    main()
