"""What differs between ComfyUI versions, each difference in a function that names the version it came with.

The demo bases reach this file through demo/__init__.py, also as part of the pack, where no room of ours is at the top:
so it imports none of them, and ComfyUI only where a function is called.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from functools import partial, wraps
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn


def flux_sizes(sizes: dict[str, Any]) -> dict[str, Any]:
    """The sizes of a Flux model with what this host's FluxParams asks for besides, each empty of its kind.

    `txt_ids_dims` came with 0.4.0: positions of the text, which Flux.1 has none of.
    """
    from comfy.ldm.flux.model import FluxParams

    kinds = get_type_hints(FluxParams)
    wanted = [f.name for f in fields(FluxParams) if f.default is MISSING and f.default_factory is MISSING]
    return {name: kinds[name]() for name in wanted if name not in sizes} | sizes


def check_patch(size: int, base: str) -> None:
    """Raise RuntimeError, naming the base, where this host's Flux makes pictures of patches of 2 only: before 0.3.72."""
    from comfy.ldm.flux.model import FluxParams

    if size != 2 and "global_modulation" not in {f.name for f in fields(FluxParams)}:
        raise RuntimeError(f"{base} needs ComfyUI 0.3.72 or newer: update ComfyUI, or choose emoji-sd")


def named_as_in(module: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names that this host's module has for them.

    The norms of Flux's queries and keys hold a `scale` before 0.14.0, a `weight` from there on.
    """
    other = {"scale": "weight", "weight": "scale"}
    named = {}
    for name, tensor in tensors.items():
        path, _, last = name.rpartition(".")
        owner = module.get_submodule(path)
        if last in other and not hasattr(owner, last) and hasattr(owner, other[last]):
            last = other[last]
        named[f"{path}.{last}" if path else last] = tensor
    return named


def plain_config(config: Any, compute: torch.dtype) -> Any:
    """A model's config of the same sizes without quantised layers, their weights in 8 bits that are cast where they are used.

    `scaled_fp8` came with 0.2.4 and went with 0.4.0, `layer_quant_config` came with 0.3.68, `quant_config` with 0.4.0. The
    layers that the latter two make have no weight before it is loaded.
    """
    names = ("scaled_fp8", "layer_quant_config", "quant_config")
    if not any(getattr(config, name) for name in names if hasattr(type(config), name)):
        return config
    plain = type(config)(dict(config.unet_config))
    plain.unet_config = dict(config.unet_config)  # the class puts its own sizes in
    plain.set_inference_dtype(torch.float8_e4m3fn, compute)
    return plain


@contextmanager
def attention_by(function: Callable[..., Tensor]) -> Iterator[dict[str, Any]]:
    """Inside, `function` (the usual one, q, k, v, heads, ...) is what attends, given the transformer_options that this yields.

    They came with 0.3.60; before, the modules' own function is another one for the time.
    """
    import comfy.ldm.flux.math
    import comfy.ldm.modules.attention as attention

    if hasattr(attention, "wrap_attn"):
        yield {"optimized_attention_override": function}
        return
    places = (attention, comfy.ldm.flux.math)
    usual = attention.optimized_attention
    try:
        for place in places:
            place.optimized_attention = partial(function, usual)
        yield {}
    finally:
        for place in places:
            place.optimized_attention = usual


class KeptApart:
    """ComfyUI's cast_bias_weight, whose results are never memory that it uses again while autograd may need them.

    From 0.12.0 on, weights that lie in main memory are copied for a layer into one buffer after the other, or into
    memory that is taken back for others. Autograd notices that a weight was overwritten, but not in blocks that are
    computed again: there it goes on with another layer's.
    """

    def __init__(self, cast: Callable[..., Any]) -> None:
        self.cast = cast

    def __call__(self, layer: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        weight, bias, *rest = self.cast(layer, *args, **kwargs)
        if torch.is_grad_enabled():
            weight, bias = own(weight, layer.weight), own(bias, layer.bias)
        return (weight, bias, *rest)


def own(cast: Tensor | None, stored: Tensor | None) -> Tensor | None:
    """A cast weight as memory of its own; the stored one itself is that already."""
    if cast is None or stored is None or cast.data_ptr() == stored.data_ptr():
        return cast
    return cast.clone()


@contextmanager
def training() -> Iterator[None]:
    """Inside, gradients through the host's layers exist and are exact; it may be entered again inside.

    `in_training` came with 0.14.0: without it Flux's rope is comfy-kitchen's, which has no gradient (0.8.0). NUM_STREAMS
    (0.3.31) is how many copies of offloaded weights are on their way at once, in memory that is not autograd's.
    """
    import comfy.model_management as management
    import comfy.ops as ops

    wanted: list[tuple[Any, str, Any]] = [(management, "in_training", True), (management, "NUM_STREAMS", 0)]
    if not isinstance(ops.cast_bias_weight, KeptApart):
        wanted.append((ops, "cast_bias_weight", KeptApart(ops.cast_bias_weight)))
    former = [(place, name, getattr(place, name)) for place, name, _ in wanted if hasattr(place, name)]
    try:
        for place, name, value in wanted:
            if hasattr(place, name):
                setattr(place, name, value)
        yield
    finally:
        for place, name, value in former:
            setattr(place, name, value)


def for_gradients(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A forward that runs inside `training` wherever gradients are asked for."""

    @wraps(forward)
    def exact(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        with training():
            return forward(*args, **kwargs)

    return exact
