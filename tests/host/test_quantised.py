"""Quantised bases: known before and after they are loaded, their memory planned, other bases told from them."""

import dataclasses
import json
import logging

import pytest
import torch

from host import memory

FP8 = torch.float8_e4m3fn
KINDS = ("scaled_fp8", "float8_e4m3fn", "mxfp8", "nvfp4")
LAYOUTS = {"float8_e4m3fn": "TensorCoreFP8Layout", "mxfp8": "TensorCoreMXFP8Layout", "nvfp4": "TensorCoreNVFP4Layout"}
SINCE = {"float8_e4m3fn": "0.3.68", "mxfp8": "0.18.0", "nvfp4": "0.8.0"}  # the host's own classes


def header_of(shapes: dict[str, torch.Size], kind: str) -> dict[str, torch.Tensor]:
    """The tensors of a file as each kind stores a model, on the meta device."""
    make = lambda dtype, *shape: torch.empty(shape, dtype=dtype, device="meta")
    tensors = {}
    for name, shape in shapes.items():
        layer, _, last = name.rpartition(".")
        if last != "weight" or len(shape) != 2 or not name.startswith(("double", "single")):
            tensors[name] = make(torch.bfloat16, *shape)
            continue
        rows, columns = shape
        if kind == "scaled_fp8":
            tensors |= {name: make(FP8, rows, columns), f"{layer}.scale_weight": make(torch.float32)}
            tensors["scaled_fp8"] = make(FP8, 0)
            continue
        tensors[f"{layer}.comfy_quant"] = make(torch.uint8, 27)
        tensors[name] = make(torch.uint8, rows, columns // 2) if kind == "nvfp4" else make(FP8, rows, columns)
        if kind == "nvfp4":
            tensors |= {f"{layer}.weight_scale": make(FP8, rows, columns // 16), f"{layer}.weight_scale_2": make(torch.float32)}
        else:
            scale = make(torch.uint8, rows, columns // 32) if kind == "mxfp8" else make(torch.float32)
            tensors |= {f"{layer}.weight_scale": scale, f"{layer}.input_scale": make(torch.float32)}
    return tensors


def sparse_file(path, tensors) -> int:
    """A safetensors file with that header whose data are a hole; returns the bytes of its data."""
    names = {torch.uint8: "U8", FP8: "F8_E4M3", torch.bfloat16: "BF16", torch.float32: "F32"}
    entries, end = {}, 0
    for name, t in tensors.items():
        start, end = end, end + t.numel() * t.element_size()
        entries[name] = {"dtype": names[t.dtype], "shape": list(t.shape), "data_offsets": [start, end]}
    raw = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        file.truncate(8 + len(raw) + end)
    return end


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dry_run_knows_a_quantised_base(m, kind, prefix, tmp_path):
    from trainer import dry_run
    from trainer.config import Config

    tensors = header_of(m.wide_shapes(), kind)
    stored = sparse_file(tmp_path / "x.safetensors", {prefix + k: t for k, t in tensors.items()})
    config = Config(base=str(tmp_path / "x.safetensors"), erase=["cat -> forest"], out="x.safetensors")
    model, compute, weights = dry_run.meta_model(config.base, torch.bfloat16)
    _, family, network, step = dry_run.measure(config, model, compute, weights)
    assert family.name == "flux" and step.weights == weights == stored
    assert [(n.name, n.inputs, n.outputs, n.start) for n in network.shape.layers] == [
        ("double_blocks.0.img_attn.qkv", 3072, 3072, 6144),
        ("double_blocks.0.img_attn.proj", 3072, 3072, 0),
        ("double_blocks.0.txt_attn.qkv", 3072, 3072, 6144),
        ("single_blocks.0.linear1", 3072, 3072, 6144),
    ]
    assert (network.shape.pooled_dim, network.shape.token_dim) == (768, 4096)
    assert step.largest_block == max(
        2 * sum(s.numel() for k, s in m.wide_shapes().items() if k.startswith(b)) for b in ("double_blocks.0", "single_blocks.0")
    )


class Packed(torch.nn.Module):
    """A layer as the host's mixed-precision Linear: before it is loaded, without a weight; then with one of two numbers a byte."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features, self.bias = linear.in_features, linear.out_features, linear.bias


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("name", ["sd1", "sdxl", "flux-dev"])
def test_layers_without_a_weight_or_with_a_packed_one_have_their_shapes(m, name, loaded):
    from unhype.layers import check_layers, family_of, layer_table

    model = m.make_model(name).model.diffusion_model
    family = family_of(model)
    table = layer_table(model, family)
    for path, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            packed = Packed(module)
            if loaded:
                stored = torch.zeros(module.out_features, module.in_features // 2, dtype=torch.uint8)
                packed.weight = torch.nn.Parameter(stored, requires_grad=False)
            model.set_submodule(path, packed)
    assert family_of(model) is family and layer_table(model, family) == table
    check_layers(table, model, family, "x.safetensors")


def quantisation(kind):
    """The host's own weight class of a kind, from numbers."""
    from comfy import quant_ops

    options = {"scale": "recalculate"} if hasattr(quant_ops, "get_layout_class") else {"dtype": FP8}  # 0.8.0
    return lambda t: quant_ops.QuantizedTensor.from_float(t, LAYOUTS[kind], **options)


class FourBits(torch.Tensor):
    """A weight class of the host's kind that packs two numbers a byte: sixteen steps of each row's largest number."""

    @staticmethod
    def __new__(cls, packed, scale):
        return torch.Tensor._make_wrapper_subclass(cls, (len(packed), 2 * packed.shape[1]), dtype=torch.bfloat16)

    def __init__(self, packed, scale):
        self.packed, self.scale = packed, scale

    def __tensor_flatten__(self):
        return ["packed", "scale"], None

    @staticmethod
    def __tensor_unflatten__(inner, context, size, stride):
        return FourBits(inner["packed"], inner["scale"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.detach.default:
            return cls(args[0].packed, args[0].scale)
        return func(*(a.dequantize() if isinstance(a, cls) else a for a in args), **(kwargs or {}))

    @classmethod
    def of(cls, t):
        scale = t.abs().amax(1, keepdim=True) / 7
        steps = (t / scale).round().to(torch.int8) + 8
        return cls((steps[:, ::2] * 16 + steps[:, 1::2]).to(torch.uint8), scale.half())

    def dequantize(self):
        steps = torch.stack([self.packed // 16, self.packed % 16], -1).flatten(1)
        return (steps.to(torch.float32) - 8) * self.scale.float()


def another_base(demo, share, store):
    """The demo base's UNet, moved by a share of its weights' size and stored in another way; and what its eraser says of it."""
    from unhype_pack.unhype.sketch import sketch

    from demo.base import load

    table = demo.eraser.network.shape.layers
    numbers = sketch(table, lambda name: demo.model.model.diffusion_model.get_submodule(name).weight)
    eraser = dataclasses.replace(demo.eraser, base={"name": "emoji-sd", "sketch": numbers}, digest="quantised")
    model, rng = load()[0], torch.Generator().manual_seed(0)
    for layer in {layer.name for layer in table}:
        module = model.model.diffusion_model.get_submodule(layer)
        weight = module.weight.data
        noise = torch.randn(weight.shape, generator=rng)
        module.weight = torch.nn.Parameter(store(weight + share * weight.norm() / noise.norm() * noise), requires_grad=False)
    return model, eraser


@pytest.mark.parametrize("share, warns", [(0.0, 0), (0.3, 1)])
@pytest.mark.parametrize("kind", ["four bits", *(pytest.param(kind, marks=pytest.mark.since(since)) for kind, since in SINCE.items())])
def test_another_base_with_quantised_weights_is_told(m, pack, demo, caplog, kind, share, warns):
    store = FourBits.of if kind == "four bits" else quantisation(kind)
    model, eraser = another_base(demo, share, store)
    with caplog.at_level(logging.WARNING, "unhype"):
        pack.UnHypeEraser.execute(model, eraser, 1.0)
    said = [r.getMessage() for r in caplog.records if r.name == "unhype"]
    assert len(said) == warns and all("was trained on emoji-sd" in text for text in said)


def test_the_scale_of_a_weight_is_read_where_its_layer_knows_it():
    from unhype.sketch import in_full

    class Scaled(torch.nn.Linear):
        def convert_weight(self, weight, inplace=False):
            return weight * torch.arange(4.0)[:, None]  # as 0.3.52 has it, which fails on 8 bits

    layer = Scaled(6, 4).to(FP8)
    assert torch.equal(in_full(layer, layer.weight), layer.weight.float() * torch.arange(4.0)[:, None])
    assert in_full(layer, None) is None and in_full(layer, torch.empty(4, 6, device="meta")) is None


@pytest.mark.since("0.3.68")
def test_a_loaded_quantised_base_is_planned(m, comfy):
    """comfy_quant fp8 through the host's own loader: what `make_room` asks for."""
    import comfy.sd

    from host.backbone import Backbone
    from trainer import dry_run
    from trainer.config import Config

    tensors, layers = m.filled(m.wide_shapes(), torch.bfloat16), {}
    for name in [n for n in tensors if n.startswith(("double", "single")) and n.endswith(".weight") and tensors[n].ndim == 2]:
        layer, scale = name.removesuffix(".weight"), torch.tensor(0.5)
        tensors[name] = (tensors[name] / scale).to(FP8)
        tensors[f"{layer}.weight_scale"], layers[layer] = scale, {"format": "float8_e4m3fn"}
    quantised = sum(t.numel() for t in tensors.values() if t.dtype is FP8)
    others = sum(t.numel() for t in tensors.values()) - quantised
    metadata = {"_quantization_metadata": json.dumps({"format_version": "1.0", "layers": layers})}
    backbone = Backbone(comfy.sd.load_diffusion_model_state_dict(dict(tensors), metadata=metadata), None, None)
    assert type(backbone.diffusion_model.double_blocks[0].img_attn.qkv.weight).__name__ == "QuantizedTensor"
    assert backbone.family.name == "flux"
    config = Config(base="x", erase=["cat -> forest"], out="x.safetensors")
    _, family, network, step = dry_run.measure(config, *backbone.shapes())
    assert family.name == "flux" and quantised + 2 * others <= step.weights <= 1.01 * (quantised + 4 * others)
    assert network.shape.layers[0].inputs == 3072 and memory.plan(step, 1, 24 * memory.GB)
