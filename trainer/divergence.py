"""A training whose loss is no number any more, and whose fault that is."""

import torch

from .config import Config
from .samples import Batch


class Diverged(RuntimeError):
    pass


@torch.no_grad()
def divergence(backbone, config: Config, batch: Batch, where: str) -> Exception:
    """What to raise: a base that gives NaN by itself is not the training's fault."""
    with torch.autocast(backbone.device.type, torch.bfloat16, enabled=config.autocast == "bf16"):
        own = backbone.predict(batch.x, batch.sigma, batch.context, batch.pooled)
    if own.isfinite().all():
        return Diverged(f"the training diverged {where}: lower learning_rate, guidance or eta")
    return ValueError(
        f"base model {config.base} gives NaN or infinite values by itself, without an eraser, {where}: "
        "its file is damaged, or its weights are too large for half precision. Download it again or choose another one"
    )
