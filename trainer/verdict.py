"""Whether a training did what it was for, in plain words, measured on prompts and pictures that it did not see.

    erased = 1 - E || eps_theta(z_t, t, c) - eps* ||^2 / scale(t)  /  E || eps - eps* ||^2 / scale(t)

at s = S, the adapter behind its switch: where that does not fire, nothing is reached. Where token states are rewritten too, some of it
is reached without any training; what the steps have made has to move predictions beyond that.
"""

import random
import time
from dataclasses import dataclass, replace
from functools import partial

import torch

from host.backbone import Backbone
from unhype.adapter import Term, adapter
from unhype.condition import parts, stack_conditions
from unhype.hypernetwork import at_strength

from .config import Config
from .data import ANY, Data
from .encoding import encode
from .prompts import held_out
from .prompts.concepts import Prompt, Target, among_words
from .room import most_prompts, thinned_targets
from .run.progress import watched
from .samples import Asked, Samples, draw_samples, drawn_of

FRESH = 104_729  # added to the seed: other noise than any picture of the training's
PICTURES, LEVELS = 8, 4  # of targets, and as many as FEWEST of what is kept; noise levels of each
LONGER, ENOUGH = "Train longer (iterations), raise learning_rate or rank", "It was trained until more steps gained nothing: raise rank"
INSTANT = "Train an adapter (objective direct)"
READINGS = 4  # a prompt is read as it is, mapped, and with others among words and of what is kept
AMONG = 3  # every third prompt stands among other words once more
NOTHING = 1e-3  # of the wanted change: an adapter that moves predictions by less has learned nothing


@dataclass
class Concept:
    """What was measured of one concept, shares in 0..1."""

    erased: float
    misses: float  # prompts that name it on which it does not fire
    false_alarms: float  # prompts that do not, on which it fires
    prompts: int  # that name it
    alarming: list[str]  # some of the false alarms
    rewritten: float = 0.0  # what is reached by rewritten states alone
    learned: float = 1.0  # how far the adapter moves predictions beside them


class HeldOut:
    """The prompts that an eraser is judged by, encoded while the text encoder is at hand: targets, what is safe, and for the
    switch some of both among other words."""

    def __init__(self, config: Config, backbone: Backbone, data: Data, progress):
        erased, seed, seen = config.erased(), config.seed + FRESH, data.seen()
        self.names = [e.name for e in erased]
        every = held_out.targets(erased, seen)
        share = most_prompts(backbone, len(erased)) / (READINGS * len(config.clip_skips) * len(every))
        self.targets = thinned_targets(every, share, random.Random(seed))
        self.safe = held_out.safe(erased, config.retain, config.templates, config.retain_prompts, seen)
        mixed = [t for t in self.targets[::AMONG]]
        self.texts = [*(t.prompt.text for t in self.targets), *self.safe]
        self.texts += among_words([*(t.prompt.text for t in mixed), *self.safe[::AMONG]], data.words, ANY, seed)
        mapped = [t.mapped for t in self.targets]
        others = [skip for skip in config.clip_skips if skip != 1]
        with watched(backbone, "encoding held-out prompts", len(mapped) + len(self.texts) * (1 + len(others)), progress):
            shown = encode(backbone, [*self.texts, *mapped])
            read = {skip: encode(backbone, self.texts, skip).condition() for skip in others}
        count, every = len(self.targets), len(self.texts)
        self.text, self.safe_text = shown.rows(slice(count)), shown.rows(slice(count, count + len(self.safe)))
        self.mapped, self.nothing = shown.rows(slice(every, None)), backbone.encode([""])
        read[1] = shown.rows(slice(every)).condition()
        self.conditions = [read[skip] for skip in config.clip_skips]
        self.named = torch.zeros(every, len(erased), dtype=torch.bool)
        for first, targets in ((0, self.targets), (count + len(self.safe), mixed)):
            for row, target in enumerate(targets, first):
                self.named[row, target.concept] = True


