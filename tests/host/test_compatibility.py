"""What users stack on a model beside the eraser: LoRAs, ControlNet, attention patches, tiles, caches."""

import pytest
import torch

NAMES = ("sd1", "sdxl", "flux-dev")
SHARED = {  # a layer that the eraser adapts too, another one, and for Flux the value rows of a fused matrix
    "sd1": (
        "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v",
        "diffusion_model.middle_block.1.transformer_blocks.0.attn1.to_q",
    ),
    "sdxl": (
        "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v",
        "diffusion_model.middle_block.1.transformer_blocks.1.ff.net.2",
    ),
    "flux-dev": (
        "transformer.single_transformer_blocks.0.attn.to_v",
        "diffusion_model.double_blocks.0.img_attn.qkv",
        "diffusion_model.single_blocks.1.linear2",
    ),
}


def with_lora(name, model):
    """The model with a LoRA of random weights, by the host's own loader."""
    import comfy.lora
    import comfy.sd

    rng, lora, known = torch.Generator().manual_seed(7), {}, comfy.lora.model_lora_keys_unet(model.model, {})
    for key in SHARED[name]:
        target = known[key]
        weight = model.model.state_dict()[target if isinstance(target, str) else target[0]]
        rows = weight.shape[0] if isinstance(target, str) else target[1][2]
        lora[f"{key}.lora_up.weight"] = torch.randn(rows, 3, generator=rng)
        lora[f"{key}.lora_down.weight"] = torch.randn(3, weight.shape[1], generator=rng) / weight.shape[1] ** 0.5
    return comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0.0)[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_lora_before_or_after_the_eraser_adds_up_with_it(m, pack, name):
    model = m.make_model(name)
    before, eraser = m.weights(model), m.make_eraser(name, model)
    positive, negative = m.prompt(name), m.prompt(name, 1)
    draw = lambda model, cfg: m.sample(model, positive, negative, m.noise(name), cfg=cfg)
    put = lambda model: pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    first, last, alone = put(with_lora(name, model)), with_lora(name, put(model)), with_lora(name, model)
    for cfg in (1.0, 4.0):
        assert torch.equal(draw(first, cfg), draw(last, cfg))
    both = m.merged(alone, eraser, m.factors_of(eraser, positive))
    assert m.distance(draw(first, 1.0), draw(both, 1.0)) < 1e-4
    assert min(m.distance(draw(first, 1.0), draw(other, 1.0)) for other in (alone, put(model), model)) > 0.02
    assert m.unchanged(model, before)


def with_controlnet(demo, positive, negative=None):
    """The conditionings with a ControlNet whose weights are random and whose output convolutions are not zero."""
    import nodes
    from demo.controlnet import new_controlnet

    control = new_controlnet(demo.model.model.diffusion_model, output=0.05)
    hint = torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(2))
    if negative is None:
        return nodes.ControlNetApply().apply_controlnet(positive, control, hint, 1.0)[0]
    return nodes.ControlNetApplyAdvanced().apply_controlnet(positive, negative, control, hint, 1.0, 0.0, 1.0)


@pytest.mark.parametrize("sides", ["positive", "both"])
def test_controlnet(s, demo, prompts, erased_model, comfy, sides):

    drawn = {}
    for name in ("erased", "safe"):
        positive, negative = prompts[name], prompts["empty"]
        plain = s.sample(demo.model, positive, negative, s.noise(2))
        if sides == "both":
            positive, negative = with_controlnet(demo, positive, negative)
        else:
            positive = with_controlnet(demo, positive)
        without, with_it = (s.sample(model, positive, negative, s.noise(2)) for model in (demo.model, erased_model))
        assert not torch.equal(without, plain)
        drawn[name] = without, with_it
    assert torch.equal(*drawn["safe"])
    without, with_it = drawn["erased"]
    assert (without - with_it).std() > 0.3 * without.std()
    assert not [module for module in demo.model.model.modules() if module._forward_hooks]


def image_tokens(rows, width):
    return torch.randn(1, 4, width, generator=torch.Generator().manual_seed(4)).expand(rows, -1, -1)


def as_more_tokens(name, model):
    """attn2_patch: an image's tokens behind the prompt's."""
    clone, width = model.clone(), 24
    longer = lambda t: torch.cat([t, image_tokens(len(t), width)], 1)
    clone.set_model_attn2_patch(lambda n, context, value, options: (n, longer(context), longer(value)))
    return clone


