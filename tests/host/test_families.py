"""Every family in the real host: the node's adapter is the merged weights, however they are stored, and the base stays bit-equal."""

import pytest
import torch

NAMES = ("sd1", "sd2", "sdxl", "flux-dev", "flux-schnell")
LAYERS = {"sd1": 14, "sd2": 14, "sdxl": 16, "flux-dev": 8, "flux-schnell": 8}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_the_adapter_is_the_merged_weight(m, pack, name, cfg):
    model = m.make_model(name)
    before, eraser = m.weights(model), m.make_eraser(name, model)
    assert len(eraser.network.shape.layers) == LAYERS[name]
    positive, negative = m.prompt(name), m.prompt(name, 1)
    ours = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    plain = m.sample(model, positive, negative, m.noise(name), cfg=cfg)
    erased = m.sample(ours, positive, negative, m.noise(name), cfg=cfg)
    assert m.distance(erased, plain) > 0.05 and m.unchanged(model, before)
    patched = m.merged(model, eraser, m.factors_of(eraser, positive))
    if cfg == 1.0:  # merged weights act on the negative prompt too
        assert m.distance(erased, m.sample(patched, positive, negative, m.noise(name), cfg=1.0)) < 1e-4
        patched.unpatch_model()
    assert torch.equal(plain, m.sample(model, positive, negative, m.noise(name), cfg=cfg)) and m.unchanged(model, before)


@pytest.mark.parametrize("name", NAMES)
def test_every_row_of_a_batch_has_its_own_adapter(m, pack, name):
    model = m.make_model(name)
    ours = pack.UnHypeEraser.execute(model, m.make_eraser(name, model), 1.0).result[0]
    positive = m.prompt(name) + m.prompt(name, 5)
    both = m.two_rows(positive[:1], positive[1:])
    together = m.sample(ours, both, m.prompt(name, 1), m.noise(name, 2))
    for row in range(2):
        alone = m.sample(ours, [positive[row]], m.prompt(name, 1), m.noise(name, 2)[row : row + 1])
        assert m.distance(together[row], alone[0]) < 1e-4


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn"])
def test_stored_in_few_bits_the_adapter_is_added_in_full_precision(m, pack, name, dtype):
    """The same as the stored weights brought to fp32 plus the adapter in fp32."""
    stored = m.make_model(name, getattr(torch, dtype))
    full = m.make_model(name)
    for own, other in zip(full.model.diffusion_model.parameters(), stored.model.diffusion_model.parameters()):
        own.data = other.float()
    before, eraser = m.weights(stored), m.make_eraser(name, stored)
    assert getattr(torch, dtype) in {v.dtype for v in before.values()}
    positive, negative = m.prompt(name), m.prompt(name, 1)
    ours = m.sample(pack.UnHypeEraser.execute(stored, eraser, 1.0).result[0], positive, negative, m.noise(name), cfg=1.0)
    exact = m.sample(m.merged(full, eraser, m.factors_of(eraser, positive)), positive, negative, m.noise(name), cfg=1.0)
    assert m.distance(ours, exact) < 1e-4 and m.unchanged(stored, before)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_stay_on_the_other_side_are_erased_too(m, pack, name):
    """Forced lowvram: every weight is cast where it is used."""
    import comfy.model_management

    model = m.make_model(name)
    eraser, positive, negative = m.make_eraser(name, model), m.prompt(name), m.prompt(name, 1)
    ours = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    usual = m.sample(ours, positive, negative, m.noise(name))
    comfy.model_management.unload_all_models()
    ours.partially_unload(ours.offload_device)
    before = m.weights(model)
    for module in model.model.diffusion_model.modules():
        if hasattr(module, "comfy_cast_weights"):
            module.prev_comfy_cast_weights, module.comfy_cast_weights = module.comfy_cast_weights, True
    assert m.distance(m.sample(ours, positive, negative, m.noise(name)), usual) < 1e-6 and m.unchanged(model, before)


@pytest.mark.parametrize("name, changes", [("sd2", {"context_dim": 32}), ("flux-dev", {"hidden_size": 96, "num_heads": 3})])
def test_another_size_of_the_family_is_refused(m, pack, name, changes):
    model = m.make_model(name)
    eraser = m.make_eraser(name, model)
    family, kind, sizes, pooled = m.MODELS[name]
    m.MODELS["other"] = (family, kind, sizes | changes, pooled)
    try:
        other = m.make_model("other")
        with pytest.raises(ValueError, match="random.safetensors does not fit this model: .* layers do not match"):
            pack.UnHypeEraser.execute(other, eraser, 1.0)
    finally:
        del m.MODELS["other"]


def test_an_eraser_of_another_family_is_refused(m, pack):
    flux, sdxl = m.make_model("flux-dev"), m.make_model("sdxl")
    with pytest.raises(ValueError, match="random.safetensors was trained for Flux.1, this model is Stable Diffusion XL"):
        pack.UnHypeEraser.execute(sdxl, m.make_eraser("flux-dev", flux), 1.0)
