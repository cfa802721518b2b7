"""The switch of an eraser: misses and false alarms on prompts that its training never saw, and safe pictures to the bit."""

import torch
from scipy.stats import beta

from . import measure
from .methods import Method

BATCH = 48


def upper(misses: int, n: int) -> float:
    """The upper end of a share's 95 % interval (Clopper, Pearson)."""
    return 1.0 if misses == n else float(beta.ppf(0.975, misses + 1, n - misses))


def rates(backbone, method: Method, erased: list[str], safe: list[str]) -> dict:
    """Share of erased prompts that the switch misses and of safe ones on which it fires, each with its upper bound."""
    result = {}
    for key, texts, wrong in (("misses", erased, lambda fires: ~fires), ("false_alarms", safe, lambda fires: fires)):
        flags = wrong(method.network.fires(backbone.encode(texts).condition()))
        bad = int(flags.sum())
        result |= {key: bad / len(texts), f"{key}_upper": upper(bad, len(texts)), f"{key}_n": len(texts)}
        result[f"{key}_examples"] = [t for t, f in zip(texts, flags.tolist()) if f][:20]
    return result


@torch.inference_mode()
def identical(backbone, method: Method, texts: list[str]) -> dict:
    """Share of safe prompts whose latents are the base model's to the bit, both really sampled."""
    text, empty, count = backbone.encode(texts), backbone.encode([""]), len(texts)
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
    return {"prompts": count, "bit_identical": same / count}
