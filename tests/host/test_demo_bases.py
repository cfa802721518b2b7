"""The demo bases on a host as newer ones are: another field of FluxParams, other names of norms, weights made late."""

import sys
from dataclasses import MISSING, dataclass, fields

import pytest
import torch
from torch import nn

TEXT = "a cat, google style, on a blue background"


def modules(pack):
    """The demo bases as the pack's own node has them: no other room of ours at the top."""
    import importlib

    return {name: importlib.import_module(f"unhype_pack.demo.{name}") for name in ("base", "flux")}


@torch.inference_mode()
def drawn(base):
    """A forward of everything that is loaded: text encoders, denoiser, autoencoder."""
    model, clip, vae = base.load()
    tokens, pooled = clip.encode_from_tokens(clip.tokenize(TEXT), return_pooled=True)
    x = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    conds = model.model.extra_conds(cross_attn=tokens, pooled_output=pooled, noise=x, device=x.device, height=64, width=64)
    extra = {name: c.process_cond(batch_size=1, device=x.device).cond for name, c in conds.items()}
    denoised = model.model.apply_model(x, torch.tensor([0.9]), **extra)
    return model, torch.cat([t.flatten() for t in (tokens, pooled, denoised, vae.decode(denoised))])


since_any_patch = pytest.mark.since("0.3.72")  # before, the host's Flux makes pictures of patches of 2 only


@since_any_patch
@pytest.mark.parametrize("kind", ["list", list, "bool"])
def test_a_params_class_with_another_field_is_built(pack, monkeypatch, kind):
    import comfy.ldm.flux.model as flux

    usual = drawn(modules(pack)["flux"])[1]
    required = [f for f in fields(flux.FluxParams) if f.default is MISSING]
    others = [f for f in fields(flux.FluxParams) if f.default is not MISSING]
    body = {f.name: f.default for f in others} | {
        "__annotations__": {f.name: f.type for f in required} | {"unheard_of": kind} | {f.name: f.type for f in others}
    }
    Params = dataclass(type("FluxParams", (), body))
    monkeypatch.setattr(flux, "FluxParams", Params)
    model, again = drawn(modules(pack)["flux"])
    assert model.model.diffusion_model.params.unheard_of in ([], False)
    assert torch.equal(usual, again)


class OtherNorm(nn.Module):
    """Flux's norm of queries and keys under the names of the other kind of host."""

    def __init__(self, name, dim, dtype=None, device=None):
        super().__init__()
        self.called = name
        self.register_parameter(name, nn.Parameter(torch.empty(dim, dtype=dtype, device=device)))

    def forward(self, x):
        return nn.functional.rms_norm(x, x.shape[-1:], getattr(self, self.called), 1e-6)


@since_any_patch
def test_norms_of_another_name_are_loaded(pack, monkeypatch):
    import comfy.ldm.flux.layers as layers

    flux = modules(pack)["flux"]
    model, usual = drawn(flux)
    (own,) = vars(model.model.diffusion_model.double_blocks[0].img_attn.norm.query_norm)["_parameters"]
    made, name = layers.QKNorm.__init__, {"scale": "weight", "weight": "scale"}[own]

    def renamed(self, dim, dtype=None, device=None, operations=None):
        made(self, dim, dtype=dtype, device=device, operations=operations)
        self.query_norm, self.key_norm = (OtherNorm(name, dim, dtype, device) for _ in "qk")

    monkeypatch.setattr(layers.QKNorm, "__init__", renamed)
    model, again = drawn(flux)
    assert hasattr(model.model.diffusion_model.double_blocks[0].img_attn.norm.query_norm, name)
    assert torch.allclose(usual, again, atol=1e-5, rtol=1e-4)


@pytest.fixture
def late(comfy, monkeypatch):
    """As on Windows from 0.12.0 on: a Linear has no weight before it is loaded."""
    import comfy.ops

    kind, made = comfy.ops.disable_weight_init.Linear, []

    def init(self, in_features, out_features, bias=True, device=None, dtype=None):
        nn.Module.__init__(self)
        self.in_features, self.out_features, self.weight, self.bias, self.wants_bias = in_features, out_features, None, None, bias
        self.comfy_need_lazy_init_bias, self.weight_comfy_model_dtype, self.bias_comfy_model_dtype = bias, dtype, dtype
        made.append(self)

    def load(self, tensors, prefix, metadata, strict, missing, unexpected, errors):
        for name in ("weight", "bias"):
            if prefix + name in tensors:
                setattr(self, name, nn.Parameter(tensors[prefix + name].clone(), requires_grad=False))
            elif name == "weight" or self.wants_bias:
                missing.append(prefix + name)

    monkeypatch.setattr(kind, "__init__", init)
    monkeypatch.setattr(kind, "_load_from_state_dict", load)
    return made


@pytest.mark.parametrize("name", ["base", pytest.param("flux", marks=since_any_patch)])
def test_weights_that_are_made_late_are_loaded(pack, name, request):
    base = modules(pack)[name]
    usual = drawn(base)[1]
    made = request.getfixturevalue("late")
    again = drawn(base)[1]
    assert made and not [m for m in made if m.weight is None]
    assert torch.equal(usual, again)


def test_the_pack_takes_nothing_of_ours_from_the_top(pack, monkeypatch):
    """Inside ComfyUI only the host's own modules are there by a name without the pack's."""
    ours = ("host", "unhype", "trainer", "demo", "evaluation", "benchmarks")
    for name in [n for n in sys.modules if n.split(".")[0] in ours or n.startswith("unhype_pack.demo") or n.startswith("unhype_pack.host")]:
        monkeypatch.delitem(sys.modules, name)
    with monkeypatch.context() as only:
        only.setattr(sys, "path", [p for p in sys.path if p not in ("", ".", str(pack.module.__path__[0]))])
        modules(pack)
    assert not [n for n in sys.modules if n.split(".")[0] in ours]
