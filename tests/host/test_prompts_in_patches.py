"""Prompts that reach the model past the sampler are refused whatever fires; what only reshapes the sampler's own is not."""

import logging

import pytest
import torch

REGION = "a cat, twitter style, on a green background"
REFUSED = "attention couple"


@pytest.fixture
def region(s, demo):
    with torch.inference_mode():
        return s.encode(demo.clip, REGION)[0][0]


@pytest.fixture
def erased_by(pack, demo):
    return lambda model: pack.UnHypeEraser.execute(model, demo.eraser, 1.0).result[0]


def no_hooks(model):
    return not [m for m in model.model.modules() if m._forward_hooks or m._forward_pre_hooks]


def instead(region):
    """The region's prompt in place of every row's own: as many rows as before."""
    return lambda n, context, value, options: (n, region.expand_as(context), region.expand_as(value))


def only_keys(region):
    return lambda n, context, value, options: (n, region.expand_as(context), value)


def only_values(region):
    return lambda n, context, value, options: (n, context, region.expand_as(value))


def in_one_row(region):
    """Two rows as before: the first is the positive's or the negative's own, the other the region's."""
    put = lambda states: torch.cat([states[:1], region.expand_as(states[1:])])
    return lambda n, context, value, options: (n, put(context), put(value))


def beside(region):
    """The region's tokens behind the prompt's own."""
    longer = lambda states: torch.cat([states, region.expand(len(states), -1, -1)], 1)
    return lambda n, context, value, options: (n, longer(context), longer(value))


def only_the_word(region):
    longer = lambda states: torch.cat([states, region[:, 1:4].expand(len(states), -1, -1)], 1)
    return lambda n, context, value, options: (n, longer(context), longer(value))


def blended(region):
    half = lambda states: 0.5 * states + 0.5 * region
    return lambda n, context, value, options: (n, half(context), half(value))


WAYS = [instead, only_keys, only_values, in_one_row, beside, only_the_word, blended]


CASES = [(way, name) for way in WAYS for name in ("safe", "erased")]
CASES.remove((only_the_word, "erased"))  # it fires in the row's own prompt too, whose adapter acts on it


@pytest.mark.parametrize("way, name", CASES)
def test_a_prompt_in_an_attn2_patch_is_refused_whatever_fires(s, demo, prompts, region, erased_by, way, name):
    model = demo.model.clone()
    model.set_model_attn2_patch(way(region))
    draw = lambda model: s.sample(model, prompts[name], prompts["empty"], s.noise(), steps=2)
    draw(model)
    with pytest.raises(RuntimeError, match=REFUSED):
        draw(erased_by(model))
    assert no_hooks(demo.model)


def test_a_harmless_region_is_refused_too(s, demo, prompts, erased_by):
    with torch.inference_mode():
        dog = s.encode(demo.clip, "a dog, twitter style, on a green background")[0][0]
    model = demo.model.clone()
    model.set_model_attn2_patch(instead(dog))
    with pytest.raises(RuntimeError, match=REFUSED):
        s.sample(erased_by(model), prompts["safe"], prompts["empty"], s.noise(), steps=1)


def test_an_attention_of_its_own_that_reads_another_prompt_is_refused(s, demo, prompts, region, erased_by):
    """attn2_replace that calls the block's own to_k and to_v on a region: the rows are as many as before."""
    from comfy.ldm.modules.attention import optimized_attention

    model = demo.model.clone()
    attn2 = model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2

    def attend(q, k, v, options):
        states = region.expand(len(q), -1, -1)
        return optimized_attention(q, attn2.to_k(states), attn2.to_v(states), options["n_heads"])

    model.set_model_attn2_replace(attend, "middle", 0, transformer_index=0)
    draw = lambda model: s.sample(model, prompts["safe"], prompts["empty"], s.noise(), steps=1)
    draw(model)
    with pytest.raises(RuntimeError, match=REFUSED):
        draw(erased_by(model))


