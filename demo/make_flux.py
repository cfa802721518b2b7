"""Train the Flux demo base: the pictures, captions and autoencoder of emoji-sd, a transformer and a T5 of its own.

    python demo/make_flux.py --comfyui COMFYUI --out out/flux --steps 7500
    python demo/make_flux.py --comfyui COMFYUI --out out/flux --steps 7500 --resume
    python demo/make_flux.py --comfyui COMFYUI --out out/flux2 --steps 5300 --start out/flux/emoji-flux.safetensors

First flow matching; over the last DISTILLED of the steps guidance distillation, the trained model its own teacher. Writes
demo/emoji-flux.safetensors (fp16) at the end; a checkpoint every 250 steps, and loss.jsonl, under --out.
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
from safetensors.torch import save_file
from torch.nn import functional as F

from demo import pictures
from demo.make_base import NO_CAPTION, NOTHING_ROWS, VARIANTS, Cells, load_state, save_state
from demo.make_text import END, FILLER, Captions

SEED = 30
BATCH = 32  # pictures of one noun; half as many, twice as wide, of two
PAIR_STEPS = 0.7
MANY_WORDS = 0.06  # share of batches whose captions stand among many words that the base never learns
NO_POOLED = 0.5  # share of rows whose pooled embedding is the empty prompt's: T5's states have to be read
LENGTHS, SHARES = (0, 32, 77, 110), (0.6, 0.2, 0.17, 0.03)  # tokens that captions are padded to at the least
LEARNING_RATE, WARMUP, EMA = 1e-3, 200, 0.999
DISTILLED, GUIDANCE = 0.12, 5.0  # share of the steps; guidance is drawn from 1 up to this
NAMING = 0.05  # weight of naming nouns, style and background from T5's states
T5_END = 1


def initialise(flux, t5):
    """ComfyUI's layers come uninitialised: torch's own start, adaptive norms and residual branches of T5 at zero."""
    for module in (flux, t5):
        for name, m in module.named_modules():
            if isinstance(m, torch.nn.Linear):
                torch.nn.Linear.reset_parameters(m)
                if name.endswith((".lin", "adaLN_modulation.1", "final_layer.linear", "SelfAttention.o", "DenseReluDense.wo")):
                    torch.nn.init.zeros_(m.weight)
                    if m.bias is not None:
                        torch.nn.init.zeros_(m.bias)
            elif isinstance(m, torch.nn.Embedding):
                torch.nn.init.normal_(m.weight, std=0.3 if "shared" in name else 0.02)
        for name, q in module.named_parameters():
            if "_norm." in name:
                torch.nn.init.ones_(q)


class Words:
    """Captions in T5's tokens, with words mixed in that the base never learns."""

    def __init__(self, tokenizer, rng):
        self.tokenizer, self.rng, self.cache = tokenizer, rng, {}

    def row(self, text: str) -> list[int]:
        ids = []
        for word in text.split():
            if word not in self.cache:
                self.cache[word] = self.tokenizer(word).input_ids[:-1]
            ids += self.cache[word]
        return [*ids, T5_END]

    def padded(self, rows: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (N, T), and which are words."""
        length = max(self.rng.choice(LENGTHS, p=SHARES), max(map(len, rows)))
        ids = torch.tensor([r + [0] * (length - len(r)) for r in rows])
        return ids, torch.arange(length) < torch.tensor([len(r) for r in rows])[:, None]


class Data:
    """Batches of latents, captions in both tokenizers, labels."""

    def __init__(self, cells: Cells, clip_words: Captions, t5_words: Words, rng):
        self.cells, self.clip_words, self.t5_words, self.rng = cells, clip_words, t5_words, rng
        self.fillers = [clip_words.tokenizer.decode([i]).strip() for i in clip_words.fillers]

    def among(self, text: str, many: bool) -> str:
        rng = self.rng
        if many or rng.random() < FILLER:
            words = " ".join(rng.choice(self.fillers, rng.integers(*((20, 60) if many else (1, 9)))))
            return f"{words} {text}" if rng.random() < 0.5 else f"{text} {words}"
        return text

    def batch(self):
        rng, pair, many = self.rng, self.rng.random() < PAIR_STEPS, self.rng.random() < MANY_WORDS
        latents, texts, labels = [], [], []
        for _ in range(BATCH // 2 if pair else BATCH):
            count = 0 if not pair and rng.random() < NOTHING_ROWS else 1 + pair
            drawn, text, label = self.cells.draw(count)
            text = "" if rng.random() < NO_CAPTION else self.among(text, many)
            latents.append(drawn), texts.append(text), labels.append(label if text else label * torch.nan)
        rows = [self.clip_words.chunk(self.clip_words.words(t)) for t in texts]
        ids, real = self.t5_words.padded([self.t5_words.row(t) for t in texts])
        return torch.stack(latents), torch.tensor(rows), ids, real, torch.stack(labels)


def learning_rate(step, steps):
    """Constant while the flow is learnt, then linearly to zero over the distillation and a little before it."""
    return LEARNING_RATE * min(1, (step + 1) / WARMUP, (steps - step) / (1.5 * DISTILLED * steps))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--comfyui", required=True, help="folder of a ComfyUI install")
    p.add_argument("--out", type=Path, default=ROOT / "out/flux")
    p.add_argument("--steps", type=int, default=7500)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--start", type=Path, help="a base to go on from, with a new optimizer")
    args = p.parse_args()
    from host.load import allow_gradients
    from host.start import start_comfy

    start_comfy(args.comfyui)
    import comfy.ldm.flux.math as flux_math
    from comfy.ldm.modules.attention import attention_pytorch

    from demo import base
    from demo import flux as demo_flux

    flux_math.optimized_attention = attention_pytorch  # on a CPU ComfyUI takes another one, of twice the time
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_flush_denormal(True)
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    sheet = pictures.cells(pictures.load_drawings(args.out / "packages"), VARIANTS, SEED)
    shared = base.read(base.WEIGHTS)
    autoencoder = base.Autoencoder()
    autoencoder.load_state_dict(base.part(shared, "vae."))
    clip = demo_flux.new_clip()
    clip_l = clip.cond_stage_model.clip_l.transformer
    base.load_text(clip_l, shared)
    flux, t5 = demo_flux.new_flux().diffusion_model, clip.cond_stage_model.t5xxl.transformer
    initialise(flux, t5)
    if args.start:
        former = base.read(args.start)
        flux.load_state_dict(base.part(former, "flux."))
        t5.load_state_dict(base.part(former, "t5."))
    allow_gradients(flux), allow_gradients(t5)
    words = Captions(clip.tokenizer.clip_l.tokenizer, rng)
    data = Data(Cells(sheet, autoencoder, rng), words, Words(clip.tokenizer.t5xxl.tokenizer, rng), rng)
    namer = torch.nn.Linear(base.TEXT_WIDTH, data.cells.labels)
    trained = torch.nn.ModuleDict({"flux": flux, "t5": t5, "namer": namer}).requires_grad_(True).train()
    parameters = list(trained.parameters())
    decayed = [q for q in parameters if q.ndim > 1 and q is not t5.shared.weight]
    others = [q for q in parameters if not any(q is d for d in decayed)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.99), fused=True)
    ema, teacher = [q.detach().clone() for q in parameters], None
    state = args.out / "state.safetensors"
    step, started = 0, time.time()
    if args.resume and state.exists():
        step = load_state(state, parameters, ema, optimizer)
        rng.bit_generator.advance(step << 32)
    empty_row, empty_t5 = torch.tensor([words.chunk([])]), data.t5_words.row("")

    @torch.no_grad()
    def pooled(ids):
        states = clip_l(ids)[0]
        return states[torch.arange(len(ids)), (ids == END).int().argmax(1)]

    def encode(ids):
        return t5(ids, None)[0]

    def swapped(weights):
        kept = [q.detach().clone() for q in parameters]
        torch._foreach_copy_([q.data for q in parameters], weights)
        return kept

    log = open(args.out / "loss.jsonl", "a")
    sums = np.zeros(3)
    distil_from = round((1 - DISTILLED) * args.steps)
    while step < args.steps:
        if step >= distil_from and teacher is None:
            teacher = [w.clone() for w in ema] if step == distil_from else read_teacher(args.out / "teacher.safetensors")
            if step == distil_from:
                swapped(ema)
                save_file({str(i): w for i, w in enumerate(teacher)}, args.out / "teacher.safetensors")
        latents, clip_ids, t5_ids, real, labels = data.batch()
        n = len(latents)
        u = torch.sigmoid(torch.randn(n)) if rng.random() < 0.5 else torch.rand(n)
        sigma = u.clamp(1e-3, 1)
        noise = torch.randn_like(latents)
        s = sigma.view(-1, 1, 1, 1)
        x, target = (1 - s) * latents + s * noise, noise - latents
        y = pooled(clip_ids)
        y = torch.where(torch.rand(n, 1) < NO_POOLED, pooled(empty_row), y)
        guidance = torch.ones(n)
        if teacher is not None:
            guidance = 1 + (GUIDANCE - 1) * torch.rand(n)
            kept = swapped(teacher)
            with torch.no_grad():
                blank = torch.tensor([empty_t5 + [0] * (t5_ids.shape[1] - len(empty_t5))])
                states = torch.cat([encode(t5_ids), encode(blank).expand(n, -1, -1)])
                ys = torch.cat([y, pooled(empty_row).expand(n, -1)])
                v, v_empty = flux(x.repeat(2, 1, 1, 1), sigma.repeat(2), states, y=ys, guidance=torch.ones(2 * n)).chunk(2)
                target = v_empty + guidance.view(-1, 1, 1, 1) * (v - v_empty)
            swapped(kept)
        states = encode(t5_ids)
        v = flux(x, sigma, states, y=y, guidance=guidance)
        named = namer((states * real[..., None]).sum(1) / real.sum(1, keepdim=True))
        loss = F.mse_loss(v, target)
        known = ~labels[:, 0].isnan()
        naming = F.binary_cross_entropy_with_logits(named[known], labels[known])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps)
        optimizer.zero_grad(set_to_none=True)
        (loss + NAMING * naming).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            torch._foreach_lerp_(ema, parameters, 1 - min(EMA, (step + 1) / (step + 10)))
        sums += (loss.item(), 1, naming.item())
        if step % 50 == 0:
            line = {
                "step": step,
                "loss": round(sums[0] / sums[1], 5),
                "naming": round(sums[2] / sums[1], 5),
                "lr": round(learning_rate(step, args.steps), 7),
                "seconds": round(time.time() - started),
            }
            print(json.dumps(line), flush=True)
            log.write(json.dumps(line) + "\n"), log.flush()
            sums[:] = 0
        if step % 250 == 0 or step == args.steps:
            save_state(state, step, parameters, ema, optimizer)
            export(args.out / "emoji-flux.safetensors", trained, parameters, ema, step)
    shutil.copyfile(args.out / "emoji-flux.safetensors", demo_flux.WEIGHTS)


def read_teacher(path):
    from safetensors.torch import load_file

    tensors = load_file(path)
    return [tensors[str(i)] for i in range(len(tensors))]


def export(path, trained, parameters, ema, step):
    """The averaged weights as one fp16 file: flux.*, t5.*."""
    averaged = dict(zip((id(q) for q in parameters), ema))
    tensors = {name: averaged[id(q)] for name, q in trained.named_parameters() if not name.startswith("namer")}
    tensors = {name: t.half().contiguous().clone() for name, t in tensors.items()}
    save_file(tensors, str(path) + ".tmp", metadata={"format": "unhype-demo-base", "steps": str(step), "seed": str(SEED)})
    Path(str(path) + ".tmp").replace(path)


if __name__ == "__main__":
    main()
