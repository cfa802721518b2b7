"""Train the demo base from the packages it is made of.

    python demo/make_base.py --comfyui COMFYUI --out out/base --steps 5600
    python demo/make_base.py --comfyui COMFYUI --out out/base --steps 5600 --resume

Writes demo/emoji-sd.safetensors (fp16) at the end; a checkpoint every 250 steps, and loss.jsonl, under --out.
Needs npm (the artwork comes from npm packages, by name and version).
"""

import argparse
import json
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from demo import captions, pictures
from demo.autoencoder import Autoencoder
from demo.make_decoder import train_decoder
from demo.make_text import CHUNK, END, START, Captions, TextEncoder

SEED = 20
BATCH = 48  # pictures of one noun; half as many, twice as wide, of two
PAIR_STEPS, NOTHING_ROWS = 0.58, 0.03  # shares of steps and of rows
NO_CAPTION, TWO_CHUNKS = 0.10, 0.05
LEARNING_RATE, WARMUP, DECAY = 8e-4, 200, 0.25  # constant, then linearly to zero over the last quarter
EMA = 0.999
CAPTION_LOSS = 0.05  # weight of naming nouns, style and background from the pooled embedding
VARIANTS = 16
DECODER_STEPS = 2500


def initialise(module):
    """ComfyUI's layers come uninitialised: give each torch's own start, and end every residual branch at zero."""
    for name, m in module.named_modules():
        if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d)):
            torch.nn.Linear.reset_parameters(m) if isinstance(m, torch.nn.Linear) else torch.nn.Conv2d.reset_parameters(m)
            if name.endswith(("proj_out", "out_layers.3", "out.2")):
                torch.nn.init.zeros_(m.weight), torch.nn.init.zeros_(m.bias)
        elif isinstance(m, torch.nn.Embedding):
            torch.nn.init.normal_(m.weight, std=0.02)
        elif isinstance(m, (torch.nn.LayerNorm, torch.nn.GroupNorm)):
            torch.nn.init.ones_(m.weight), torch.nn.init.zeros_(m.bias)


class Cells:
    """Latents of no, one or two nouns with a caption, every cell encoded once."""

    def __init__(self, sheet, autoencoder, rng):
        self.rng = rng
        self.nouns, self.backgrounds = list(captions.NOUNS), list(captions.BACKGROUNDS)
        self.labels = len(self.nouns) + len(captions.STYLES) + len(self.backgrounds)
        encode = lambda images: autoencoder.encode(torch.tensor(np.stack(images)).permute(0, 3, 1, 2) * 2 - 1)
        self.cells = {
            (n, s, b): encode([pictures.on_background(c, b) for c in sheet[n, s]])
            for n in self.nouns
            for s in captions.STYLES
            for b in self.backgrounds
        }
        self.empty = {b: encode([pictures.on_background(None, b)]) for b in self.backgrounds}

    def draw(self, count: int) -> tuple[torch.Tensor, str, torch.Tensor]:
        """Latents (C, H, W) of `count` nouns, a caption of them, and which nouns, style and background they are."""
        rng = self.rng
        style, background = rng.choice(captions.STYLES), rng.choice(self.backgrounds)
        nouns = rng.choice(self.nouns, count, replace=False).tolist()
        label = torch.zeros(self.labels)
        label[len(self.nouns) + captions.STYLES.index(style)] = 1
        label[len(self.nouns) + len(captions.STYLES) + self.backgrounds.index(background)] = 1
        for n in nouns:
            label[self.nouns.index(n)] = 1
        drawn = [self.cells[n, style, background][rng.integers(VARIANTS)] for n in nouns] or [self.empty[background][0]]
        words = [rng.choice(captions.NOUNS[n][1]) for n in nouns]
        text = captions.caption(rng.choice(captions.TEMPLATES), style, background, *words, joint=rng.choice(captions.JOINTS))
        return torch.cat(drawn, -1), text, label