def test_regrouped_rows_are_refused_where_nothing_fires(s, demo, prompts, erased_by):
    model = demo.model.clone()
    twice = lambda n, context, value, options: (n.repeat(2, 1, 1), context.repeat(2, 1, 1), value.repeat(2, 1, 1))
    model.set_model_attn2_patch(twice)
    model.set_model_attn2_output_patch(lambda n, options: n.chunk(2)[0])
    with pytest.raises(RuntimeError, match=REFUSED):
        s.sample(erased_by(model), prompts["safe"], prompts["empty"], s.noise(), steps=1)


def test_rows_that_change_places_are_refused(s, demo, prompts, erased_by):
    """Each row reads a prompt of the sampler's, but not its own: the safe row would draw the erased one."""
    both = s.two_rows(prompts["safe"], prompts["erased"])
    model = demo.model.clone()
    model.set_model_attn2_patch(lambda n, context, value, options: (n, context.flip(0), value.flip(0)))
    with pytest.raises(RuntimeError, match=REFUSED):
        s.sample(erased_by(model), both, prompts["empty"], s.noise(2), steps=1)


def other_prompt(region):
    """model_function_wrapper that hands the model another prompt."""
    return lambda apply, args: apply(
        args["input"], args["timestep"], **{**args["c"], "c_crossattn": region.expand_as(args["c"]["c_crossattn"])}
    )


def without_labels(region):
    """And one that passes on nothing of what it was given but the options."""
    return lambda apply, args: apply(
        args["input"],
        args["timestep"],
        c_crossattn=region.expand_as(args["c"]["c_crossattn"]),
        transformer_options=args["c"]["transformer_options"],
    )


@pytest.mark.parametrize("wrapper", [other_prompt, without_labels])
def test_a_wrapper_that_hands_the_model_another_prompt_is_refused(s, demo, prompts, region, erased_by, wrapper):
    model = demo.model.clone()
    model.set_model_unet_function_wrapper(wrapper(region))
    with pytest.raises(RuntimeError, match=REFUSED):
        s.sample(erased_by(model), prompts["safe"], prompts["empty"], s.noise(), steps=1)


def test_a_node_inside_the_model_that_changes_the_prompt_is_refused(m, pack):
    """A DIFFUSION_MODEL wrapper, as regional packs for Flux have it."""
    from comfy.patcher_extension import WrappersMP

    model = m.make_model("flux-dev")
    other = m.prompt("flux-dev", 5)[0][0]
    eraser = m.make_eraser("flux-dev", model)
    eraser.network.switch.threshold.fill_(1e6)
    draw = lambda model: m.sample(model, m.prompt("flux-dev"), m.prompt("flux-dev", 1), m.noise("flux-dev"), cfg=1.0, steps=1)
    for mixed in (lambda own: other.to(own), lambda own: torch.cat([own, other.to(own)], 1)):

        def wrapper(executor, x, t, context, *args, **kwargs):
            return executor(x, t, mixed(context), *args, **kwargs)

        patched = model.clone()
        patched.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "other", wrapper)
        draw(patched)
        with pytest.raises(RuntimeError, match=REFUSED):
            draw(pack.UnHypeEraser.execute(patched, eraser, 1.0).result[0])


def flipped(n, context, value, options):
    """A negative weight, as NegPip has it: the sign of some values."""
    value = value.clone()
    value[:, 3:6] *= -1
    return n, context, value


def halves(n, context, value, options):
    """Keys and values that lie interleaved in one conditioning."""
    return n, context[:, 0:76:2], value[:, 1:76:2]


def louder(n, context, value, options):
    return n, context * 1.5, value * 1.5


def shortened(n, context, value, options):
    return n, context[:, :40], torch.cat([value[:, :20], torch.zeros_like(value[:, :20])], 1)


@pytest.mark.parametrize("patch", [flipped, halves, louder, shortened])
@pytest.mark.parametrize("name", ["safe", "erased"])
def test_a_patch_that_only_reshapes_the_own_prompt_works(s, demo, prompts, erased_by, patch, name):
    model = demo.model.clone()
    model.set_model_attn2_patch(patch)
    draw = lambda model: s.sample(model, prompts[name], prompts["empty"], s.noise(), steps=2)
    assert torch.equal(draw(model), draw(erased_by(model))) == (name == "safe")
    assert no_hooks(demo.model)


