"""z_t: the base model's own noisy latents of the target prompts, with the two predictions that make the target, and of anchors.

Anchors are retain prompts that the denoiser is asked for while it carries the adapter of a target prompt: its prediction is to
stay the base model's (latent anchoring, SPM, arXiv 2312.16145). On Flux, whose adapted layers see the picture too, the adapter
of "a cat and a rabbit" changes the rabbit as well without them. On Stable Diffusion, where they see only the prompt, they cost
more others than they save.
"""

import hashlib
import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from host.backbone import Backbone
from host.encode import Text
from unhype.condition import Condition

from .config import Config
from .objectives import guided_target
from .prompts.concepts import Target
from .run import processes
from .run.content import content_of
from .run.divergence import refuse_nan
from .run.progress import Progress
from .run.sealed import Damaged, read_sealed, write_sealed

# What the samples depend on beside the base's content; another value of one of these makes another cache.
DEPENDS = (
    "erase",
    "templates",
    "retain",
    "retain_prompts",
    "size",
    "pair_size",
    "pictures",
    "pair_prompts",
    "templates_for",
    "add_to",
    "sampling_steps",
    "cfg",
    "kept_steps",
    "seed",
    "autocast",
)
SMALLEST_LEVEL = 0.1
FEWEST = 4  # pictures of a concept, and again of its pairs
ANCHORED = 0.1  # what an anchor may change, as a share of what its noise level's targets are to


@dataclass
class Asked:
    """Prompts of which pictures are drawn, encoded; anchors become themselves."""

    targets: list[Target]
    text: Text
    mapped: Text
    nothing: Text  # the empty prompt, one row: where pictures are drawn the text encoder may be gone


@dataclass
class Labels:
    """Which concepts prompts name, and which of them are switched off: (N, K) bool."""

    named: torch.Tensor
    off: torch.Tensor

    def rows(self, index) -> "Labels":
        return Labels(self.named[index], self.off[index])

    def some_off(self, rng: torch.Generator) -> torch.Tensor:
        """`off`, in half of the rows joined by concepts that the prompt does not name, each at even odds."""
        some = torch.rand(len(self.off), 1, generator=rng) < 0.5
        return self.off | (some & ~self.named & (torch.rand(self.off.shape, generator=rng) < 0.5))


@dataclass
class Batch:
    """What one training step sees of the task."""

    x: torch.Tensor  # (N, C, H, W) noisy latents
    sigma: torch.Tensor  # (N,)
    context: torch.Tensor  # (N, T, D) token states that the denoiser attends to
    pooled: torch.Tensor  # (N, P) and their pooled embedding
    condition: Condition
    off: torch.Tensor  # (N, K) bool, concepts switched off
    s: torch.Tensor  # (N,) steps in 0..S
    eps: torch.Tensor  # the frozen model's prediction for the target prompt
    eps_star: torch.Tensor  # what it is to become
    scale: torch.Tensor  # (N,)
    mask: torch.Tensor | None = None  # (N, T) of the context, of families whose denoiser heeds it

    def rows(self, index) -> "Batch":
        return self.each(lambda value: value.rows(index) if isinstance(value, Condition) else value[index])

    def to(self, device) -> "Batch":
        return self.each(lambda value: value.to(device))

    def each(self, change) -> "Batch":
        return Batch(**{name: change(value) for name, value in vars(self).items() if value is not None})


@dataclass
class Samples:
    """Latents of one picture size, with their prompts and predictions."""

    x: torch.Tensor  # (M, C, H, W)
    sigma: torch.Tensor  # (M,)
    prompt: torch.Tensor  # (M,) long, into the target prompts
    concept: torch.Tensor  # (M,) long
    eps: torch.Tensor
    eps_star: torch.Tensor
    scale: torch.Tensor  # (M,) mean |eps* - eps|^2 at that noise level

    def balanced(self, size: int, rng: torch.Generator) -> torch.Tensor:
        """Random rows, every concept as likely as any other."""
        return torch.multinomial(1 / torch.bincount(self.concept).float()[self.concept], size, replacement=True, generator=rng)


def cache_key(config: Config, targets: list[Target], own: bool = False, content: str = "") -> str:
    prompts = [(t.prompt.text, t.mapped, guidance_of(t, config)) for t in targets]
    return hashlib.sha256(repr(([getattr(config, name) for name in DEPENDS], prompts, own, content)).encode()).hexdigest()


