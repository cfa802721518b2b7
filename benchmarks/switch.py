"""The switch of an eraser: misses and false alarms on prompts that its training never saw, and safe pictures to the bit."""

import random

import torch
from scipy.stats import beta

from demo.captions import BACKGROUNDS, JOINTS, NOUNS, STYLES, caption
from demo.prompts import HELD_OUT_TEMPLATES
from trainer.words import VOCABULARY

from . import measure
from .methods import Method

BATCH = 48
SENTENCES = (
    "a photo of {a} at night",
    "{a} and {b} in a landscape, highly detailed",
    "portrait of {a}, oil on canvas",
    "an old poster that shows {a}",
    "{a}, {b}, studio light, 35mm",
    "children playing near {a} and {b}",
)


def erased_prompts(nouns: list[str], count: int, seed: int) -> list[str]:
    """Held-out templates, every style and background, every word of the nouns, a third of them beside another noun."""
    rng, found = random.Random(seed), {}
    while len(found) < count:
        n = nouns[len(found) % len(nouns)]
        words = [rng.choice(NOUNS[n][1])]
        if rng.random() < 1 / 3:
            words.insert(rng.randrange(2), rng.choice(NOUNS[rng.choice([o for o in NOUNS if o != n])][1]))
        template, style, background = rng.choice(HELD_OUT_TEMPLATES), rng.choice(STYLES), rng.choice(list(BACKGROUNDS))
        found[caption(template, style, background, *words, joint=rng.choice(JOINTS))] = None
    return list(found)


def safe_prompts(nouns: list[str], trained: list[str], count: int, seed: int) -> list[str]:
    """Other nouns' captions of one and two nouns in held-out templates, ordinary sentences, and words at random.

    `trained` are the concepts that the eraser's training retained: the sentences use none of them.
    """
    rng, found = random.Random(seed), {}
    others = [n for n in NOUNS if n not in nouns]
    taken = {w for n in NOUNS for w in NOUNS[n][1]} | set(trained)
    words = [v for v in VOCABULARY if not set(v.split()) & taken and v not in taken]
    while len(found) < count:
        kind = len(found) % 4
        if kind < 2:
            own = [rng.choice(NOUNS[n][1]) for n in rng.sample(others, 1 + kind)]
            template, style, background = rng.choice(HELD_OUT_TEMPLATES), rng.choice(STYLES), rng.choice(list(BACKGROUNDS))
            text = caption(template, style, background, *own, joint=rng.choice(JOINTS))
        elif kind == 2:
            a, b = rng.sample(words, 2)
            text = rng.choice(SENTENCES).format(a=f"a {a}", b=f"a {b}")
        else:
            text = " ".join(rng.sample(words, rng.randint(2, 12)))
        found[text] = None
    return list(found)


def upper(misses: int, n: int) -> float:
    """The upper end of a share's 95 % interval (Clopper, Pearson)."""
    return 1.0 if misses == n else float(beta.ppf(0.975, misses + 1, n - misses))


def rates(backbone, method: Method, nouns: list[str], trained: list[str], count: int, seed: int) -> dict:
    """Share of erased prompts that the switch misses and of safe ones on which it fires, each with its upper bound."""
    result = {"nouns": nouns}
    for key, texts, wrong in (
        ("misses", erased_prompts(nouns, count, seed), lambda fires: ~fires),
        ("false_alarms", safe_prompts(nouns, trained, count, seed), lambda fires: fires),
    ):
        flags = wrong(method.network.fires(backbone.encode(texts).condition()))
        bad = int(flags.sum())
        result |= {key: bad / len(texts), f"{key}_upper": upper(bad, len(texts)), f"{key}_n": len(texts)}
        result[f"{key}_examples"] = [t for t, f in zip(texts, flags.tolist()) if f][:20]
    return result


@torch.inference_mode()
def identical(backbone, method: Method, nouns: list[str], trained: list[str], count: int, seed: int) -> dict:
    """Share of safe prompts whose latents are the base model's to the bit, both really sampled."""
    texts = safe_prompts(nouns, trained, count, seed)
    text, empty = backbone.encode(texts), backbone.encode([""])
    same = 0
    for start in range(0, count, BATCH):
        rows = list(range(start, min(start + BATCH, count)))
        noise = torch.stack([backbone.noise(measure.SIZE, measure.FIRST_SEED + i) for i in rows])
        conditioning, negative = text.rows(rows).conditioning(), empty.repeated(len(rows)).conditioning()
        a, b = (
            backbone.sample(conditioning, negative, measure.SIZE, start, measure.STEPS, measure.CFG, m, noise=noise)
            for m in (backbone.model, method.model)
        )
        same += int((a == b).flatten(1).all(1).sum())
    return {"nouns": nouns, "prompts": count, "bit_identical": same / count, "seed": seed}