@torch.no_grad()
def firing(network, held: HeldOut) -> torch.Tensor:
    """Which concepts fire on each held-out prompt, of every clip skip, (prompts, K) bool."""
    every, device = stack_conditions(held.conditions), network.least.device
    return torch.cat([network.scores(every.rows(part).to(device)) > network.switch.threshold for part in parts(every)]).cpu()


@torch.no_grad()
def adapted(
    backbone: Backbone, network, config: Config, samples: Samples, text, condition, forced: bool = False, learned: bool = True
) -> torch.Tensor:
    """Predictions for samples at s = S, each row's adapter behind the switch, or on whatever the switch says; not `learned`: with
    rewritten states alone."""
    found = samples.eps.clone()
    for rows in torch.arange(len(samples.x)).split(backbone.rows or config.batch):
        read = condition.rows(samples.prompt[rows]).to(backbone.device)
        on = torch.ones(len(rows), dtype=torch.bool) if forced else network.fires(read).cpu()
        if not on.any():
            continue
        rows, read = rows[on], read.rows(on.to(backbone.device))
        own = text.rows(samples.prompt[rows]).to(backbone.device)
        factors = at_strength(network, read, 1.0)
        factors = factors if learned else [f._replace(up=torch.zeros_like(f.up)) for f in factors]
        with (
            adapter(backbone.diffusion_model, [Term(torch.arange(len(rows)), network.shape.layers, factors)], len(rows)),
            torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"),
        ):
            x, sigma = samples.x[rows].to(backbone.device), samples.sigma[rows].to(backbone.device)
            found[rows] = backbone.predict(x, sigma, own.tokens, own.pooled, own.mask).float().cpu()
    return found


