"""Weights that were loaded inside torch.inference_mode, as ComfyUI's nodes are run, made ones that gradients can pass by."""

from typing import Any

import torch
from torch import Tensor, nn


def tracked(tensor: Tensor) -> bool:
    """Whether autograd can keep it. It can keep neither a tensor of inference mode that was moved since, which then only lacks a version,
    nor a new Parameter of one, which has a version."""
    try:
        return not tensor.is_inference() and tensor._version >= 0
    except RuntimeError:
        return False


def plain(tensor: Tensor) -> Tensor:
    """An ordinary tensor of the same numbers in the same memory; a quantised one is copied."""
    if type(tensor) not in (Tensor, nn.Parameter):
        return tensor.detach().clone()
    same = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return same.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())


def allow_autograd(module: nn.Module) -> None:
    """From now on the module's parameters and buffers are ordinary ones, to the bit what they were. A no-op where they are."""
    if torch.is_inference_mode_enabled():
        return
    made: dict[int, Tensor] = {}
    for part in module.modules():
        kinds: list[dict[str, Any]] = [part._parameters, part._buffers]
        for own in kinds:
            for name, tensor in own.items():
                if tensor is not None and not tensor.is_meta and not tracked(tensor):
                    if id(tensor) not in made:
                        made[id(tensor)] = nn.Parameter(plain(tensor), False) if own is part._parameters else plain(tensor)
                    own[name] = made[id(tensor)]
