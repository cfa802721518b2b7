"""A ControlNet for the demo base, of ComfyUI's own class."""

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_management
import comfy.ops
import torch

from .base import UNET


def new_controlnet(unet, output: float = 0.0) -> comfy.controlnet.ControlNet:
    """As real ones start: the UNet's encoder, a hint path of random weights, output convolutions of this size (0: no effect)."""
    sizes = {k: v for k, v in UNET.items() if k not in ("out_channels", "transformer_depth_output")}
    device = comfy.model_management.get_torch_device()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = comfy.cldm.cldm.ControlNet(**sizes, num_heads=4, hint_channels=3, device=device, operations=comfy.ops.disable_weight_init)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.zeros_(parameter)
            elif "zero_convs" in name or "middle_block_out" in name:
                torch.nn.init.normal_(parameter, std=output)
            elif name.startswith("input_hint_block"):
                torch.nn.init.kaiming_normal_(parameter)
    model.load_state_dict({k: v for k, v in unet.state_dict().items() if k in model.state_dict()}, strict=False)
    model.requires_grad_(False).eval()
    return comfy.controlnet.ControlNet(model, load_device=device)
