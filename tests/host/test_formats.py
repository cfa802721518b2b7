"""How users have their weights: scaled fp8, a diffusion model in a file of its own, GGUF."""

import pytest
import torch

FP8 = torch.float8_e4m3fn


def scaled(model) -> dict[str, torch.Tensor]:
    """A model's state dict as "scaled fp8" files have it: linear weights as fp8 with the scale that fills its range."""
    tensors = {}
    for key, value in model.model.diffusion_model.state_dict().items():
        if key.endswith(".weight") and value.ndim == 2:
            scale = value.abs().max() / torch.finfo(FP8).max
            tensors[key], tensors[key.removesuffix("weight") + "scale_weight"] = (value / scale).to(FP8), scale
        else:
            tensors[key] = value
    return tensors


@pytest.mark.parametrize("name", ["sd1", "sdxl", "flux-dev"])
@torch.inference_mode()  # as the host runs every node
def test_scaled_fp8(m, pack, name):
    """As the dequantised weights and the merged adapter in fp32; the stored bits stay."""
    from unhype.sketch import in_full

    full = m.make_model(name)
    model = m.make_model(name, scaled_fp8=FP8)
    model.model.diffusion_model.load_state_dict(m.as_loaded(scaled(full)))
    for path, module in model.model.diffusion_model.named_modules():
        for key, own in full.model.diffusion_model.get_submodule(path).named_parameters(recurse=False):
            own.copy_(in_full(module, module.weight) if key == "weight" else getattr(module, key).float())
    before, eraser = m.weights(model), m.make_eraser(name, model)
    assert FP8 in {v.dtype for v in before.values()}
    positive, negative = m.prompt(name), m.prompt(name, 1)
    ours = m.sample(pack.UnHypeEraser.execute(model, eraser, 1.0).result[0], positive, negative, m.noise(name), cfg=1.0)
    exact = m.sample(m.merged(full, eraser, m.factors_of(eraser, positive)), positive, negative, m.noise(name), cfg=1.0)
    assert m.distance(ours, exact) < 1e-4 and m.unchanged(model, before)
    assert m.distance(ours, m.sample(model, positive, negative, m.noise(name), cfg=1.0)) > 0.05


def test_a_flux_file_of_its_own_width(m, pack):
    """What UNETLoader does with a Flux file in fp8 (hidden 3072, one block of each kind, 0.5 GB): recognised, erased, bit-equal after."""
    import comfy.sd

    model = comfy.sd.load_diffusion_model_state_dict(m.filled(m.wide_shapes(), FP8), {"dtype": FP8})
    before, eraser = m.weights(model), m.make_eraser("wide", model)
    assert [(layer.name, layer.outputs, layer.start) for layer in eraser.network.shape.layers] == [
        ("double_blocks.0.img_attn.qkv", 3072, 6144),
        ("double_blocks.0.img_attn.proj", 3072, 0),
        ("double_blocks.0.txt_attn.qkv", 3072, 6144),
        ("single_blocks.0.linear1", 3072, 6144),
    ]
    draw = lambda model: m.sample(model, m.prompt("wide"), m.prompt("wide", 1), m.noise("wide"), cfg=1.0, steps=1)
    plain = draw(model)
    assert plain.isfinite().all()
    assert m.distance(draw(pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]), plain) > 0.01
    assert FP8 in {v.dtype for v in before.values()} and m.unchanged(model, before)


class Bytes(torch.Tensor):
    """A weight as 34 bytes for every 32 values (GGUF's Q8_0), which tells the matrix's shape as its own."""

    @property
    def shape(self):
        return self.tensor_shape


def quantised(weight: torch.Tensor) -> Bytes:
    blocks = weight.reshape(-1, 32)
    scales = (blocks.abs().amax(1, keepdim=True) / 127).half()
    values = (blocks / scales.float()).round().to(torch.int8)
    stored = torch.cat([scales.view(torch.uint8), values.view(torch.uint8)], 1).as_subclass(Bytes)
    stored.tensor_shape = weight.shape
    return stored


class QuantisedLinear(torch.nn.Module):
    """A linear layer on such a weight, dequantised in every call."""

    def __init__(self, linear):
        super().__init__()
        self.bias, self.weight = linear.bias, torch.nn.Parameter(quantised(linear.weight.data), requires_grad=False)
        self.weight.tensor_shape = linear.weight.shape

    def dequantised(self):
        blocks = self.weight.data.as_subclass(torch.Tensor)
        scales, values = blocks[:, :2].contiguous().view(torch.float16), blocks[:, 2:].contiguous().view(torch.int8)
        return (scales.float() * values.float()).reshape(self.weight.tensor_shape)

    def forward(self, x):
        return torch.nn.functional.linear(x, self.dequantised(), self.bias)


@pytest.mark.parametrize("name", ["sd1", "flux-dev"])
def test_stand_in_for_gguf(m, pack, name):
    """A stand-in: these layers only store and answer as ComfyUI-GGUF's do; that pack itself is run in test_packs.

    The weight is a tensor subclass of bytes whose `shape` is the matrix's, and the layer dequantises it in its forward.
    """
    full, model = m.make_model(name), m.make_model(name)
    diffusion_model = model.model.diffusion_model
    for path, module in list(diffusion_model.named_modules()):
        if isinstance(module, torch.nn.Linear) and module.weight.numel() % 32 == 0:
            parent, _, last = path.rpartition(".")
            layer = QuantisedLinear(module)
            setattr(diffusion_model.get_submodule(parent), last, layer)
            full.model.diffusion_model.get_submodule(path).weight.data = layer.dequantised()
    eraser = m.make_eraser(name, model)
    adapted = [diffusion_model.get_submodule(layer.name) for layer in eraser.network.shape.layers]
    assert any(isinstance(module, QuantisedLinear) for module in adapted)
    assert eraser.network.shape.layers == m.make_eraser(name, full).network.shape.layers
    before = {k: p.data.as_subclass(torch.Tensor).clone() for k, p in diffusion_model.named_parameters()}
    positive, negative = m.prompt(name), m.prompt(name, 1)
    ours = m.sample(pack.UnHypeEraser.execute(model, eraser, 1.0).result[0], positive, negative, m.noise(name), cfg=1.0)
    exact = m.sample(m.merged(full, eraser, m.factors_of(eraser, positive)), positive, negative, m.noise(name), cfg=1.0)
    assert m.distance(ours, exact) < 1e-4
    assert all(torch.equal(p.data.as_subclass(torch.Tensor), before[k]) for k, p in diffusion_model.named_parameters())
