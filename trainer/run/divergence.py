"""Values that are no numbers any more, and whose fault that is: the base model's own, or the training's."""

from typing import NoReturn

import torch

from ..settings.fields import Config

ADVICE = "lower learning_rate, guidance or eta"


class Diverged(RuntimeError):
    pass


def refuse_nan(own: torch.Tensor, config: Config, where: str) -> None:
    """Raise ValueError where what the base model gives by itself is not finite; no setting of a training mends that."""
    if not own.isfinite().all():
        half = " or autocast: none" if config.autocast == "bf16" else ""
        raise ValueError(
            f"base model {config.base} gives NaN or infinite values by itself, {where}: "
            "its file is damaged, or its numbers are too large for its precision. "
            f"Try the file in another precision (fp32 or bf16 in place of fp16){half}, or download it again"
        )


@torch.no_grad()
def check_base(backbone, config: Config, x, sigma, context, pooled, mask, where: str) -> None:
    """Raise ValueError where the base model's prediction for these inputs (as Backbone.predict has them) is not finite."""
    with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
        refuse_nan(backbone.predict(x, sigma, context, pooled, mask), config, where)


def diverged(backbone, config: Config, batch, where: str) -> NoReturn:
    """Raise for a samples.Batch whose loss is no number: ValueError where the base alone gives none either, Diverged otherwise."""
    check_base(backbone, config, batch.x, batch.sigma, batch.context, batch.pooled, batch.mask, f"without an eraser, {where}")
    raise Diverged(f"the training diverged {where}: {ADVICE}")
