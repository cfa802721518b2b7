"""What ComfyUI itself does, to time the nodes against: a model of its, importing a pack, loading a LoRA, guiding a sampler."""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any


async def import_seconds(pack: Path) -> float:
    """By how many seconds importing the pack takes longer than importing an empty one, the host's own nodes imported before.

    Raises ImportError where the host could not import one of them.
    """
    import utils.extra_config  # noqa: F401  as main.py does, before a folder of that name is found elsewhere

    import nodes

    sys.path.remove(str(pack))  # as in a host
    await nodes.init_builtin_extra_nodes()
    with tempfile.TemporaryDirectory() as empty:
        Path(empty, "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
        seconds = []
        for folder in (empty, str(pack)):
            started = time.process_time()
            if not await nodes.load_custom_node(folder, module_parent="custom_nodes"):
                raise ImportError(f"ComfyUI could not import {folder}: its log says why")
            seconds.append(time.process_time() - started)
    return seconds[1] - seconds[0]


def load_lora(model: Any, lora: dict[str, Any]) -> None:
    """Load a LoRA's tensors into the weights of a ModelPatcher, as core's loader and the sampler after it do."""
    import comfy.model_management
    import comfy.sd

    clone, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)
    comfy.model_management.load_models_gpu([clone])


def guider(model: Any, positive: list[Any], negative: list[Any], cfg: float) -> Any:
    """A sampler's guider, as KSampler has it."""
    import comfy.samplers

    found = comfy.samplers.CFGGuider(model)
    found.set_conds(positive, negative)
    found.set_cfg(cfg)
    return found


def random_model(kind: str, config: dict[str, Any]) -> Any:
    """A ModelPatcher of a class of comfy.supported_models, on the CPU in fp32, its weights at random."""
    import comfy.model_patcher
    import comfy.supported_models
    import torch

    supported = getattr(comfy.supported_models, kind)(dict(config))
    supported.unet_config.update(config)
    supported.set_inference_dtype(torch.float32, None)
    model = supported.get_model({}, "", torch.device("cpu")).requires_grad_(False)
    torch.manual_seed(0)
    for path, parameter in model.diffusion_model.named_parameters():
        parameter.data.fill_(1) if "norm" in path else parameter.data.normal_(std=max(1, parameter[0].numel()) ** -0.5)
    return comfy.model_patcher.ModelPatcher(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
