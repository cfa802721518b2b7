"""Conditionings of model families to come, from ComfyUI's own classes: LTXV's T5 gives an attention_mask and no pooled embedding.

LTXV is no family that can be erased from; here it is made one of them, since its denoiser heeds the mask.
"""

from types import SimpleNamespace

import pytest
import torch

from host.backbone import Backbone

SIZES = {"attention_head_dim": 32, "num_attention_heads": 2, "cross_attention_dim": 64, "caption_channels": 48, "num_layers": 2}
T5 = {"d_model": 48, "d_ff": 64, "d_kv": 12, "num_heads": 4, "num_layers": 2}
CAT, LONG = "a cat", "a cat that sleeps " * 40  # more tokens than T5 is padded to


def family(layers):
    """LTXV as an entry of a layers module's FAMILIES."""
    return layers.Family(
        "ltxv",
        "LTX-Video",
        marks={"patchify_proj.weight": 2, "caption_projection.linear_1.weight": 2},
        lacks=(),
        targets=layers.CROSS_ATTENTION,
        conditional_only=True,
        size="512x512",
        cfg=3.0,
        clip_skips=(1,),
        text=r"caption_projection\.linear_1\.weight",
        readers=r"caption_projection\.linear_1",
        vector="",
        tokens=128,
        retain_batch=32,
        anchors=False,
        blocks=r"transformer_blocks\.\d+",
        encoders="LTXV",
        ends=("patchify_proj.weight", "proj_out.weight"),
        pooled=False,
        masked=True,
    )


@pytest.fixture(scope="module")
def ltxv(m):
    """A small LTXV with random weights, its text encoder, and an eraser for it that fires on every prompt."""
    import comfy.model_management
    import comfy.sd
    import comfy.supported_models
    import comfy.text_encoders.lt
    from comfy.model_patcher import ModelPatcher
    from comfy.supported_models_base import ClipTarget
    from unhype_pack.unhype import layers as packed

    from unhype import layers

    config = comfy.supported_models.LTXV({"image_model": "ltxv", **SIZES})
    config.unet_config.update(SIZES)
    config.set_inference_dtype(torch.float32, None)
    model, device = config.get_model({}, "", torch.device("cpu")), comfy.model_management.get_torch_device()
    target = ClipTarget(comfy.text_encoders.lt.LTXVT5Tokenizer, comfy.text_encoders.lt.ltxv_te())
    target.params = {}
    clip = comfy.sd.CLIP(target, model_options={"t5xxl_model_config": T5, "dtype": torch.float32})
    torch.manual_seed(0)
    for module in (model.diffusion_model, clip.cond_stage_model):
        for p in module.parameters():
            p.data = torch.randn(p.shape) / max(1, p[0].numel() if p.ndim > 1 else 1) ** 0.5
    with pytest.MonkeyPatch.context() as patch:
        for module in (packed, layers):
            patch.setitem(module.FAMILIES, "ltxv", family(module))
        patch.setitem(m.MODELS, "ltxv", ("ltxv", "LTXV", {"context_dim": T5["d_model"]}, 0))
        model = ModelPatcher(model.requires_grad_(False), load_device=device, offload_device=torch.device("cpu"))
        yield SimpleNamespace(model=model, clip=clip, eraser=m.make_eraser("ltxv", model), noise=torch.randn(1, 128, 1, 2, 2))


@torch.inference_mode()
def encoded(ltxv, text):
    return ltxv.clip.encode_from_tokens_scheduled(ltxv.clip.tokenize(text))


def with_other_padding(conditioning):
    """The conditioning with other numbers in the states that its mask hides."""
    tokens, extra = conditioning[0]
    hidden = extra["attention_mask"][0, : tokens.shape[1]] == 0
    changed = tokens.clone()
    changed[0, : len(hidden)][hidden] = 3 * torch.randn(int(hidden.sum()), tokens.shape[2])
    return [[changed, extra]]


