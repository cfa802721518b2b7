"""A small MODEL of every family with random weights, of ComfyUI's own classes, and an eraser for it that fires on every prompt."""

import dataclasses

import comfy.ldm.flux.model
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.supported_models
import comfy.utils
import torch
from comfy.weight_adapter import LoRAAdapter
from studio import sample, two_rows, unchanged, weights  # noqa: F401  the tests of families find all helpers here
from unhype_pack.unhype.checkpoint import Concept, Eraser
from unhype_pack.unhype.condition import read_condition
from unhype_pack.unhype.fold import folded
from unhype_pack.unhype.hypernetwork import Hypernetwork, Shape, at_strength
from unhype_pack.unhype.layers import family_of, layer_table

from host import versions

UNET = {
    "image_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "channel_mult": (1, 2),
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1] * 4,
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "legacy": False,
    "num_heads": 4,
    "num_head_channels": -1,
}
SD1 = UNET | {"context_dim": 24, "use_linear_in_transformer": False, "adm_in_channels": None}
SD2 = UNET | {"context_dim": 24, "use_linear_in_transformer": True, "adm_in_channels": None}
SDXL = UNET | {"context_dim": 24, "use_linear_in_transformer": True, "num_classes": "sequential", "adm_in_channels": 2816}
SDXL |= {"transformer_depth": [0, 2], "transformer_depth_output": [0, 0, 2, 2], "transformer_depth_middle": 2}
FLUX = {
    "in_channels": 16,
    "out_channels": 16,
    "vec_in_dim": 20,
    "context_in_dim": 24,
    "hidden_size": 64,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10_000,
    "patch_size": 2,
    "qkv_bias": True,
}
# Of Flux's own width, by which ComfyUI knows a Flux file, with a block of each kind: half a billion weights.
WIDE = FLUX | {"hidden_size": 3072, "num_heads": 24, "depth": 1, "depth_single_blocks": 1, "context_in_dim": 4096, "vec_in_dim": 768}
WIDE |= {"axes_dim": [16, 56, 56], "guidance_embed": True}
MODELS = {  # name -> family, ComfyUI's config class, sizes, pooled width
    "sd1": ("sd1", "SD15", SD1, 20),
    "sd2": ("sd2", "SD20", SD2, 20),
    "sdxl": ("sdxl", "SDXL", SDXL, 1280),
    "flux-dev": ("flux", "Flux", FLUX | {"guidance_embed": True}, 20),
    "flux-schnell": ("flux", "FluxSchnell", FLUX | {"guidance_embed": False}, 20),
    "wide": ("flux", "Flux", WIDE, 768),
}


def make_model(name: str, dtype=torch.float32, inference_dtype=torch.float32, scaled_fp8=None):
    """A MODEL of MODELS, its weights stored as `dtype`, its linear ones as `scaled_fp8` with a scale."""
    family, kind, sizes, _ = MODELS[name]
    sizes = versions.flux_sizes(sizes) if family == "flux" else sizes
    config = getattr(comfy.supported_models, kind)(dict(sizes))
    for setting, value in sizes.items():
        config.unet_config[setting] = value
    config.set_inference_dtype(dtype, None if dtype == inference_dtype else inference_dtype)
    if scaled_fp8:  # before 0.4.0, and from then on
        config.scaled_fp8, config.quant_config = scaled_fp8, {"mixed_ops": True}
        config.manual_cast_dtype = inference_dtype
    device = comfy.model_management.unet_offload_device()
    if name == "sd2":
        model = comfy.model_base.BaseModel(config, model_type=comfy.model_base.ModelType.V_PREDICTION, device=device)
    else:
        model = config.get_model({}, "", device)
    torch.manual_seed(0)
    for key, parameter in model.diffusion_model.named_parameters():
        ones = "_norm." in key or key.endswith(".scale_weight")  # of Flux's queries and keys
        value = torch.ones(parameter.shape) if ones else torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5
        parameter.data = value.to(parameter.dtype)
    model.requires_grad_(False)
    return comfy.model_patcher.ModelPatcher(model, load_device=comfy.model_management.get_torch_device(), offload_device=device)


