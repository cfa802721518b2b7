"""ComfyUI's own parts for timing: a model of random weights, a guider, a LoRA by core's loader, a pack imported as at the start."""

import time
from typing import Any

import torch


def random_model(kind: str, config: dict[str, Any]) -> Any:
    """A MODEL of one of ComfyUI's supported models on the CPU, of these sizes, with random weights."""
    import comfy.model_patcher
    import comfy.supported_models

    supported = getattr(comfy.supported_models, kind)(dict(config))
    supported.unet_config.update(config)
    supported.set_inference_dtype(torch.float32, None)
    model = supported.get_model({}, "", torch.device("cpu")).requires_grad_(False)
    torch.manual_seed(0)
    for path, parameter in model.diffusion_model.named_parameters():
        parameter.data.fill_(1) if "norm" in path else parameter.data.normal_(std=max(1, parameter[0].numel()) ** -0.5)
    return comfy.model_patcher.ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


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