class Data:
    """Batches of (latents, token ids, labels)."""

    def __init__(self, cells: Cells, text, rng):
        self.cells, self.text, self.rng = cells, text, rng

    def batch(self):
        rng, pair = self.rng, self.rng.random() < PAIR_STEPS
        two_chunks = rng.random() < TWO_CHUNKS
        latents, ids, labels = [], [], []
        for _ in range(BATCH // 2 if pair else BATCH):
            drawn, text, label = self.cells.draw(0 if not pair and rng.random() < NOTHING_ROWS else 1 + pair)
            if rng.random() < NO_CAPTION:
                text = ""
            row = self.text.row(text)
            if two_chunks:
                other = self.text.chunk(self.text.filler(20, 70))
                row = row + other if rng.random() < 0.5 else other + row
            latents.append(drawn)
            ids.append(row)
            labels.append(label if text else label * torch.nan)
        return torch.stack(latents), torch.tensor(ids), torch.stack(labels)


def make_autoencoder(path, sheet, rng):
    """The autoencoder for the pictures in `sheet`, from the file where it has been trained before."""
    autoencoder = Autoencoder()
    combinations = [(s, b, n) for n in captions.NOUNS for s in captions.STYLES for b in captions.BACKGROUNDS]
    images = np.stack([pictures.picture(sheet, rng, *c) for c in combinations])
    autoencoder.fit_basis(torch.tensor(images).permute(0, 3, 1, 2) * 2 - 1)
    if path.exists():
        autoencoder.load_state_dict(load_file(path))
    else:
        names, backgrounds = list(captions.NOUNS), list(captions.BACKGROUNDS)
        draw = lambda rng, count: pictures.picture(
            sheet, rng, rng.choice(captions.STYLES), rng.choice(backgrounds), *rng.choice(names, count, replace=False)
        )
        train_decoder(autoencoder, draw, DECODER_STEPS, SEED)
        save_file({k: v.contiguous() for k, v in autoencoder.state_dict().items()}, path)
    return autoencoder.requires_grad_(False)


def learning_rate(step, steps):
    return LEARNING_RATE * min(1, (step + 1) / WARMUP, (steps - step) / (DECAY * steps))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", required=True, help="folder of a ComfyUI install")
    p.add_argument("--out", type=Path, default=ROOT / "out/base")
    p.add_argument("--steps", type=int, default=5600)
    p.add_argument("--resume", action="store_true")
    args = p.parse_args()
    from host.start import start_comfy

    start_comfy(args.comfyui)
    import comfy.ldm.modules.attention as attention

    from demo import base

    attention.optimized_attention = attention.attention_basic  # its backward is a third faster on a CPU than SDPA's
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sheet = pictures.cells(pictures.load_drawings(args.out / "packages"), VARIANTS, SEED)

    autoencoder = make_autoencoder(args.out / "autoencoder.safetensors", sheet, rng)
    clip, unet = base.new_clip(), base.new_unet().diffusion_model
    text_model = clip.cond_stage_model.clip_l.transformer.text_model
    initialise(text_model), initialise(unet)
    text = Captions(clip.tokenizer.clip_l.tokenizer, rng)
    used = {START, END} | {
        i
        for t in captions.TEMPLATES
        for s in captions.STYLES
        for b in captions.BACKGROUNDS
        for j in captions.JOINTS
        for w in captions.NOUN_OF_WORD
        for i in text.words(captions.caption(t, s, b, w, w, joint=j))
    }
    used |= set(text.words(captions.NOTHING + " " + captions.NOTHING + ","))
    encoder = TextEncoder(text_model.requires_grad_(True), used)
    data = Data(Cells(sheet, autoencoder, rng), text, rng)
    unet.requires_grad_(True).train()
    namer = torch.nn.Linear(base.TEXT_WIDTH, data.cells.labels)
    trained = torch.nn.ModuleDict({"unet": unet, "text": encoder, "namer": namer})
    parameters = [q for q in trained.parameters() if q.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema = [q.detach().clone() for q in parameters]
    state = args.out / "state.safetensors"
    step, started = 0, time.time()
    if args.resume and state.exists():
        step = load_state(state, parameters, ema, optimizer)
        rng.bit_generator.advance(step << 32)
    sigmas = base.new_unet().model_sampling.sigmas
    log = open(args.out / "loss.jsonl", "a")
    sums = np.zeros(3)
    while step < args.steps:
        latents, ids, labels = data.batch()
        sigma = sigmas[torch.tensor(rng.integers(0, len(sigmas), len(latents)))].view(-1, 1, 1, 1)
        noise = torch.randn_like(latents)
        with torch.autocast("cpu", torch.bfloat16):
            states, pooled = encoder(ids.view(-1, CHUNK))
            chunks = ids.shape[1] // CHUNK
            t = (sigmas[:, None] - sigma.flatten()).abs().argmin(0).float()
            v = unet((latents + sigma * noise) / (1 + sigma**2).sqrt(), t, context=states.reshape(len(ids), -1, base.TEXT_WIDTH))
            named = namer(pooled)
        loss = F.mse_loss(v.float(), (noise - sigma * latents) / (1 + sigma**2).sqrt())
        total = loss
        if chunks == 1:
            known = ~labels[:, 0].isnan()
            naming = F.binary_cross_entropy_with_logits(named.float()[known], labels[known])
            total = loss + CAPTION_LOSS * naming
            sums[2] = naming.item()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, parameters, 1 - min(EMA, (step + 1) / (step + 10)))
        sums[:2] += (loss.item(), 1)
        if step % 50 == 0:
            line = {
                "step": step,
                "loss": round(sums[0] / sums[1], 5),
                "naming": round(sums[2], 5),
                "lr": round(learning_rate(step, args.steps), 7),
                "seconds": round(time.time() - started),
            }
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n"), log.flush()
            sums[:2] = 0
        if step % 250 == 0 or step == args.steps:
            save_state(state, step, parameters, ema, optimizer)
            export(args.out / "emoji-sd.safetensors", trained, parameters, ema, clip, autoencoder, step)
    shutil.copyfile(args.out / "emoji-sd.safetensors", base.WEIGHTS)


def save_state(path, step, parameters, ema, optimizer):
    tensors = {"step": torch.tensor(step)}
    for i, q in enumerate(parameters):
        tensors |= {f"{i}.weight": q.detach(), f"{i}.ema": ema[i]}
        tensors |= {f"{i}.{k}": v for k, v in optimizer.state[q].items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, str(path) + ".tmp")
    Path(str(path) + ".tmp").replace(path)


def load_state(path, parameters, ema, optimizer):
    tensors = load_file(path)
    for i, q in enumerate(parameters):
        q.data.copy_(tensors[f"{i}.weight"]), ema[i].copy_(tensors[f"{i}.ema"])
        optimizer.state[q] = {k: tensors[f"{i}.{k}"] for k in ("step", "exp_avg", "exp_avg_sq")}
    return int(tensors["step"])


def export(path, trained, parameters, ema, clip, autoencoder, step):
    """The averaged weights as one fp16 file: unet.*, text.*, vae.*."""
    kept = [q.detach().clone() for q in parameters]
    with torch.no_grad():
        torch._foreach_copy_(parameters, ema)
        trained["text"].write_back()
        text = clip.cond_stage_model.clip_l.transformer.text_model
        tensors = {f"unet.{k}": v for k, v in trained["unet"].state_dict().items()}
        tensors |= {f"text.{k}": v for k, v in text.state_dict().items()}
        tensors |= {f"vae.{k}": v for k, v in autoencoder.state_dict().items()}
        tensors = {k: v.detach().half().contiguous().clone() for k, v in tensors.items()}
        torch._foreach_copy_(parameters, kept)
    save_file(tensors, str(path) + ".tmp", metadata={"format": "unhype-demo-base", "steps": str(step), "seed": str(SEED)})
    Path(str(path) + ".tmp").replace(path)


if __name__ == "__main__":
    main()
