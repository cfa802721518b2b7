"""Train the emoji-open base on a graphics card within minutes: as make_base.py, from nothing, in so many seconds.

    python demo/open/make_base_on_card.py --comfyui COMFYUI --out out/open --seconds 480

Captions, their states and latents lie on the card; a step (drawing a batch, both passes, both optimisers) is one CUDA graph, one
for each kind of batch. The learning rate falls to zero over the last half of the time. Under --out: emoji-open.safetensors
(fp16, averaged weights), which is benchmarks/open's too at the end, and loss.jsonl. An autoencoder that make_autoencoder.py left
there is taken into the base. It needs 32 GB of the card's memory, and an NVIDIA card.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from demo.make_base import initialise
from demo.open import drawings
from demo.open.card import WIDTHS, Data, Encoder, caption_rows
from demo.open.make_autoencoder import make_autoencoder
from demo.open.make_base import NAMING, NOISY, NOISY_FROM, PAIR_STEPS, PLAIN_PAIR_STEPS
from demo.open.nouns import NOUNS
from demo.open.run import SEED, WARMUP, Run

BATCH = 256  # pictures of one noun; half as many, twice as wide, of two
SHARES = (0.25, 0.30, 0.15, 0.10, 0.10, 0.10)  # of steps, by how many tokens a batch is wide
PLAIN = 0.06  # share of the time at the start: nouns by their words, in templates, and few pairs
DECAY = 0.5  # share of the time, at the end, over which the learning rate falls to zero
RENEWED = 150  # seconds between new captions
PLAIN_WIDTHS = 2  # a plain caption has few tokens


class Step:
    """A training step of one kind of batch, as a CUDA graph that is replayed."""

    def __init__(self, run: Run, model, data: Data, two: bool, tokens: int, sums: torch.Tensor):
        self.run, self.model, self.data, self.two, self.tokens, self.sums = run, model, data, two, tokens, sums
        self.graph = None

    def eager(self) -> None:
        run, sampling, count = self.run, self.model.model_sampling, BATCH // (1 + self.two)
        clean, states, nouns = self.data.draw(self.two, count, self.tokens)
        chance = lambda: torch.rand(count, device=clean.device)
        lowest = torch.where(chance() < NOISY, NOISY_FROM, 0)
        t = lowest + (chance() * (len(sampling.sigmas) - lowest)).long()
        loss, naming = run.losses(sampling, clean, states, t, nouns)
        run.descend(loss + NAMING * naming)
        self.sums += torch.stack([loss.detach(), naming.detach(), torch.ones_like(loss)])

    def capture(self, pool) -> None:
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, pool=pool):
            self.eager()

    def __call__(self) -> None:
        self.graph.replay() if self.graph else self.eager()
        self.run.step += 1


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", required=True, help="folder of a ComfyUI install")
    p.add_argument("--out", type=Path, default=ROOT / "out/open")
    p.add_argument("--packages", type=Path, help="folder of npm packages; default: packages under --out")
    p.add_argument("--seconds", type=float, default=480)
    args = p.parse_args()
    workers = multiprocessing.get_context("fork").Pool()  # before anything touches the card
    from host.start import start_comfy

    start_comfy(args.comfyui)
    from demo import minilm
    from demo.open import base

    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    rng, device = np.random.default_rng(SEED), torch.device("cuda")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    sheet = drawings.cells(drawings.load_drawings(args.packages or args.out / "packages"), SEED)
    data = Data(Encoder(minilm.load_clip(), device), sheet, make_autoencoder(args.out, sheet))
    data.fill(workers.map(caption_rows, data.jobs(0, plain=True)))
    model = base.new_unet()
    initialise(model.diffusion_model.requires_grad_(True).train())
    model.to(device)
    run = Run(model.diffusion_model, len(NOUNS))
    run.whitening = data.whitening()
    rounds, coming = 1, workers.map_async(caption_rows, data.jobs(1, plain=False))

    sums = torch.zeros(3, device=device)
    steps = {(two, tokens): Step(run, model, data, two, tokens, sums) for two in (False, True) for tokens in WIDTHS}
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        for step in steps.values():  # kernels are chosen and the optimisers' states made before a graph is recorded
            step()
    torch.cuda.synchronize()
    pool = torch.cuda.graph_pool_handle()
    for step in steps.values():
        step.capture(pool)

    log, started, renewed, told, plain = open(args.out / "loss.jsonl", "a"), time.time(), time.time(), time.time(), True
    while (share := (time.time() - started) / args.seconds) < 1:
        if coming.ready() and (share >= PLAIN if plain else time.time() - renewed > RENEWED):
            data.fill(coming.get())
            plain, renewed, rounds = False, time.time(), rounds + 1
            coming = workers.map_async(caption_rows, data.jobs(rounds, plain=False))
        run.set_rates(min(1.0, (run.step + 1) / WARMUP, (1 - share) / DECAY))
        for _ in range(10):
            two = bool(rng.random() < (PLAIN_PAIR_STEPS if plain else PAIR_STEPS))
            tokens = rng.choice(WIDTHS[:PLAIN_WIDTHS]) if plain else rng.choice(WIDTHS, p=SHARES)
            steps[two, int(tokens)]()
        if time.time() - told > 10:
            loss, naming = (sums[:2] / sums[2]).tolist()
            line = {"step": run.step, "loss": round(loss, 5), "naming": round(naming, 5), "seconds": round(time.time() - started)}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n"), log.flush()
            sums.zero_()
            told = time.time()
    torch.cuda.synchronize()
    run.export(args.out / "emoji-open.safetensors", make_autoencoder(args.out, sheet))
    shutil.copyfile(args.out / "emoji-open.safetensors", base.WEIGHTS)
    workers.terminate()


if __name__ == "__main__":
    main()
