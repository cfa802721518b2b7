"""Train the emoji-open base on a CPU: its UNet; the text encoder is frozen.

    python demo/open/make_base.py --comfyui COMFYUI --out out/open
    python demo/open/make_base.py --comfyui COMFYUI --out out/open --resume
    python demo/open/make_base.py --comfyui COMFYUI --out out/open --resume --finish 1500

It goes on until it is told to stop (Ctrl+C, or SIGTERM: the state is saved first) at a constant learning rate; --finish N
brings the rate to zero over N more steps and writes benchmarks/open/emoji-open.safetensors. Under --out: state.safetensors every
five minutes with all that a run needs to go on (where it is lost, --start takes a base's file), emoji-open.safetensors (fp16,
averaged weights) with it, and loss.jsonl.
Needs npm (the artwork comes from npm packages, by name and version), resvg-py==0.5.0 and MiniLM's files (dev.py fetches them).
"""

import argparse
import json
import shutil
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from demo.captions import BACKGROUNDS
from demo.make_base import initialise
from demo.open import drawings
from demo.open.captions import STYLES
from demo.open.make_autoencoder import make_autoencoder
from demo.open.nouns import NOUNS
from demo.open.run import SEED, Run

BATCH = 64  # pictures of one noun; half as many, twice as wide, of two
NAMING = 0.3  # weight of naming the nouns; at 0.05 the two nouns of a pair were not told apart in 2,500 steps, at 0.3 in 300
NOISY, NOISY_FROM = 0.8, 700  # share of rows that are drawn from the noisiest levels, where the text decides what is drawn
PLAIN_STEPS = 1700  # at the start: nouns by their words, in templates, and few pairs
PAIR_STEPS, PLAIN_PAIR_STEPS = 0.60, 0.15
POOL, FIRST_CHUNKS, RENEWED = 20_000, 60, 16  # captions of a kind; chunks at the start; steps for one new chunk of each kind
SAVED = 300  # seconds between states


def batch(pool, latents, rng):
    """Latents (N, 32, 8, 8 per noun), states (N, tokens, 384) to be whitened, and which nouns the text names: (N, 1 or 2), -1 for none."""
    pair = bool(rng.random() < (PLAIN_PAIR_STEPS if pool.plain else PAIR_STEPS))
    captions, told, states = pool.draw(pair, BATCH // 2 if pair else BATCH)
    names = list(NOUNS)
    styled = lambda c: (c.style or str(rng.choice(STYLES)), c.background or str(rng.choice(list(BACKGROUNDS))))
    drawn = [latents.of(c.nouns, *styled(c), rng.integers(0, drawings.VARIANTS, 2)) for c in captions]
    nouns = [[names.index(n) for n in c.nouns] if t and c.nouns else [-1] * (1 + pair) for c, t in zip(captions, told)]
    return torch.stack(drawn), states, torch.tensor(nouns)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", required=True, help="folder of a ComfyUI install")
    p.add_argument("--out", type=Path, default=ROOT / "out/open")
    p.add_argument("--packages", type=Path, help="folder of npm packages; default: packages under --out")
    p.add_argument("--resume", action="store_true")
    p.add_argument("--start", type=Path, metavar="FILE", help="go on from a base's file, where there is no state to resume")
    p.add_argument("--finish", type=int, default=0, metavar="STEPS", help="bring the learning rate to zero over so many steps, and end")
    args = p.parse_args()
    from host.start import start_comfy

    start_comfy(args.comfyui)
    import comfy.ldm.modules.attention as attention

    from demo import minilm
    from demo.open import base
    from demo.open.pool import Pool

    attention.optimized_attention = attention.attention_basic  # its backward is a third faster on a CPU than SDPA's
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    sheet = drawings.cells(drawings.load_drawings(args.packages or args.out / "packages"), SEED)
    autoencoder = make_autoencoder(args.out, sheet)
    latents = drawings.Latents(sheet, autoencoder)
    model = base.new_unet()
    unet = model.diffusion_model.requires_grad_(True).train()
    initialise(unet)
    run, state = Run(unet, len(NOUNS)), args.out / "state.safetensors"
    if args.resume and state.exists():
        run.load(state)
    rng = np.random.default_rng([SEED, run.step])
    torch.manual_seed(SEED + run.step)
    pool = Pool(minilm.load_clip(), rng, POOL, FIRST_CHUNKS, plain=run.step < PLAIN_STEPS)
    if run.step == 0:
        run.whitening = pool.whitening()
        if args.start:
            run.start(args.start)
    if args.finish and not run.end:
        run.save(args.out / "state-before-finish.safetensors") if run.step else None
        run.end = run.step + args.finish
    stopped = []
    for kind in (signal.SIGTERM, signal.SIGINT):
        signal.signal(kind, lambda *_: stopped.append(True))
    log = open(args.out / "loss.jsonl", "a")
    sums, started, saved = np.zeros(3), time.time(), time.time()
    while not stopped and not (run.end and run.step >= run.end):
        if run.step == PLAIN_STEPS:
            pool.start_over(plain=False)
        if run.step % RENEWED == 0:
            pool.renew()
        clean, states, nouns = batch(pool, latents, rng)
        lowest = np.where(rng.random(len(clean)) < NOISY, NOISY_FROM, 0)
        t = torch.tensor(rng.integers(lowest, len(model.model_sampling.sigmas)))
        loss, naming = run.losses(model.model_sampling, clean, states, t, nouns)
        run.update(loss + NAMING * naming, args.finish)
        sums += (loss.item(), naming.item(), 1)
        if run.step % 50 == 0:
            loss, naming = (sums[:2] / sums[2]).round(5).tolist()
            line = {"step": run.step, "loss": loss, "naming": naming, "seconds": round(time.time() - started)}
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n"), log.flush()
            sums[:] = 0
        if time.time() - saved > SAVED:
            saved = time.time()
            run.save(state), run.export(args.out / "emoji-open.safetensors", make_autoencoder(args.out, sheet))
    run.save(state), run.export(args.out / "emoji-open.safetensors", make_autoencoder(args.out, sheet))
    if not stopped:
        shutil.copyfile(args.out / "emoji-open.safetensors", base.WEIGHTS)


if __name__ == "__main__":
    main()