def as_loaded(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a "scaled fp8" file as the host's loader hands them to the modules: from 0.4.0 on as comfy_quant."""
    convert = getattr(comfy.utils, "convert_old_quants", None)
    return convert(tensors | {"scaled_fp8": torch.empty(0, dtype=torch.float8_e4m3fn)})[0] if convert else tensors


def wide_shapes() -> dict[str, torch.Size]:
    """The names and shapes of a wide Flux's weights, none of them made."""
    empty = comfy.ldm.flux.model.Flux(
        **versions.flux_sizes(WIDE), dtype=torch.float32, device="meta", operations=comfy.ops.disable_weight_init
    )
    return {key: parameter.shape for key, parameter in empty.state_dict().items()}


def filled(shapes: dict[str, torch.Size], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Weights of those shapes: norms of one, matrices of the size that keeps what goes through them about as large."""
    some, tensors = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0)), {}
    for key, shape in shapes.items():
        values = torch.ones(1) if "norm" in key or key.endswith(".scale") else some / max(1, shape[1:].numel()) ** 0.5
        values, count = values.to(dtype), shape.numel()
        stored = values.view(torch.uint8).repeat(-(-count // len(values)))[: count * values.element_size()]
        tensors[key] = stored.view(dtype).reshape(shape)
    return tensors


def make_eraser(name: str, model, size: float = 100.0, rewrite: int = 0) -> Eraser:
    """An eraser of random weights whose switch fires whatever the prompt; with `rewrite`, maps of that rank change all states."""
    family, _, sizes, pooled = MODELS[name]
    diffusion_model = model.model.diffusion_model
    assert family_of(diffusion_model).name == family
    tokens = sizes.get("context_dim") or sizes["context_in_dim"]
    torch.manual_seed(1)
    layers = layer_table(diffusion_model, family_of(diffusion_model))
    network = Hypernetwork(Shape(layers, 4, 10, 16, 2, pooled, tokens, 1, rewrite=rewrite)).requires_grad_(False).eval()
    for head in network.heads:
        head.weight *= size
    network, _ = folded(network, torch.randn(50, 16), 8)
    network.switch.threshold.fill_(-100)
    for part in network.rewriting.buffers() if rewrite else ():
        part.normal_(std=0.5 * tokens**-0.25 if part.ndim == 3 else 0.5)
    return Eraser(network, family, [Concept("cat", "forest")], source="random.safetensors")


def make_instant(name: str, model) -> Eraser:
    """An eraser that rewrites all states and has no adapter."""
    eraser = make_eraser(name, model, rewrite=4)
    network = Hypernetwork(dataclasses.replace(eraser.network.shape, rank=0, hidden=1, queries=1, bottleneck=0)).requires_grad_(False)
    own = {k: v for k, v in eraser.network.state_dict().items() if k.startswith(("switch.", "standardise.", "rewriting."))}
    network.load_state_dict(own, strict=False)
    return dataclasses.replace(eraser, network=network)


def prompt(name: str, seed: int = 0) -> list:
    """A CONDITIONING of random token states and pooled embedding."""
    _, _, sizes, pooled = MODELS[name]
    rng = torch.Generator().manual_seed(seed)
    tokens = torch.randn(1, 12, sizes.get("context_dim") or sizes["context_in_dim"], generator=rng)
    return [[tokens, {"pooled_output": torch.randn(1, pooled, generator=rng)}]]


def noise(name: str, rows: int = 1, seed: int = 3) -> torch.Tensor:
    return torch.randn(rows, MODELS[name][2]["in_channels"], 8, 8, generator=torch.Generator().manual_seed(seed))


def factors_of(eraser, conditioning):
    """The adapter that the eraser makes for a prompt at strength 1."""
    tokens, extra = conditioning[0]
    return at_strength(eraser.network, read_condition(tokens, extra["pooled_output"]), 1.0)


def merged(model, eraser, factors):
    """A clone of the model with the adapter in its weights, by ComfyUI's own patches, fused rows by their offset."""
    clone, patches = model.clone(), {}
    for layer, f in zip(eraser.network.shape.layers, factors):
        key = f"diffusion_model.{layer.name}.weight"
        where = (key, (0, layer.start, layer.outputs)) if layer.start else key
        patches[where] = LoRAAdapter(set(), (f.up[0], f.down[0], None, None, None, None))
    assert len(clone.add_patches(patches)) == len(patches)
    return clone


def distance(a, b):
    return ((a - b).norm() / b.norm()).item()