def test_the_text_encoder_is_of_the_kind(ltxv):
    tokens, extra = encoded(ltxv, CAT)[0]
    assert tokens.shape == (1, 128, 48) and extra["pooled_output"] is None
    assert extra["attention_mask"].shape == (1, 128) and 0 < extra["attention_mask"].sum() < 10 and tokens[0, 10:].abs().amax(-1).min() > 0


def test_the_node_erases_and_padding_does_not_count(ltxv, m, pack):
    """Of a prompt, and of two that core's nodes joined, at every place."""
    import nodes

    ours, before = pack.UnHypeEraser.execute(ltxv.model, ltxv.eraser, 1.0).result[0], m.weights(ltxv.model)
    positive, negative = encoded(ltxv, CAT), encoded(ltxv, "")
    plain = m.sample(ltxv.model, positive, negative, ltxv.noise)
    erased = m.sample(ours, positive, negative, ltxv.noise)
    assert plain.isfinite().all() and m.distance(erased, plain) > 0.05
    averaged = nodes.ConditioningAverage().addWeighted(positive, encoded(ltxv, "a dog"), 0.7)[0]
    for prompt in (positive, averaged):
        found = [m.sample(ours, p, negative, ltxv.noise) for p in (prompt, with_other_padding(prompt))]
        torch.testing.assert_close(*found)
    patched = m.sample(m.merged(ltxv.model, ltxv.eraser, factors(ltxv, positive)), positive, negative, ltxv.noise, cfg=1.0)
    assert m.distance(m.sample(ours, positive, negative, ltxv.noise, cfg=1.0), patched) < 1e-4
    ltxv.model.unpatch_model()
    assert torch.equal(plain, m.sample(ltxv.model, positive, negative, ltxv.noise)) and m.unchanged(ltxv.model, before)


def factors(ltxv, conditioning):
    """The adapter at strength 1 for a prompt whose padding is cut off."""
    from unhype_pack.unhype.condition import read_condition
    from unhype_pack.unhype.hypernetwork import at_strength

    tokens, extra = conditioning[0]
    real = extra["attention_mask"][0].bool()
    return at_strength(ltxv.eraser.network, read_condition(tokens[:, real], None, reads_pooled=False), 1.0)


def read(ltxv, conditioning):
    from unhype_pack.nodes.patching import read_entry

    return read_entry(*conditioning[0], "the positive conditioning", ltxv.eraser)


def test_what_is_joined_behind_the_mask_is_read(ltxv):
    """ConditioningConcat keeps the first prompt's mask; text beyond one chunk has a mask of its own length."""
    import nodes

    first, second = encoded(ltxv, ""), encoded(ltxv, CAT)
    joined = nodes.ConditioningConcat().concat(first, second)[0]
    condition = read(ltxv, joined)
    own = first[0][1]["attention_mask"].sum()
    assert condition.mask.shape == (1, 256) and condition.mask[0, :128].sum() == own and condition.mask[0, 128:].all()
    assert read(ltxv, encoded(ltxv, LONG)).mask.sum() == encoded(ltxv, LONG)[0][1]["attention_mask"].sum() > 128
    assert not read(ltxv, nodes.ConditioningZeroOut().zero_out(second)[0]).mask.any()


def test_a_mask_of_another_kind_is_named(ltxv, m, pack):
    ours = pack.UnHypeEraser.execute(ltxv.model, ltxv.eraser, 1.0).result[0]
    tokens, extra = encoded(ltxv, CAT)[0]
    wrong = [[tokens[:, :64], extra]]
    with pytest.raises(ValueError, match=r"the positive conditioning has an attention_mask of shape \(1, 128\).*expected \(1, 64\)"):
        m.sample(ours, wrong, encoded(ltxv, ""), ltxv.noise)
    with pytest.raises(ValueError, match="the connected conditioning has an attention_mask"):
        pack.UnHypeEraser.execute(ltxv.model, ltxv.eraser, 1.0, wrong)


