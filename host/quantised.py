"""Files with quantised weights: what their tensors are in full, by their names, types and shapes alone."""

import torch
from torch import Tensor

# What lies beside a quantised weight: scaled fp8 as it was until ComfyUI 0.3.75, comfy_quant (fp8, mxfp8, nvfp4) since.
BESIDE = (".comfy_quant", ".weight_scale", ".weight_scale_2", ".input_scale", ".scale_weight", ".scale_input")
MARK = "scaled_fp8"
FEW_BITS = torch.float8_e4m3fn  # whatever the kind: fewer bits than are computed with


def unquantised(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors on the meta device as if none were quantised, weights with as many columns as their layer has inputs.

    nvfp4, told by its second scale, holds two numbers a byte.
    """
    found = {}
    for name, tensor in tensors.items():
        if name.endswith(BESIDE) or name.rpartition(".")[2] == MARK:
            continue
        scales = [kind for kind in BESIDE if name.endswith(".weight") and name.removesuffix(".weight") + kind in tensors]
        if scales:
            packed = 2 if ".weight_scale_2" in scales else 1
            tensor = torch.empty(*tensor.shape[:-1], packed * tensor.shape[-1], dtype=FEW_BITS, device="meta")
        found[name] = tensor
    return found