def with_attention_of_its_own(name, model):
    """attn2_replace, as IP-Adapter packs do: the usual attention plus one to an image through keys and values of its own."""
    from comfy.ldm.modules.attention import optimized_attention

    clone = model.clone()

    def attend(q, k, v, options):
        heads, image = options["n_heads"], image_tokens(len(q), q.shape[-1])
        return optimized_attention(q, k, v, heads) + optimized_attention(q, image, image.flip(1), heads)

    for number in range(4):
        for block in (("input", 4), ("middle", 0), ("output", 0), ("output", 1)):
            clone.set_model_attn2_replace(attend, *block, transformer_index=number)
    return clone


def with_blocks_of_its_own(name, model):
    """patches_replace of a double block, as Flux's IP-Adapters do: the block's own result plus something."""
    clone = model.clone()

    def replace(args, extra):
        out = extra["original_block"](args)
        return {**out, "img": out["img"] + image_tokens(len(out["img"]), out["img"].shape[-1]).mean(1, keepdim=True)}

    clone.set_model_patch_replace(replace, "dit", "double_block", 0)
    return clone


@pytest.mark.parametrize(
    "name, patch",
    [*((n, p) for n in ("sd1", "sdxl") for p in (as_more_tokens, with_attention_of_its_own)), ("flux-dev", with_blocks_of_its_own)],
)
def test_attention_patches_act_as_on_merged_weights(m, pack, name, patch):
    model = m.make_model(name)
    before, eraser = m.weights(model), m.make_eraser(name, model)
    positive, negative = m.prompt(name), m.prompt(name, 1)
    draw = lambda model, cfg=1.0: m.sample(model, positive, negative, m.noise(name), cfg=cfg)
    put = lambda model: pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    ours, merged = draw(put(patch(name, model))), draw(patch(name, m.merged(model, eraser, m.factors_of(eraser, positive))))
    assert m.distance(ours, merged) < 1e-4 and torch.equal(ours, draw(patch(name, put(model))))
    assert min(m.distance(ours, draw(other)) for other in (patch(name, model), put(model))) > 0.01
    safe = put(patch(name, model))
    eraser.network.switch.threshold.fill_(1e6)
    assert torch.equal(draw(safe, 4.0), draw(patch(name, model), 4.0)) and m.unchanged(model, before)


def test_a_patch_that_regroups_the_rows_is_refused(m, pack):
    """Attention couple: every prompt's tokens for every row."""
    model = m.make_model("sd1")
    twice = lambda n, context, value, options: (n.repeat(2, 1, 1), context.repeat(2, 1, 1), value.repeat(2, 1, 1))
    model.set_model_attn2_patch(twice)
    model.set_model_attn2_output_patch(lambda n, options: n.chunk(2)[0])
    m.sample(model, m.prompt("sd1"), m.prompt("sd1", 1), m.noise("sd1"))
    ours = pack.UnHypeEraser.execute(model, m.make_eraser("sd1", model), 1.0).result[0]
    with pytest.raises(RuntimeError, match="attention couple"):
        m.sample(ours, m.prompt("sd1"), m.prompt("sd1", 1), m.noise("sd1"))


def test_blocks_that_are_left_out_are_refused(m, s, pack, comfy):
    """Skip-layer guidance runs the model once more without some blocks."""
    from comfy_extras.nodes_slg import SkipLayerGuidanceDiT

    model = m.make_model("flux-dev")
    ours = pack.UnHypeEraser.execute(model, m.make_eraser("flux-dev", model), 1.0).result[0]
    skipping = lambda model: s.run(SkipLayerGuidanceDiT, model, 1.0, 0.0, 1.0, "1", "")[0]
    prompts = m.prompt("flux-dev"), m.prompt("flux-dev", 1)
    m.sample(skipping(model), *prompts, m.noise("flux-dev"), cfg=2.0)
    with pytest.raises(RuntimeError, match="leaves blocks out"):
        m.sample(skipping(ours), *prompts, m.noise("flux-dev"), cfg=2.0)