def test_another_width_is_refused_without_a_word_on_pooled(ltxv, pack):
    with pytest.raises(ValueError, match="its tokens are 99 wide, expected 48. Use") as error:
        pack.UnHypeEraser.execute(ltxv.model, ltxv.eraser, 1.0, [[torch.ones(1, 4, 99), {}]])
    assert "pooled" not in str(error.value)


@torch.no_grad()
def test_the_trainer_reads_and_predicts_as_a_graph_does(ltxv):
    """Prompts of several lengths together: each padded, none of the padding read or attended to."""
    backbone = Backbone(ltxv.model, ltxv.clip, None)
    texts = [CAT, LONG, ""]
    text = backbone.encode(texts)
    assert text.pooled.shape == (3, 0) and text.mask.shape == text.tokens.shape[:2] and text.meaning().shape == (3, 48)
    alone = [encoded(ltxv, t)[0] for t in texts]
    assert text.mask.sum(1).tolist() == [extra["attention_mask"].sum().item() for _, extra in alone]
    condition, x, sigma = text.condition(), ltxv.noise, torch.full((1,), 0.5)
    assert torch.equal(condition.mask, text.mask.bool()) and condition.pooled.shape == (3, 0)
    for i, (tokens, extra) in enumerate(alone):
        own = text.rows(slice(i, i + 1))
        (given,) = own.conditioning()
        assert given[1]["pooled_output"] is None and torch.equal(given[1]["attention_mask"], own.mask)
        real = tokens[:, extra["attention_mask"][0].bool()]
        torch.testing.assert_close(own.tokens[condition.mask[i][None]], real[0], atol=1e-4, rtol=1e-4)
        cut = backbone.predict(x, sigma, real, mask=torch.ones(real.shape[:2], dtype=torch.long))
        torch.testing.assert_close(backbone.predict(x, sigma, own.tokens, own.pooled, own.mask), cut, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(own.meaning(), real.mean(1), atol=1e-4, rtol=1e-4)
    whole, masked = (backbone.predict(x, sigma, text.tokens[:1], mask=mask) for mask in (torch.ones_like(text.mask[:1]), text.mask[:1]))
    assert not torch.allclose(whole, masked, atol=1e-2)


# ComfyUI 0.3.52 itself fails on a Flux conditioning with an attention_mask.
@pytest.mark.parametrize("name", ["sd1", pytest.param("flux-dev", marks=pytest.mark.since("0.3.75"))])
def test_a_denoiser_that_attends_to_padding_is_erased_by_it(m, pack, name):
    """Stable Diffusion and Flux do not heed a mask: whatever stands in the conditioning, nothing is hidden from the eraser."""
    model = m.make_model(name)
    ours, negative = pack.UnHypeEraser.execute(model, m.make_eraser(name, model), 1.0).result[0], m.prompt(name, 1)
    (tokens, extra) = m.prompt(name)[0]
    expected = m.sample(ours, [[tokens, extra]], negative, m.noise(name))
    for mask in (torch.eye(1, 12, dtype=torch.long), torch.zeros(1, 3), torch.zeros(1, 13, 13)):
        assert torch.equal(expected, m.sample(ours, [[tokens, extra | {"attention_mask": mask}]], negative, m.noise(name)))
    for missing in ({}, {"pooled_output": None}):
        with pytest.raises(ValueError, match="the positive conditioning has no pooled_output"):
            m.sample(ours, [[tokens, missing]], negative, m.noise(name))


def test_a_text_encoder_that_gives_too_little_is_named(m, ltxv):
    backbone = Backbone(m.make_model("sd1"), ltxv.clip, None)
    with pytest.raises(ValueError, match="the text encoder gives no pooled embedding, which a Stable Diffusion 1.x model reads"):
        backbone.encode([CAT])
