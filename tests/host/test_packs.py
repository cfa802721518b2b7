"""Other node packs, the real ones: run by hand with the folder that their checkouts lie in.

UNHYPE_PACKS=FOLDER python dev.py test tests/host/test_packs.py          (ComfyUI-GGUF needs the package gguf as well)
"""

import pytest
import torch


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K"])
def test_gguf(m, pack, other_pack, tmp_path, monkeypatch, kind):
    """A Flux in a GGUF file through that pack's loader: as the dequantised weights with the adapter merged, also after a LoRA."""
    nodes = other_pack("ComfyUI-GGUF")
    import comfy.sd
    import folder_paths
    import gguf

    as_kind, tensors, rng = gguf.GGMLQuantizationType[kind], {}, torch.Generator().manual_seed(0)
    writer = gguf.GGUFWriter(tmp_path / "flux.gguf", "flux")
    for key, shape in m.wide_shapes().items():
        some = torch.randn(shape, generator=rng) * (0.02 if len(shape) == 1 else shape[1] ** -0.5)
        value = tensors[key] = torch.ones(shape) if key.endswith(".scale") else some
        data = value.numpy()
        if value.ndim == 2 and value.shape[1] % 256 == 0:
            stored = quantized(gguf, data, as_kind)
            tensors[key] = torch.from_numpy(gguf.quants.dequantize(stored, as_kind)).reshape(value.shape)
            writer.add_tensor(key, stored, raw_dtype=as_kind)
        else:
            writer.add_tensor(key, data)
    writer.write_header_to_file(), writer.write_kv_data_to_file(), writer.write_tensors_to_file()
    writer.close()
    monkeypatch.setattr(folder_paths, "get_full_path", lambda *_: str(tmp_path / "flux.gguf"))
    # By default that pack dequantises in half precision, 3e-4 to 1e-3 off by itself.
    (model,) = nodes["UnetLoaderGGUFAdvanced"]().load_unet("flux.gguf", dequant_dtype="float32", patch_dtype="float32")
    full = comfy.sd.load_diffusion_model_state_dict(tensors, {"dtype": torch.float32})
    eraser = m.make_eraser("wide", full)
    positive, negative, start = m.prompt("wide"), m.prompt("wide", 1), m.noise("wide")
    draw = lambda model: m.sample(model, positive, negative, start, cfg=1.0, steps=1)
    own, lora = (m.factors_of(eraser, m.prompt("wide", seed)) for seed in (0, 2))
    erased = lambda model: pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    before = {k: p.data.as_subclass(torch.Tensor).clone() for k, p in model.model.diffusion_model.named_parameters()}
    plain = draw(model)
    exact = draw(m.merged(full, eraser, own))
    assert m.distance(draw(erased(model)), exact) < 1e-4 and m.distance(plain, exact) > 0.01
    both = draw(m.merged(m.merged(full, eraser, own), eraser, lora))
    assert m.distance(draw(erased(m.merged(model, eraser, lora))), both) < 1e-4
    assert torch.equal(draw(model), plain)
    after = {k: p.data.as_subclass(torch.Tensor) for k, p in model.model.diffusion_model.named_parameters()}
    assert all(torch.equal(after[k], v) for k, v in before.items())


