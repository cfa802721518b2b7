"""Sampling with adapters of one's own choice, without a node."""

from collections.abc import Callable
from typing import Any

import torch

from unhype.adapter import Term, adapter
from unhype.hypernetwork import Factors
from unhype.layers import Layer
from unhype.onset import acting, scaled

from .backbone import Backbone

Rewriting = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def carrying(
    backbone: Backbone, layers: tuple[Layer, ...], rows: torch.Tensor, factors: list[Factors], begin: float = 1.0
) -> Callable[..., torch.Tensor]:
    """Around the denoiser, for ComfyUI to call: its conditional rows `rows` carry `factors` from the noise level `begin` on."""

    def wrapper(apply_model: Callable[..., torch.Tensor], args: dict[str, Any]) -> torch.Tensor:
        x = args["input"]
        each = len(x) // len(args["cond_or_uncond"])
        now = factors
        if begin < 1:
            schedule = args["c"]["transformer_options"].get("sample_sigmas")
            now = scaled(factors, acting(args["timestep"][rows.to(x.device)], schedule, begin, backbone.flow))
        terms = [Term(rows + i * each, layers, now) for i, kind in enumerate(args["cond_or_uncond"]) if kind == 0 and len(rows)]
        with adapter(backbone.diffusion_model, terms, len(x)):
            return apply_model(x, args["timestep"], **args["c"])

    return wrapper


def adapted_sampling(backbone: Backbone, layers: tuple[Layer, ...], rows: torch.Tensor, factors: list[Factors], begin: float = 1.0) -> Any:
    """A clone of the model whose conditional rows `rows` carry `factors` from the noise level `begin` on, for `Backbone.sample`.

    For a plain positive and negative conditioning only; the nodes' patching serves every graph.
    """
    model = backbone.model.clone()
    model.set_model_unet_function_wrapper(carrying(backbone, layers, rows, factors, begin))
    return model


def rewritten_sampling(backbone: Backbone, rewrite: Rewriting) -> Any:
    """A clone of the model that samples with the positive conditioning as `rewrite` makes it of (token states, pooled).

    Plain conditionings only, as above.
    """
    from comfy.patcher_extension import WrappersMP

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        (cond,) = executor.class_obj.conds["positive"]
        cond["cross_attn"], cond["pooled_output"] = rewrite(cond["cross_attn"], cond["pooled_output"])
        return executor(*args, **kwargs)

    clone = backbone.model.clone()
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "rewritten", wrapper)
    return clone


def redrawn(
    backbone: Backbone, latents: torch.Tensor, positive: Any, negative: Any, denoise: float, seed: int, steps: int, cfg: float, model: Any
) -> torch.Tensor:
    """Latents (N, C, h, w) drawn over as a KSampler does at a denoise of 0 to 1: noise of that much, and `steps` steps from there."""
    import comfy.sample
    import comfy.samplers

    sigmas = backbone.sigmas(round(steps / denoise))[-steps - 1 :]
    noise = comfy.sample.prepare_noise(latents, seed)
    sampler = comfy.samplers.sampler_object("euler")
    drawn: torch.Tensor = comfy.sample.sample_custom(
        model, noise, cfg, sampler, sigmas, positive, negative, latents, disable_pbar=True, seed=seed
    )
    return drawn
