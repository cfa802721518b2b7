"""What a ControlNet lets through: it reads the prompt by attention of its own, which the eraser does not touch.

    python benchmarks/controlnet.py [--iterations 200] [--seeds 6] [--out out/controlnet.json]

Trains a small ControlNet for the demo base, started as real ones are from the UNet's encoder, on edges of the base's own
pictures; then has the judge say how often "cat" is drawn for cat prompts with the bundled eraser, by hint, by strength
and by the prompt that the ControlNet reads. How much the ControlNet itself does is told by edges_as_the_cats, the correlation of
the drawn edges with its hint's: where a row with it is hardly above the row without, the ControlNet is a weak one.
"""

import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch
from tqdm import trange

from benchmarks import pages
from benchmarks.speed import load_pack
from demo import prompts
from demo.judge import NAMES, load_judge
from evaluation.measure import CFG, FIRST_SEED, SIZE, STEPS
from host.load import load_backbone
from host.start import core_node, find_comfy, start_comfy

NOUN, MAPPING, OTHER = "cat", "forest", "dog"
STRENGTHS = (0.5, 1.0, 2.0)
BATCH, LEARNING_RATE, UNPROMPTED = 16, 3e-4, 0.2  # of the ControlNet's training; the share of empty prompts
FIRST_PICTURE = 90_000  # seed of the pictures that it is trained on