def test_steps_that_are_left_out_are_refused(s, demo, prompts, erased_model, comfy):
    """EasyCache answers some steps without the model; where nothing fires it may."""
    from comfy_extras.nodes_easycache import EasyCacheNode

    cached = lambda model: s.run(EasyCacheNode, model, 3.0, 0.0, 1.0, False)[0]
    s.sample(cached(erased_model), prompts["safe"], prompts["empty"], s.noise(), steps=8)
    with pytest.raises(RuntimeError, match="leaves blocks out"):
        s.sample(cached(erased_model), prompts["erased"], prompts["empty"], s.noise(), steps=8)


def rows_of(c, pick):
    """A denoiser's inputs with every tensor's rows picked."""
    return {k: pick(v) if isinstance(v, torch.Tensor) else v for k, v in c.items()}


def in_turn(apply, args):
    """Both halves of the picture, one call each."""
    x, t, c = args["input"], args["timestep"], args["c"]
    return torch.cat([apply(half, t, **c) for half in x.chunk(2, -1)], -1)


def in_one_batch(apply, args):
    """Both halves of the picture in one call, the rows' other inputs repeated."""
    x, t, c = torch.cat(args["input"].chunk(2, -1)), args["timestep"].repeat(2), args["c"]
    out = apply(x, t, **rows_of(c, lambda v: v.repeat(2, *[1] * (v.ndim - 1))))
    return torch.cat(out.chunk(2), -1)


def one_by_one(apply, args):
    """A call for every row."""
    x, t, c = args["input"], args["timestep"], args["c"]
    return torch.cat([apply(x[i : i + 1], t[i : i + 1], **rows_of(c, lambda v: v[i : i + 1])) for i in range(len(x))])


@pytest.mark.parametrize("tiles", [in_turn, in_one_batch, one_by_one])
def test_tiled_and_rechunked_calls(s, demo, prompts, erased_model, tiles):
    """What a tiled-diffusion pack does, with the adapter of each row's own prompt: as with the eraser's adapter on every tile."""
    both, noise = s.two_rows(prompts["safe"], prompts["erased"]), s.noise(2, width=16)
    cut = [model.clone() for model in (demo.model, erased_model)]
    for model in cut:
        model.set_model_unet_function_wrapper(tiles)
    without, with_it = (s.sample(model, both, prompts["empty"], noise) for model in cut)
    assert torch.equal(without[0], with_it[0]) and (without[1] - with_it[1]).std() > 0.3 * without[1].std()
    alone = s.sample(cut[1], prompts["erased"], prompts["empty"], noise[1:])[0]
    assert (with_it[1] - alone).abs().max() < 1e-4 * alone.abs().max()
    if tiles is one_by_one:
        assert (s.sample(erased_model, both, prompts["empty"], noise) - with_it).abs().max() < 1e-4 * with_it.abs().max()


def test_a_wrapper_that_forgets_the_labels_is_refused(s, demo, prompts, erased_model):
    def forgetful(apply, args):
        x, t, c = args["input"], args["timestep"], args["c"]
        parts = [apply(x[i : i + 1], t[i : i + 1], **{**c, "c_crossattn": c["c_crossattn"][i : i + 1]}) for i in range(len(x))]
        return torch.cat(parts)

    model = erased_model.clone()
    model.set_model_unet_function_wrapper(forgetful)
    with pytest.raises(RuntimeError, match="1 rows for 2 labelled ones"):
        s.sample(model, prompts["erased"], prompts["empty"], s.noise())


def test_regions_by_masks(s, demo, prompts, erased_model, comfy):
    """The erased prompt on the left half: there its rows change, the safe prompt's rows on the right do not."""
    import nodes

    left = torch.zeros(1, 64, 64)
    left[..., :32] = 1
    masked = lambda c, mask: nodes.ConditioningSetMask().append(c, mask, "default", 1.0)[0]
    regions = masked(prompts["erased"], left) + masked(prompts["safe"], 1 - left)
    watched = [s.watch(model) for model in (demo.model, erased_model)]
    without, with_it = (s.sample(model, regions, prompts["empty"], s.noise(), steps=1) for model, _ in watched)
    rows = [s.first_step(calls) for _, calls in watched]
    assert sorted(torch.equal(a, b) for a, b in zip(rows[0][0], rows[1][0])) == [False, True]
    assert torch.equal(rows[0][1][0], rows[1][1][0])
    changed = (without - with_it).abs().amax((0, 1, 2))
    assert (changed[:4] > 0).all() and (changed[4:] == 0).all()