def distance(a: torch.Tensor, b: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (a - b).square().mean((1, 2, 3)) / scale


def asked_for(config: Config) -> int:
    """How many rows the denoiser is asked for, at most: what the switch leaves alone is not."""
    steps, sides = -(-config.sampling_steps // 2), 2 if config.cfg != 1 else 1
    levels = min(LEVELS, config.kept_steps, steps)
    targets, stays = drawn_of(PICTURES, len(config.erase)), drawn_of(1, 1)
    return targets * (steps * sides + 4 * levels) + stays * (steps * sides + 2 * levels)


def measure(config: Config, backbone: Backbone, network, held: HeldOut, progress) -> tuple[list[Concept], dict]:
    """Every concept's figures, and those of what is kept: the share of prompts left exactly alone, and how far predictions
    would move with the switch forced on, as a share of an erasure."""
    steps = -(-config.sampling_steps // 2)  # no picture is looked at
    levels = min(LEVELS, config.kept_steps, steps)
    config = replace(config, pictures=PICTURES, sampling_steps=steps, kept_steps=levels, seed=(config.seed + FRESH) % 2**63)
    silent, count = lambda text: None, len(held.targets)
    drawn = draw_samples(backbone, config, Asked(held.targets, held.text, held.mapped, held.nothing), False, silent, True)
    kept = [Target(Prompt(text, False), text, (0,)) for text in held.safe]
    stays = draw_samples(
        backbone, replace(config, pictures=1), Asked(kept, held.safe_text, held.safe_text, held.nothing), False, silent, True
    )
    condition = held.conditions[0]
    whole = distance(drawn.eps, drawn.eps_star, drawn.scale)
    ask = partial(adapted, backbone, network, config, drawn, held.text, condition)
    found, before = ask(), ask(learned=False) if network.rewriting else drawn.eps
    left, unlearned, added = (distance(a, b, drawn.scale) for a, b in ((found, drawn.eps_star), (before, drawn.eps_star), (found, before)))
    forced = adapted(backbone, network, config, stays, held.safe_text, condition.rows(slice(count, None)), forced=True)
    level = (stays.sigma[:, None] - drawn.sigma).abs().argmin(1)
    moved = distance(forced, stays.eps, drawn.scale[level]).mean() / whole.mean()
    fires = firing(network, held)
    named = held.named.repeat(len(held.conditions), 1)
    concepts = []
    for k in range(len(held.names)):
        own, mine = drawn.concept == k, named[:, k]
        wrong = (fires[:, k] & ~mine).nonzero().flatten()
        share = lambda of: round((of[own].sum() / whole[own].sum().clamp_min(1e-12)).item(), 4)
        concepts.append(
            Concept(
                1 - share(left),
                1 - fires[mine, k].float().mean().item(),
                len(wrong) / int((~mine).sum()),
                int(mine.sum()),
                [held.texts[row % len(held.texts)] for row in wrong[:3].tolist()],
                1 - share(unlearned),
                share(added),
            )
        )
    alone = 1 - fires[~named.any(1)].any(1).float().mean().item()
    return concepts, {"left_alone": alone, "moved_if_forced": moved.item()}


def shortcomings(config: Config, name: str, found: Concept) -> list[str]:
    """The bars of the config that a concept misses, and what to do about each; iterations 0: a training came to its end by itself."""
    failed = []
    if found.misses > config.most_misses:
        failed.append(
            f"{name!r}: the switch misses {found.misses:.1%} of the prompts that name it, at most {config.most_misses:.1%} are allowed. "
            'The text encoder hardly knows it: name it by other or more words ("cat, kitty -> forest"), or give it more templates'
        )
    if found.false_alarms > config.most_false_alarms:
        shown = ", ".join(repr(text) for text in found.alarming)
        failed.append(
            f"{name!r}: the switch fires on {found.false_alarms:.1%} of the prompts that do not name it, "
            f"at most {config.most_false_alarms:.1%} are allowed ({shown}). Add what it is taken for to retain, or name it by other words"
        )
    longer = INSTANT if not config.trains() else LONGER if config.iterations else ENOUGH
    if config.least_erased and not found.erased >= config.least_erased:
        failed.append(
            f"{name!r}: {round(found.erased, 2) + 0.0:.0%} of the wanted change is reached, "
            f"at least {config.least_erased:.0%} is expected. "
            f"{longer}, or map it to something that the model draws clearly"
        )
    elif config.trains() and config.least_erased and found.learned < NOTHING:
        failed.append(
            f"{name!r}: the trained adapter does nothing. What is reached, {found.rewritten:.0%} of the wanted change, comes from token "
            "states that are rewritten, which takes no training (objective rewriting). Raise learning_rate"
        )
    return failed


def judge(config: Config, backbone: Backbone, network, held: HeldOut, progress, warnings: list[str] = ()) -> dict:
    """The verdict, said line by line, and as what the eraser file keeps of it; `warnings` are those that the training has given, which
    are said again where it failed."""
    started = time.time()
    concepts, kept = measure(config, backbone, network, held, progress)
    failed = [line for name, found in zip(held.names, concepts) for line in shortcomings(config, name, found)]
    progress("verdict, on prompts and pictures that the training did not see:")
    for name, found in zip(held.names, concepts):
        progress(
            f"  {name!r}: {round(found.erased, 2) + 0.0:.0%} of the wanted change reached; "
            f"the switch misses {found.misses:.1%} of {found.prompts} prompts, {found.false_alarms:.1%} false alarms"
        )
    progress(
        f"  kept: {kept['left_alone']:.1%} of the other prompts left exactly alone; "
        f"with the switch forced on they would move by {kept['moved_if_forced']:.1%} of an erasure"
    )
    for line in failed:
        progress(f"  FAILED {line}")
    for warning in warnings if failed else ():
        progress(f"  warned of before: {warning}")
    missed = f"{len(failed)} bar{'s' * (len(failed) > 1)} missed"
    progress(f"verdict: FAILED, {missed}: do not rely on this eraser" if failed else "verdict: passed")
    figures = ("erased", "misses", "false_alarms", "prompts")
    return {
        "passed": not failed,
        "concepts": {name: {f: round(getattr(found, f), 4) for f in figures} for name, found in zip(held.names, concepts)},
        **{name: round(value, 4) for name, value in kept.items()},
        "seconds": round(time.time() - started, 1),
    }