def edges(pictures: torch.Tensor) -> torch.Tensor:
    """White outlines on black of pictures (N, H, W, 3), as edge-detecting preprocessors make them."""
    grey = torch.nn.functional.pad(pictures.mean(-1)[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    across, down = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    return (8 * (across**2 + down**2)).clamp(0, 1).sqrt()[..., None].expand(*pictures.shape)


def alike(one: torch.Tensor, other: torch.Tensor) -> float:
    """The mean correlation of pictures with others."""
    one, other = (t.flatten(1) - t.flatten(1).mean(1, keepdim=True) for t in (one, other))
    return torch.nn.functional.cosine_similarity(one, other).mean().item()


@torch.inference_mode()
def draw(backbone, model, texts: list[str], seed: int, control=None, hint=None, strength: float = 1.0, read: list[str] | None = None):
    """Latents of the texts, one each, with a ControlNet on both sides; `read` are the prompts that it gets instead."""
    text, empty = backbone.encode(texts), backbone.encode([""]).repeated(len(texts))
    positive, negative = text.conditioning(), empty.conditioning()
    if control is not None:
        if read:
            positive[0][1]["cross_attn_controlnet"] = backbone.encode(read).tokens
            negative[0][1]["cross_attn_controlnet"] = empty.tokens
        positive, negative = core_node("ControlNetApplyAdvanced").apply_controlnet(positive, negative, control, hint, strength, 0.0, 1.0)
    noise = torch.stack([backbone.noise(SIZE, seed + i) for i in range(len(texts))])
    return backbone.sample(positive, negative, SIZE, seed, STEPS, CFG, model, noise=noise)


def loss_of(backbone, model, x0, hint, tokens, rng) -> torch.Tensor:
    """The error of the velocity at random noise levels."""
    sampling = backbone.model.model.model_sampling
    sigma = sampling.sigmas[torch.randint(len(sampling.sigmas), (len(x0),), generator=rng)]
    wide = sigma.view(-1, 1, 1, 1)
    x = x0 + wide * torch.randn(x0.shape, generator=rng)
    control = model(x=sampling.calculate_input(sigma, x), hint=hint, timesteps=sampling.timestep(sigma).float(), context=tokens)
    denoised = backbone.model.model.apply_model(x, sigma, c_crossattn=tokens, control=control)
    return ((denoised - x0).square() * (1 + wide**2) / wide**2).mean()


def train(backbone, iterations: int):
    """A ControlNet for edges, and its losses."""
    from demo.controlnet import new_controlnet

    with torch.inference_mode():
        texts = [p.text for p in prompts.every_word()]
        latents = [draw(backbone, backbone.model, texts[i : i + 48], FIRST_PICTURE + i) for i in range(0, len(texts), 48)]
        hints = [edges(backbone.decode(part)) for part in latents]
        text, empty = backbone.encode(texts), backbone.encode([""])
    x0, hints, tokens = torch.cat(latents).clone(), torch.cat(hints).movedim(-1, 1).clone(), text.tokens.clone()
    control = new_controlnet(backbone.diffusion_model)
    model, rng, losses = control.control_model.requires_grad_(True), torch.Generator().manual_seed(0), []
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for _ in trange(iterations):
        rows = torch.randint(len(x0), (BATCH,), generator=rng)
        unprompted = (torch.rand(BATCH, generator=rng) < UNPROMPTED)[:, None, None]
        loss = loss_of(backbone, model, x0[rows], hints[rows], torch.where(unprompted, empty.tokens, tokens[rows]), rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.requires_grad_(False)
    return control, losses


def measure(backbone, judge, erased, control, seeds: int) -> list[dict]:
    """How often cats are named: a row per model, hint, strength and prompt that the ControlNet reads."""
    judged = [p for p in prompts.erased_prompts(NOUN) for _ in range(seeds)]
    texts = [p.text for p in judged]
    instead = lambda noun: [text.replace(NOUN, noun) for text in texts]
    edges_of = lambda noun: edges(backbone.decode(draw(backbone, backbone.model, instead(noun), FIRST_SEED + 500)))
    hints = {NOUN: edges_of(NOUN), OTHER: edges_of(OTHER), "none": torch.zeros(len(texts), SIZE[1], SIZE[0], 3)}
    cases = [("base", "-", 0.0, "-"), ("eraser", "-", 0.0, "-")]
    cases += [(model, NOUN, strength, NOUN) for strength in STRENGTHS for model in ("base", "eraser")]
    cases += [("eraser", NOUN, 1.0, MAPPING), ("eraser", "none", 1.0, NOUN), ("eraser", OTHER, 1.0, NOUN)]
    cases += [("base asked for " + MAPPING, NOUN, 1.0, MAPPING)]
    rows = []
    for name, hint, strength, read in cases:
        asked = instead(MAPPING) if MAPPING in name else texts
        model = erased if name == "eraser" else backbone.model
        own = {} if hint == "-" else {"control": control, "hint": hints[hint], "strength": strength, "read": instead(read)}
        pictures = backbone.decode(draw(backbone, model, asked, FIRST_SEED, **own))
        best = judge.scores(pictures).argmax(-1)
        share = lambda noun: (best == NAMES.index(noun)).float().mean().item()
        named = {n: round(share(n), 4) for n in (NOUN, MAPPING, OTHER)}
        rows.append({"model": name, "hint": hint, "strength": strength, "controlnet_reads": read, "named": named, "n": len(texts)})
        rows[-1]["edges_as_the_cats"] = round(alike(edges(pictures), hints[NOUN]), 3)
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--out", type=Path, default=ROOT / "out/controlnet.json")
    arguments = parser.parse_args(argv)
    started = time.time()
    start_comfy(find_comfy(None))
    core_node("ControlNetApplyAdvanced")  # ComfyUI's nodes, before the pack's folder of that name
    patching, checkpoint, _ = load_pack()
    backbone, eraser = load_backbone("demo"), checkpoint.load_eraser(ROOT / "demo/erasers/demo_cat.safetensors")
    control, losses = train(backbone, arguments.iterations)
    mean = lambda part: round(sum(part) / max(1, len(part)), 4)
    report = {"iterations": arguments.iterations, "loss_first": mean(losses[:30]), "loss_last": mean(losses[-30:])}
    print(report, f"{time.time() - started:.0f} s", flush=True)
    report["rows"] = measure(backbone, load_judge(), patching.erase(backbone.model, eraser, 1.0), control, arguments.seeds)
    report |= {"steps": STEPS, "cfg": CFG, "seconds": round(time.time() - started), "command": "python benchmarks/controlnet.py"}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    pages.wrote(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
