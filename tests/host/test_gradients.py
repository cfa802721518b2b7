"""Gradients where newer ComfyUIs would lose them: a rope without autograd, and weights in a buffer that is used again."""

import pytest
import torch

NAMES = ("sd1", "sdxl", "flux-dev", "flux-schnell")


def gradient(m, name, prepare=lambda backbone: None, rows=2, model=None):
    """Of a loss on Backbone.predict with respect to the adapter's factors, as one vector on the CPU."""
    from host.backbone import Backbone
    from host.load import allow_gradients
    from unhype.adapter import Term, adapter

    model = model or m.make_model(name)
    backbone, eraser = Backbone(model, None, None), m.make_eraser(name, model, size=1.0)
    allow_gradients(backbone.diffusion_model)
    prepare(backbone)
    (context, extra), factors = m.prompt(name)[0], m.factors_of(eraser, m.prompt(name))
    there = lambda t: t.to(backbone.device)
    factors = [type(f)(*(there(t.detach().expand(rows, -1, -1).clone()).requires_grad_() for t in f[:2])) for f in factors]
    with adapter(backbone.diffusion_model, [Term(there(torch.arange(rows)), eraser.network.shape.layers, factors)], rows):
        x, sigma = m.noise(name, rows), torch.full((rows,), 0.5)
        given = (x, sigma, context.expand(rows, -1, -1), extra["pooled_output"].expand(rows, -1))
        backbone.predict(*map(there, given)).square().mean().backward()
    return torch.cat([t.grad.flatten().cpu() for f in factors for t in f[:2]])


@torch.library.custom_op("unhype_test::rope", mutates_args=())
def rope_without_autograd(x: torch.Tensor, pe: torch.Tensor) -> torch.Tensor:
    pairs = x.float().reshape(*x.shape[:-1], -1, 1, 2)
    return (pe[..., 0] * pairs[..., 0] + pe[..., 1] * pairs[..., 1]).reshape(x.shape).to(x.dtype)


@pytest.fixture
def fast_rope(comfy, monkeypatch):
    """As from 0.14.0 on: an operator that has no gradient, but for training."""
    import comfy.ldm.flux.math as math
    import comfy.model_management as management

    def plain(x, pe):
        pairs = x.float().reshape(*x.shape[:-1], -1, 1, 2)
        return (pe[..., 0] * pairs[..., 0] + pe[..., 1] * pairs[..., 1]).reshape(x.shape).to(x.dtype)

    def both(q, k, pe):
        rope = plain if management.in_training else rope_without_autograd
        return rope(q, pe), rope(k, pe)

    monkeypatch.setattr(management, "in_training", False, raising=False)
    monkeypatch.setattr(math, "apply_rope", both)
    return management


@pytest.mark.since("0.3.72")  # before, rope has no function of its own
@pytest.mark.parametrize("recompute", [False, True])
def test_a_rope_without_autograd_is_trained_through(m, recompute, request):
    plain = gradient(m, "flux-dev")
    management = request.getfixturevalue("fast_rope")
    again = gradient(m, "flux-dev", prepared(recompute))
    assert management.in_training is False and plain.norm() > 0
    assert m.distance(again, plain) < 1e-5


def prepared(recompute):
    from host.memory import recompute_blocks

    return lambda backbone: recompute_blocks(backbone.diffusion_model, backbone.family) if recompute else None


@pytest.fixture
def one_buffer(comfy, monkeypatch):
    """As from 0.12.0 on where weights lie in main memory: all layers' are copied into one buffer, one after the other."""
    import comfy.ops

    usual, buffer, calls = comfy.ops.cast_bias_weight, torch.zeros(1 << 22, dtype=torch.uint8), []

    def view(start, tensor):
        size = tensor.numel() * tensor.element_size()
        return buffer[start : start + size].view(tensor.dtype).view(tensor.shape)

    def reusing(layer, *args, **kwargs):
        weight, bias, *rest = usual(layer, *args, **kwargs)
        calls.append(layer)
        with torch.no_grad():
            weight = view(0, weight).copy_(weight)
            bias = None if bias is None else view(1 << 21, bias).copy_(bias)
        return (weight, bias, *rest)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", reusing)
    return calls


def offloaded(recompute):
    """Every weight is cast where it is used, as under lowvram."""
    prepare = prepared(recompute)

    def both(backbone):
        prepare(backbone)
        for module in backbone.diffusion_model.modules():
            if hasattr(module, "comfy_cast_weights"):
                module.comfy_cast_weights = True

    return both


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_weights_in_a_buffer_that_is_used_again_give_exact_gradients(m, name, recompute, request):
    plain = gradient(m, name)
    calls = request.getfixturevalue("one_buffer")
    again = gradient(m, name, offloaded(recompute))
    assert len(calls) > 20 and plain.norm() > 0
    assert m.distance(again, plain) < 1e-4


@pytest.mark.parametrize("unloaded", [False, True])
def test_weights_that_had_patches_inside_inference_mode_give_the_same_gradients(m, unloaded):
    import comfy.model_management

    def prepare(backbone):
        if unloaded:
            comfy.model_management.unload_all_models()
        backbone.load()

    plain = gradient(m, "sd1")
    with torch.inference_mode():  # as the host runs a graph of pictures
        model = m.make_model("sd1")
        patched = model.clone()
        assert patched.add_patches({key: (torch.ones_like(w),) for key, w in model.model.state_dict().items() if "attn" in key})
        comfy.model_management.load_models_gpu([patched])
    assert m.distance(gradient(m, "sd1", prepare, model=model), plain) < 1e-6 and plain.norm() > 0


def test_every_kind_of_tensor_that_inference_mode_leaves_is_made_one_for_autograd(comfy):
    from host.inference import allow_autograd

    with torch.inference_mode():
        made = [torch.nn.Parameter(torch.ones(2, 2), False) for _ in range(2)]
    ordinary = torch.nn.Parameter(torch.ones(2, 2), False)
    made[1].data = made[1].data.clone()  # moved to another device later
    made += [torch.nn.Parameter(made[0], False), ordinary]  # put back by the host later
    module = torch.nn.ParameterList(made)
    allow_autograd(module)
    x = torch.ones(1, 2, requires_grad=True)
    for parameter in module:
        torch.nn.functional.linear(x, parameter).sum().backward()
    assert x.grad.tolist() == [[2.0 * len(made)] * 2] and module[3] is ordinary and not any(p.requires_grad for p in module)


def test_the_host_is_as_it_was_after_training_also_after_an_error(comfy, fast_rope, monkeypatch):
    import comfy.ops

    from host.versions import for_gradients, training

    monkeypatch.setattr(fast_rope, "NUM_STREAMS", 2)
    cast, seen = comfy.ops.cast_bias_weight, []

    def state():
        return fast_rope.in_training, fast_rope.NUM_STREAMS, comfy.ops.cast_bias_weight is cast

    with pytest.raises(KeyError):
        with training(), training():
            seen.append(state())
            raise KeyError
    with torch.no_grad():
        assert for_gradients(state)() == (False, 2, True) == state()
    assert seen == [(True, 0, False)] == [for_gradients(state)()] and state() == (False, 2, True)
