"""What an eraser's tensors may hold: numbers far beyond any trained one would draw noise, or nothing at all."""

import re
from pathlib import Path

import torch

from .condition import EPS
from .header import CheckpointError
from .hypernetwork import LONGEST

# Name -> lowest and highest value, in files of trained erasers: deviations of 0.4 to 2.6 (EPS at the least, where a channel
# never changes), means up to 5, thresholds of 0 to 2 between scores of -10 to 10, lengths of 4 to 8, weights up to 4.
RANGES = (
    (r"standardise\..*_deviation", EPS / 2, 1e5),
    (r"standardise\..*_mean", -1e5, 1e5),
    (r"least", 0.0, LONGEST),
    (r".*", -1e3, 1e3),
)
AGAIN = "The training diverged or the file is damaged: train or download it again"


def check_values(path: Path, tensors: dict[str, torch.Tensor], otherwise: str = AGAIN) -> None:
    """Raise CheckpointError, which ends with `otherwise`, unless every number is finite and within its range."""
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{path}: tensor {name} holds NaN or infinite values in {tensor.dtype}. {otherwise}")
        low, high = next((low, high) for pattern, low, high in RANGES if re.fullmatch(pattern, name))
        wrong = (tensor < low) | (tensor > high)
        if wrong.any():
            raise CheckpointError(
                f"{path}: tensor {name} holds {tensor[wrong][0].item():g}, expected numbers from {low:g} to {high:g}. {otherwise}"
            )