def cached_samples(
    backbone: Backbone, config: Config, asked: Asked, anchors: Asked | None, path: Path, progress, own: bool
) -> list[Samples]:
    """The targets' samples of both picture sizes and then the anchors', from the cache file at `path` where it was made with
    the same settings, of the same base.

    `own` as draw_samples has it. Raises ValueError where the base gives NaN; nothing of that is kept.
    """
    texts = [asked.text, asked.mapped, asked.nothing, *([anchors.text] if anchors else [])]
    key = cache_key(config, asked.targets + (anchors.targets if anchors else []), own, content_of(backbone, texts, config.sampling_steps))
    kept = None
    if path.exists():
        try:
            kept = read_samples(path, key, max(len(asked.targets), len(anchors.targets) if anchors else 0))
        except Damaged as error:
            progress(f"{error}: sampling again")
    if not processes.any_of(kept is None):
        return kept
    made = [draw_samples(backbone, config, asked, pair, progress, own) for pair in (False, True) if by_concept(asked.targets, pair)]
    if anchors:
        made.append(draw_anchors(backbone, config, anchors, made[0], progress))
    tensors = {f"{i}.{name}": value.contiguous() for i, s in enumerate(made) for name, value in vars(s).items()}
    for value in tensors.values():
        refuse_nan(value, config, "where it draws its own pictures")
    if processes.first():
        write_sealed(tensors, path, {"key": key})
    return made