def quantized(gguf, data, kind):
    """The bytes of a matrix in a kind of quantisation; of kinds that gguf only reads, random blocks with small scales."""
    import numpy

    try:
        return gguf.quants.quantize(data, kind)
    except NotImplementedError:
        block, size = gguf.GGML_QUANT_SIZES[kind]
        stored = numpy.random.default_rng(0).integers(0, 256, (data.size // block, size), dtype=numpy.uint8)
        stored[:, :4] = numpy.array([1.2e-4, 9e-4], dtype=numpy.float16).view(numpy.uint8)
        return stored.reshape(data.shape[0], -1)


@pytest.mark.parametrize("method", ["MultiDiffusion", "Mixture of Diffusers", "SpotDiffusion"])
def test_tiled_diffusion(m, s, pack, other_pack, demo, prompts, method):
    """Tiles of 64 x 64 of a picture of 128 x 128: as tiles of the model with the adapter merged, the node before or after."""
    nodes = other_pack("ComfyUI-TiledDiffusion")
    tiled = lambda model: nodes["TiledDiffusion"]().apply(model, method, 64, 64, 32, 2)[0]
    erased = lambda model: pack.UnHypeEraser.execute(model, demo.eraser, 1.0).result[0]
    start = torch.randn(1, 32, 16, 16, generator=torch.Generator().manual_seed(5))
    draw = lambda model, which="erased": s.sample(tiled(model), prompts[which], prompts["empty"], start)
    plain, first = draw(demo.model), draw(erased(demo.model))
    assert m.distance(first, plain) > 0.1
    assert torch.equal(s.sample(erased(tiled(demo.model)), prompts["erased"], prompts["empty"], start), first)
    assert torch.equal(draw(erased(demo.model), "safe"), draw(demo.model, "safe"))
    # A clone merges once for all rows, the eraser only in those of the prompt: without guidance there are no others.
    alone = lambda model: s.sample(tiled(model), prompts["erased"], prompts["empty"], start, cfg=1.0)
    exact = alone(m.merged(demo.model, demo.eraser, m.factors_of(demo.eraser, prompts["erased"])))
    assert m.distance(alone(erased(demo.model)), exact) < 1e-4


def test_teacache(m, pack, other_pack):
    """It answers some steps without the blocks: refused where the eraser fires, left alone where it does not."""
    nodes = other_pack("ComfyUI-TeaCache")
    model = m.make_model("flux-dev")
    eraser = m.make_eraser("flux-dev", model)
    before = m.weights(model)
    cached = lambda model: nodes["TeaCache"]().apply_teacache(model, "flux", 5.0, 0.0, 1.0, "cpu")[0]
    erased = lambda: pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    draw = lambda model: m.sample(model, m.prompt("flux-dev"), m.prompt("flux-dev", 1), m.noise("flux-dev"), cfg=1.0, steps=8)
    plain = draw(cached(model))
    with pytest.raises(RuntimeError, match="leaves blocks out"):
        draw(cached(erased()))
    eraser.network.switch.threshold.fill_(1e9)
    assert torch.equal(draw(cached(erased())), plain) and m.unchanged(model, before)


def test_ip_adapter(m, pack, other_pack):
    """A picture's own keys and values beside the prompt's: as with the adapter merged, the node before or after."""
    nodes = other_pack("ComfyUI_IPAdapter_plus")
    model = m.make_model("sd1")
    eraser = m.make_eraser("sd1", model)
    before, rng = m.weights(model), torch.Generator().manual_seed(6)
    some = lambda *shape: torch.randn(*shape, generator=rng) / shape[-1] ** 0.5
    widths = {1: 32, 13: 32, 31: 64}  # of the attention layers that the small UNet has: input block 1, output block 3, the middle
    adapter = {
        "image_proj": {
            "proj.weight": some(4 * 24, 16),
            "proj.bias": some(4 * 24),
            "norm.weight": torch.ones(24),
            "norm.bias": torch.zeros(24),
        },
        "ip_adapter": {f"{k}.to_{w}_ip.weight": some(widths.get(k, 32), 24) for k in range(1, 32, 2) for w in "kv"},
    }
    image, nothing = some(1, 16), torch.zeros(1, 16)
    guided = lambda model: nodes["IPAdapterEmbeds"]().apply_ipadapter(model, adapter, image, 1.0, "linear", 0.0, 1.0, neg_embed=nothing)[0]
    erased = lambda model: pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    positive, negative = m.prompt("sd1"), m.prompt("sd1", 1)
    draw = lambda model: m.sample(model, positive, negative, m.noise("sd1"), cfg=1.0)
    exact = draw(guided(m.merged(model, eraser, m.factors_of(eraser, positive))))
    assert m.distance(draw(guided(erased(model))), exact) < 1e-4 and m.distance(draw(erased(guided(model))), exact) < 1e-4
    assert m.distance(exact, draw(erased(model))) > 0.01 and m.distance(exact, draw(guided(model))) > 0.01
    assert m.unchanged(model, before)
