"""z_t: the base model's own noisy latents of the target prompts, with the two predictions that make the target."""

import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from unhype.checkpoint import write_atomically
from unhype.condition import Condition

from .backbone import Backbone, Text
from .concepts import Target
from .config import Config
from .objectives import guided_target

# What the samples depend on; another value of one of these makes another cache.
DEPENDS = (
    "base",
    "erase",
    "templates",
    "retain",
    "size",
    "pair_size",
    "pictures",
    "sampling_steps",
    "cfg",
    "kept_steps",
    "guidance",
    "seed",
    "autocast",
)
SMALLEST_LEVEL = 0.1


@dataclass
class Batch:
    """What one training step sees of the task."""

    x: torch.Tensor  # (N, C, H, W) noisy latents
    sigma: torch.Tensor  # (N,)
    context: torch.Tensor  # (N, T, D) token states of the target prompts
    condition: Condition
    s: torch.Tensor  # (N,) steps in 0..S
    eps: torch.Tensor  # the frozen model's prediction for the target prompt
    eps_star: torch.Tensor  # what it is to become
    scale: torch.Tensor  # (N,)

    def to(self, device) -> "Batch":
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


@dataclass
class Samples:
    """Latents of one picture size, with their prompts and predictions."""

    x: torch.Tensor  # (M, C, H, W)
    sigma: torch.Tensor  # (M,)
    prompt: torch.Tensor  # (M,) long, into the target prompts
    eps: torch.Tensor
    eps_star: torch.Tensor
    scale: torch.Tensor  # (M,) mean |eps* - eps|^2 at that noise level

    def batch(self, size: int, text: Text, conditions: list[Condition], total_steps: int, rng: torch.Generator) -> Batch:
        """A random batch; half of its rows at s = S, the others anywhere below, each of any clip skip's condition."""
        rows = torch.randint(len(self.x), (size,), generator=rng)
        prompts = self.prompt[rows]
        s = torch.rand(size, generator=rng) * total_steps
        s[torch.rand(size, generator=rng) < 0.5] = total_steps
        which = int(torch.randint(len(conditions), (), generator=rng))
        return Batch(
            self.x[rows],
            self.sigma[rows],
            text.tokens[prompts],
            conditions[which].rows(prompts),
            s,
            self.eps[rows],
            self.eps_star[rows],
            self.scale[rows],
        )


def cache_key(config: Config) -> str:
    return hashlib.sha256(repr([getattr(config, name) for name in DEPENDS]).encode()).hexdigest()


def cached_samples(
    backbone: Backbone, config: Config, targets: list[Target], text: Text, mapped: Text, path: Path, progress
) -> list[Samples]:
    """The samples of both picture sizes, from the cache file at `path` where it was made with the same settings."""
    from safetensors import safe_open

    key, names = cache_key(config), Samples.__dataclass_fields__
    if path.exists():
        try:
            with safe_open(path, framework="pt") as file:
                fresh = (file.metadata() or {}).get("key") == key
            if fresh:
                tensors = load_file(path)
                return [Samples(*(tensors[f"{i}.{name}"] for name in names)) for i in range(len(tensors) // len(names))]
        except Exception as error:  # a cache that cannot be read is only made again
            progress(f"cache {path} is not usable ({error}), sampling again")
    made = [
        draw_samples(backbone, config, [i for i, t in enumerate(targets) if t.prompt.pair == pair], pair, text, mapped, progress)
        for pair in (False, True)
        if any(t.prompt.pair == pair for t in targets)
    ]
    write_atomically({f"{i}.{name}": getattr(s, name).contiguous() for i, s in enumerate(made) for name in names}, path, {"key": key})
    return made


@torch.no_grad()
def draw_samples(backbone: Backbone, config: Config, prompts: list[int], pair: bool, text: Text, mapped: Text, progress) -> Samples:
    """Sample pictures of the target prompts and keep noisy latents on the way, then predict both sides once."""
    rng = random.Random(config.seed)
    count = max(1, config.pictures // 2) if pair else config.pictures
    order = [p for _ in range(count // len(prompts) + 1) for p in rng.sample(prompts, len(prompts))][:count]
    keep = [round(i * config.sampling_steps / config.kept_steps) for i in range(config.kept_steps)]
    empty = backbone.encode([""])
    parts = []
    for start in range(0, count, config.batch):
        rows = order[start : start + config.batch]
        progress(f"sampling {'pairs' if pair else 'pictures'}: {start + len(rows)} of {count}")
        negative = empty.repeated(len(rows))
        kept = backbone.sample(
            text.rows(rows).conditioning(),
            negative.conditioning(),
            config.size_of(pair),
            config.seed + start,
            config.sampling_steps,
            config.cfg,
            keep=keep,
        )
        for x, sigma in kept:
            sigmas = torch.full((len(rows),), sigma, device=x.device)
            with torch.autocast(x.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
                eps = backbone.predict(x, sigmas, text.tokens[rows]).float()
                eps_mapped = backbone.predict(x, sigmas, mapped.tokens[rows]).float()
            kept_rows = (x, sigmas, torch.tensor(rows), eps, guided_target(eps_mapped, eps, config.guidance))
            parts.append(tuple(t.cpu() for t in kept_rows))
    x, sigma, prompt, eps, eps_star = (torch.cat(p) for p in zip(*parts))
    return Samples(x, sigma, prompt, eps, eps_star, level_scale((eps_star - eps).square().mean((1, 2, 3)), sigma))


def level_scale(change, sigma):
    """Mean change per noise level, (M,), raised where it is small: late steps change little and must not rule the loss.

    Compared as v-prediction would have it, (1 + sigma^2) |eps* - eps|^2, no level counts for less than a tenth of
    the largest.
    """
    v = 1 + sigma**2
    mean = torch.stack([change[sigma == value].mean() for value in sigma]) * v
    return mean.clamp_min(max(SMALLEST_LEVEL * mean.max().item(), 1e-12)) / v