def test_prompts_of_several_lengths_in_one_batch(s, demo, prompts, erased_by):
    """The host repeats the shorter prompt's states until all are as long."""
    with torch.inference_mode():
        long = s.encode(demo.clip, "a dog, google style, on a blue background, " + "very nice, " * 40)
    assert long[0][0].shape[1] > 77
    for positive in (long, long + prompts["safe"]):
        draw = lambda model: s.sample(model, positive, prompts["empty"], s.noise(), steps=2)
        assert torch.equal(draw(demo.model), draw(erased_by(demo.model)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_states_that_the_host_casts_are_the_prompts_own(m, pack, dtype):
    model = m.make_model("sd1", getattr(torch, dtype), getattr(torch, dtype))
    eraser = m.make_eraser("sd1", model)
    eraser.network.switch.threshold.fill_(1e6)
    erased = pack.UnHypeEraser.execute(model, eraser, 1.0).result[0]
    draw = lambda model: m.sample(model, m.prompt("sd1"), m.prompt("sd1", 1), m.noise("sd1"))
    assert torch.equal(draw(model), draw(erased))


def test_a_forward_of_a_nodes_own_is_read(s, demo, prompts, erased_by, comfy):
    """PerpNeg runs its empty prompt by itself: left alone where it means nothing erased, refused where it does."""
    from comfy_extras.nodes_perpneg import PerpNeg

    model = lambda name: s.run(PerpNeg, erased_by(demo.model), prompts[name], 1.0)[0]
    s.sample(model("empty"), prompts["safe"], prompts["empty"], s.noise(), steps=1)
    with pytest.raises(RuntimeError, match=REFUSED):
        s.sample(model("erased"), prompts["safe"], prompts["empty"], s.noise(), steps=1)


def test_boxes_of_gligen_are_refused(s, pack, demo, prompts, erased_by):
    boxed = [[prompts["safe"][0][0], {**prompts["safe"][0][1], "gligen": ("position", object(), [])}]]
    with pytest.raises(ValueError, match="GLIGEN"):
        s.sample(erased_by(demo.model), boxed, prompts["empty"], s.noise(), steps=1)
    with pytest.raises(ValueError, match="GLIGEN"):
        pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, boxed)


@pytest.mark.parametrize("hooks", ["cold", "warm"])
def test_a_compiled_model_whose_prompts_cannot_be_seen_is_no_error_and_is_said(s, demo, prompts, erased_by, comfy, caplog, hooks):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch._dynamo.reset()
    compiled = erased_by(demo.model)
    set_torch_compile_wrapper(model=compiled, backend="eager")
    draw = lambda model, steps: s.sample(model, prompts["safe"], prompts["empty"], s.noise(), steps=steps)
    if hooks == "warm":
        plain = demo.model.clone()
        plain.add_wrapper_with_key("apply_model", "torch.compile", compiled.get_wrappers("apply_model", "torch.compile")[0])
        draw(plain, 1)
    with caplog.at_level(logging.WARNING, "unhype"):
        drawn = [draw(compiled, 3) for _ in range(2)][1]
    assert (drawn - draw(demo.model, 3)).abs().max() < 1e-3
    assert len([r for r in caplog.records if r.name == "unhype" and "torch.compile" in r.getMessage()]) == 1
    compiled.set_model_attn2_patch(flipped)
    torch._dynamo.reset()
    with pytest.raises(RuntimeError, match="torch.compile"):
        draw(compiled, 1)
    torch._dynamo.reset()


def test_token_states_are_compared_up_to_sign_and_size(pack):
    from unhype_pack.nodes.watch import found_in

    own = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    read = torch.stack([own[2], -own[3], 2 * own[4], own[1] + 0.2 * own[5], torch.zeros(8)])
    assert found_in(read, own).any(1).tolist() == [True, True, True, False, False]
