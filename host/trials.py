"""ComfyUI's own parts for timing: a model of random weights, a guider, a LoRA by core's loader, a pack imported as at the start."""

import time
from typing import Any

import torch

from . import versions


def random_model(
    kind: str, config: dict[str, Any], stored: torch.dtype = torch.float32, compute: torch.dtype | None = None, on_device: bool = False
) -> Any:
    """A MODEL of one of ComfyUI's supported models, of these sizes, with random weights that lie in main memory.

    Args:
        stored, compute: types of the weights and of what is computed; compute None: as stored.
        on_device: computed on ComfyUI's own device, on which the weights are drawn too; else on the CPU.
    """
    import comfy.model_management
    import comfy.model_patcher
    import comfy.supported_models

    cpu = torch.device("cpu")
    config = versions.flux_sizes(config) if kind.startswith("Flux") else config
    supported = getattr(comfy.supported_models, kind)(dict(config))
    supported.unet_config.update(config)
    supported.set_inference_dtype(stored, None if compute == stored else compute)
    model = supported.get_model({}, "", cpu).requires_grad_(False)
    device = comfy.model_management.get_torch_device() if on_device else cpu
    torch.manual_seed(0)
    for path, parameter in model.diffusion_model.named_parameters():
        deviation = max(1, parameter[0].numel()) ** -0.5
        drawn = torch.empty(parameter.shape, device=device)
        parameter.data.copy_(drawn.fill_(1) if "norm" in path else drawn.normal_(std=deviation))
    return comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=cpu)


def guider_of(model: Any, positive: Any, negative: Any, cfg: float) -> Any:
    """What samples with a MODEL."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


def put_lora(model: Any, lora: dict[str, torch.Tensor]) -> None:
    """A LoRA in the weights in place of the one before, as core's loader and the host put it there."""
    import comfy.model_management
    import comfy.sd

    clone, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    comfy.model_management.load_models_gpu([clone])


async def import_packs(*packs: str) -> list[float]:
    """Seconds of the process's own that the import of each pack takes, behind that of the host's own nodes.

    Raises ImportError where the host could not import one of them.
    """
    import utils.extra_config  # noqa: F401  as main.py does, before a folder of that name is found elsewhere

    import nodes  # ComfyUI's own module of that name

    await nodes.init_builtin_extra_nodes()
    seconds = []
    for pack in packs:
        started = time.process_time()
        if not await nodes.load_custom_node(pack, module_parent="custom_nodes"):
            raise ImportError(f"ComfyUI could not import {pack}: its log says why")
        seconds.append(time.process_time() - started)
    return seconds