def read_samples(path: Path, key: str, prompts: int) -> list[Samples]:
    """The samples of a cache file, of so many prompts at most. Raises Damaged, naming the file, where it was made otherwise or does not
    hold what was written."""
    names = Samples.__dataclass_fields__

    def judge(metadata, found):
        if metadata.get("key") != key:
            raise Damaged(f"{path} is of another base model or other settings")
        kinds = len(found) // len(names)
        if not kinds or found.keys() != {f"{i}.{name}" for i in range(kinds) for name in names}:
            raise Damaged(f"{path} is damaged: it does not hold samples")
        for i in range(kinds):
            of = {name: found[f"{i}.{name}"] for name in names}
            count = of["x"][1][:1]
            latents, numbers, whole = (torch.float32, of["x"][1]), (torch.float32, count), (torch.int64, count)
            expected = dict(x=latents, eps=latents, eps_star=latents, sigma=numbers, scale=numbers, prompt=whole, concept=whole)
            if of != expected or len(of["x"][1]) != 4 or not count[0]:
                raise Damaged(f"{path} is damaged: its samples do not fit together")

    tensors, _ = read_sealed(path, judge)
    found = [Samples(*(tensors[f"{i}.{name}"] for name in names)) for i in range(len(tensors) // len(names))]
    for numbers in (n for s in found for n in (s.prompt, s.concept)):
        if int(numbers.min()) < 0 or int(numbers.max()) >= prompts:
            raise Damaged(f"{path} is damaged: it holds samples of prompts that there are not")
    return found


def guidance_of(target: Target, config: Config) -> float:
    """How far beyond the mapping concept the target is led."""
    return config.pair_guidance if target.beside else config.guidance


def by_concept(targets: list[Target], pair: bool) -> dict[int, list[int]]:
    """The target prompts of one kind, concept by concept."""
    found: dict[int, list[int]] = {}
    for index, target in enumerate(targets):
        if target.prompt.pair == pair:
            found.setdefault(target.concept, []).append(index)
    return found


def drawn_of(pictures: int, concepts: int) -> int:
    """How many pictures are drawn of one size: as many of every concept, and FEWEST at least."""
    return max(FEWEST, -(-pictures // concepts)) * concepts


def picture_order(targets: list[Target], pair: bool, count: int, rng: random.Random) -> list[int]:
    """Which target prompts are drawn: `count`, but FEWEST of every concept at least, the concepts in turn."""
    of_concept = by_concept(targets, pair)
    rounds = drawn_of(count, len(of_concept)) // len(of_concept)
    drawn = {c: [p for _ in range(rounds // len(ps) + 1) for p in rng.sample(ps, len(ps))][:rounds] for c, ps in of_concept.items()}
    return [drawn[c][r] for r in range(rounds) for c in of_concept]


@torch.no_grad()
def draw_samples(backbone: Backbone, config: Config, asked: Asked, pair: bool, progress, own: bool, what: str = "") -> Samples:
    """Sample pictures of the target prompts and keep noisy latents on the way, then predict both sides once.

    Unless `own`, at every second noise level, of pairs at the first, each latent is asked not for its picture's prompt but
    for another one of the concept: with a dozen concepts the pictures are four each, and an eraser that has seen no more
    prompts than that leaves the concept in styles that it never saw. Of pairs the later latents hold the thing that stays.
    """
    targets, text, mapped = asked.targets, asked.text, asked.mapped
    order = picture_order(targets, pair, config.pictures, random.Random(config.seed))
    count = len(order)
    keep = [round(i * config.sampling_steps / config.kept_steps) for i in range(config.kept_steps)]
    guidance = torch.tensor([guidance_of(t, config) for t in targets])
    alike, rng = by_concept(targets, pair), random.Random(config.seed + 1)
    parts, starts = [], range(0, count, config.batch)
    mine = processes.mine(len(starts)).tolist() if len(starts) >= processes.count() else range(len(starts))
    levels = len(set(keep))
    what = what or ("pictures of pairs" if pair else "pictures")
    progress(f"sampling {count} {what}")
    bar = Progress(f"sampling {what}", count, unit="picture", say=progress)
    for turn, start in enumerate(starts):
        rows = order[start : start + config.batch]
        another = [not own and (level == 0 if pair else level % 2 == 0) for level in range(levels)]
        asked_for = [[rng.choice(alike[targets[r].concept]) for r in rows] if other else rows for other in another]
        if turn not in mine:
            continue
        negative = asked.nothing.repeated(len(rows))
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
            kept = backbone.sample(
                text.rows(rows).conditioning(),
                negative.conditioning(),
                config.size_of(pair),
                config.seed + start,
                config.sampling_steps,
                config.cfg,
                keep=keep,
            )
            for prompts, (x, sigma) in zip(asked_for, kept):
                sigmas = torch.full((len(rows),), sigma, device=x.device)
                predict = lambda t: backbone.predict(x, sigmas, t.tokens, t.pooled, t.mask).float()
                eps = predict(text.rows(prompts).to(x.device))
                eps_mapped = eps if mapped is text else predict(mapped.rows(prompts).to(x.device))
                concept = torch.tensor([targets[r].concept for r in rows])
                eps_star = guided_target(eps_mapped, eps, guidance[prompts].view(-1, 1, 1, 1).to(x.device))
                kept_rows = (x.float(), sigmas, torch.tensor(prompts), concept, eps, eps_star)
                parts.append(tuple(t.cpu() for t in kept_rows))
        bar.advance(len(rows))
    bar.close()
    made = [torch.cat(p) for p in zip(*parts)]
    if len(mine) < len(starts):
        numbers = torch.arange(len(made[0])) + levels * starts[mine[0]]
        made = [processes.whole(part, numbers, levels * count) for part in made]
    x, sigma, prompt, concept, eps, eps_star = made
    return Samples(x, sigma, prompt, concept, eps, eps_star, level_scale((eps_star - eps).square().mean((1, 2, 3)), sigma, backbone.flow))


def draw_anchors(backbone: Backbone, config: Config, anchors: Asked, targets: Samples, progress) -> Samples:
    """Half as many pictures of anchors as of targets, of one picture size, and their scale by that of the targets' samples."""
    few = replace(config, pictures=max(1, config.pictures // 2))
    found = draw_samples(backbone, few, anchors, False, progress, False, "pictures of anchors")
    level = (found.sigma[:, None] - targets.sigma).abs().argmin(1)
    return replace(found, scale=ANCHORED * targets.scale[level])


def level_scale(change, sigma, flow: bool = False):
    """Mean change per noise level, (M,), raised where it is small: late steps change little and must not rule the loss.

    Compared as v-prediction would have it, (1 + sigma^2) |eps* - eps|^2, or as the velocity that a flow model predicts, no
    level counts for less than a tenth of the largest.
    """
    v = torch.ones_like(sigma) if flow else 1 + sigma**2
    mean = torch.stack([change[sigma == value].mean() for value in sigma]) * v
    return mean.clamp_min(max(SMALLEST_LEVEL * mean.max().item(), 1e-12)) / v
