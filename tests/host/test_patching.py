"""The eraser in a real ComfyUI: the right rows, to the bit, and nothing left behind."""

import pytest
import torch


def test_erased_prompt_changes_and_safe_prompt_is_bit_equal(s, demo, prompts, erased_model):
    for name, equal in (("erased", False), ("safe", True)):
        without = s.sample(demo.model, prompts[name], prompts["empty"], s.noise())
        with_it = s.sample(erased_model, prompts[name], prompts["empty"], s.noise())
        assert torch.equal(without, with_it) == equal
        if not equal:
            assert (without - with_it).std() > 0.3 * without.std()


def test_strength_zero_is_the_model_itself(pack, demo):
    assert pack.UnHypeEraser.execute(demo.model, demo.eraser, 0.0).result[0] is demo.model


def test_strength_moves_the_picture_gradually_and_goes_on_beyond_1(s, pack, demo, prompts):
    drawn = {0.0: s.sample(demo.model, prompts["erased"], prompts["empty"], s.noise(2), steps=8)}
    for strength in (0.25, 0.5, 0.75, 0.9, 1.0, 2.0):
        model = pack.UnHypeEraser.execute(demo.model, demo.eraser, strength).result[0]
        drawn[strength] = s.sample(model, prompts["erased"], prompts["empty"], s.noise(2), steps=8)
    moved = {strength: (x - drawn[0.0]).norm() / (drawn[1.0] - drawn[0.0]).norm() for strength, x in drawn.items()}
    way = [moved[strength] for strength in (0.0, 0.25, 0.5, 0.75, 0.9, 1.0)]
    assert all(a < b for a, b in zip(way, way[1:]))
    assert 0.1 < moved[0.25] < 0.4 and 0.2 < moved[0.5] < 0.7 and not torch.equal(drawn[1.0], drawn[2.0])


def test_below_1_the_first_steps_are_the_bases_own_and_a_safe_prompt_is_bit_equal(s, pack, demo, prompts):
    model, seen = pack.UnHypeEraser.execute(demo.model, demo.eraser, 0.5).result[0], []
    for one in (demo.model, model):
        calls = []
        s.sample(one, prompts["erased"], prompts["empty"], s.noise(), steps=8, callback=lambda i, denoised, *_: calls.append(denoised))
        seen.append(calls)
    different = [not torch.equal(a, b) for a, b in zip(*seen)]
    assert different == sorted(different) and not different[0] and different[-1]
    safe = [s.sample(one, prompts["safe"], prompts["empty"], s.noise()) for one in (demo.model, model)]
    assert torch.equal(*safe)


def test_a_model_that_is_compiled_before_the_late_start_is_erased_from_then_on(s, pack, demo, prompts, comfy):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    model = pack.UnHypeEraser.execute(demo.model, demo.eraser, 0.5).result[0]
    expected = s.sample(model, prompts["erased"], prompts["empty"], s.noise())
    compiled = model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    torch.testing.assert_close(s.sample(compiled, prompts["erased"], prompts["empty"], s.noise()), expected, atol=1e-3, rtol=1e-3)


def test_base_model_is_bit_equal_after_use_exception_and_cancel(s, demo, prompts, erased_model, comfy):
    import comfy.model_management as management

    before = s.weights(demo.model)
    clean = s.sample(demo.model, prompts["erased"], prompts["empty"], s.noise())

    def fail(step, *_):
        if step == 1:
            raise RuntimeError("in the middle")

    def cancel(step, *_):
        if step == 1:
            management.interrupt_current_processing()
            management.throw_exception_if_processing_interrupted()

    s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise())
    assert s.unchanged(demo.model, before)
    with pytest.raises(RuntimeError, match="in the middle"):
        s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(), callback=fail)
    assert s.unchanged(demo.model, before)
    with pytest.raises(management.InterruptProcessingException):
        s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(), callback=cancel)
    assert s.unchanged(demo.model, before)
    assert torch.equal(clean, s.sample(demo.model, prompts["erased"], prompts["empty"], s.noise()))


def test_exception_inside_the_denoiser_leaves_no_hook(s, demo, prompts, erased_model):
    layer = demo.model.model.diffusion_model.get_submodule(demo.eraser.network.shape.layers[-1].name)
    calls = []

    def fail(module, args):
        calls.append(1)
        raise RuntimeError("inside")

    handle = layer.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="inside"):
        s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise())
    handle.remove()
    assert calls and not [m for m in demo.model.model.modules() if m._forward_hooks]


def test_rows_of_one_batch(s, demo, prompts, erased_model):
    both = s.two_rows(prompts["safe"], prompts["erased"])
    without = s.sample(demo.model, both, prompts["empty"], s.noise(2))
    with_it = s.sample(erased_model, both, prompts["empty"], s.noise(2))
    alone = s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(2)[1:])
    assert torch.equal(with_it[0], without[0])
    assert not torch.equal(with_it[1], without[1])
    assert (with_it[1] - alone[0]).abs().max() < 1e-4 * alone.abs().max()


def test_every_picture_of_a_batch_is_erased(s, demo, prompts, erased_model):
    with_it = s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(3))
    for i in range(3):
        alone = s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(3)[i : i + 1])
        assert (with_it[i] - alone[0]).abs().max() < 1e-4 * alone.abs().max()


def first_rows(s, model, positive, negative, rows=1):
    watched, calls = s.watch(model)
    s.sample(watched, positive, negative, s.noise(rows), steps=2)
    return s.first_step(calls)


def test_combined_prompts_each_have_their_own_adapter(s, demo, prompts, erased_model):
    combined = prompts["safe"] + prompts["erased"]
    without = first_rows(s, demo.model, combined, prompts["empty"])
    with_it = first_rows(s, erased_model, combined, prompts["empty"])
    changed = [not torch.equal(a, b) for a, b in zip(without[0], with_it[0])]
    assert sorted(changed) == [False, True]
    assert torch.equal(without[1][0], with_it[1][0])  # the unconditional rows
    alone = first_rows(s, erased_model, prompts["erased"], prompts["empty"])[0][0]
    assert min((part - alone).abs().max() for part in with_it[0]) < 1e-4 * alone.abs().max()


@pytest.mark.parametrize("side", ["positive", "negative"])
def test_areas_on_either_side(s, demo, prompts, erased_model, comfy, side):
    import nodes

    area = lambda c: nodes.ConditioningSetArea().append(c, 64, 64, 0, 0, 1.0)[0]
    positive, negative = prompts["erased"], prompts["safe"]
    positive, negative = (area(positive), negative) if side == "positive" else (positive, area(negative))
    without = first_rows(s, demo.model, positive, negative, rows=3)
    with_it = first_rows(s, erased_model, positive, negative, rows=3)
    assert all(not torch.equal(a[i], b[i]) for a, b in zip(without[0], with_it[0]) for i in range(3))
    assert all(torch.equal(a, b) for a, b in zip(without[1], with_it[1]))


def test_negative_prompt_that_names_the_concept_is_left_alone(s, demo, prompts, erased_model):
    without = s.sample(demo.model, prompts["safe"], prompts["erased"], s.noise())
    assert torch.equal(without, s.sample(erased_model, prompts["safe"], prompts["erased"], s.noise()))


@pytest.mark.parametrize("first, second, changed", [("erased", "safe", (0,)), ("safe", "erased", (1,)), ("erased", "erased2", (0, 1))])
def test_dual_cfg(s, demo, prompts, erased_model, comfy, first, second, changed):
    from comfy_extras.nodes_custom_sampler import DualCFGGuider

    seen = []
    for model in (demo.model, erased_model):
        watched, calls = s.watch(model)
        guider = s.run(DualCFGGuider, watched, prompts[first], prompts[second], prompts["erased"], 3.0, 2.0, "regular")[0]
        s.sample_with(guider, s.noise(), steps=2)
        seen.append(s.first_step(calls))
    # DualCFG runs [negative, middle, positive]: 2 is the first conditioning, 1 the second.
    different = {i for i in range(3) if not torch.equal(seen[0][i][0], seen[1][i][0])}
    assert different == {2 - c for c in changed}


@pytest.mark.parametrize("positive, negative, changed", [("erased", "safe", True), ("safe", "erased", False)])
def test_perp_neg(s, demo, prompts, erased_model, comfy, positive, negative, changed):
    from comfy_extras.nodes_perpneg import PerpNeg, PerpNegGuider

    results = []
    for model in (demo.model, erased_model):
        guider = s.run(PerpNegGuider, model, prompts[positive], prompts[negative], prompts["empty"], 3.0, 1.0)[0]
        old = s.run(PerpNeg, model, prompts["empty"], 1.0)[0]
        results.append((s.sample_with(guider, s.noise()), s.sample(old, prompts[positive], prompts[negative], s.noise())))
    for without, with_it in zip(*results):
        assert torch.equal(without, with_it) != changed


def test_scheduled_prompts(s, demo, prompts, erased_model, comfy):
    import nodes

    ranged = nodes.ConditioningSetTimestepRange().set_range
    late = ranged(prompts["safe"], 0.0, 0.5)[0] + ranged(prompts["erased"], 0.5, 1.0)[0]
    watched = [s.watch(m) for m in (demo.model, erased_model)]
    for model, _ in watched:
        s.sample(model, late, prompts["empty"], s.noise(), steps=4)
    same = [torch.equal(a[0][0], b[0][0]) for a, b in zip(watched[0][1], watched[1][1])]
    assert same[0] and not same[-1]


def test_zeroed_out_conditioning_never_fires(s, demo, prompts, erased_model, comfy):
    import nodes

    zero = nodes.ConditioningZeroOut().zero_out(prompts["erased"])[0]
    without = s.sample(demo.model, zero, prompts["empty"], s.noise())
    assert torch.equal(without, s.sample(erased_model, zero, prompts["empty"], s.noise()))


def test_connected_conditioning_decides(s, pack, demo, prompts):
    by_safe = pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, prompts["safe"]).result[0]
    by_erased = pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, prompts["erased"]).result[0]
    for sampled in ("safe", "erased"):
        base = s.sample(demo.model, prompts[sampled], prompts["empty"], s.noise())
        assert torch.equal(base, s.sample(by_safe, prompts[sampled], prompts["empty"], s.noise()))
        assert not torch.equal(base, s.sample(by_erased, prompts[sampled], prompts["empty"], s.noise()))


def test_same_file_twice_is_the_stronger_one(s, pack, demo, prompts):
    put = lambda model, strength: pack.UnHypeEraser.execute(model, demo.eraser, strength).result[0]
    once = s.sample(put(demo.model, 1.0), prompts["erased"], prompts["empty"], s.noise())
    for order in ((0.5, 1.0), (1.0, 0.5)):
        twice = s.sample(put(put(demo.model, order[0]), order[1]), prompts["erased"], prompts["empty"], s.noise())
        assert torch.equal(once, twice)


def test_two_erasers_add_up(s, pack, demo, prompts):
    import dataclasses

    twin = dataclasses.replace(demo.eraser, digest="another file")
    put = lambda model, eraser, strength: pack.UnHypeEraser.execute(model, eraser, strength).result[0]
    chain = s.sample(put(put(demo.model, demo.eraser, 1.0), twin, 1.0), prompts["erased"], prompts["empty"], s.noise())
    double = s.sample(put(demo.model, demo.eraser, 2.0), prompts["erased"], prompts["empty"], s.noise())
    assert (chain - double).abs().max() < 1e-3 * double.abs().max()


def test_compiled_model_is_erased_or_refused(s, demo, prompts, erased_model, comfy):
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    torch._dynamo.reset()
    compiled = erased_model.clone()
    set_torch_compile_wrapper(model=compiled, backend="eager")
    without = s.sample(demo.model, prompts["erased"], prompts["empty"], s.noise())
    s.sample(compiled, prompts["safe"], prompts["empty"], s.noise())
    try:
        result = s.sample(compiled, prompts["erased"], prompts["empty"], s.noise())
    except RuntimeError as error:
        assert "torch.compile" in str(error)
    else:
        expected = s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise())
        assert (result - expected).abs().max() < 1e-3 * expected.abs().max() and not torch.equal(result, without)
    torch._dynamo.reset()


def test_refusals_name_what_is_wrong(pack, demo, prompts):
    import dataclasses

    tokens, extra = prompts["erased"][0]
    with pytest.raises(ValueError, match="pooled_output"):
        pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, [[tokens, {}]])
    with pytest.raises(ValueError, match="connected conditioning comes from another kind of text encoder .* 768 wide, expected 128"):
        pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, [[torch.zeros(1, 77, 768), {"pooled_output": torch.zeros(1, 768)}]])
    with pytest.raises(ValueError, match="trained for Stable Diffusion XL, this model is Stable Diffusion 1.x"):
        pack.UnHypeEraser.execute(demo.model, dataclasses.replace(demo.eraser, family="sdxl"), 1.0)
    some = demo.model.clone()
    cut = torch.nn.Module()
    for name in ("input_blocks",):
        cut.add_module(name, demo.model.model.diffusion_model.get_submodule(name))
    some.add_object_patch("diffusion_model", cut)
    with pytest.raises(ValueError, match=r"of its 18 layers do not match"):
        pack.UnHypeEraser.execute(some, demo.eraser, 1.0)


def test_sampling_a_conditioning_without_pooled_is_an_error(s, demo, prompts, erased_model):
    with pytest.raises(ValueError, match="positive conditioning has no pooled_output"):
        s.sample(erased_model, [[prompts["erased"][0][0], {}]], prompts["empty"], s.noise())


def test_a_merge_keeps_the_eraser_of_its_first_model_only_and_the_help_says_so(s, pack, demo, prompts, erased_model, comfy):
    from pathlib import Path

    from comfy_extras.nodes_model_merging import ModelMergeSimple

    draw = lambda model: s.sample(model, prompts["erased"], prompts["empty"], s.noise(), steps=2)
    merged = [s.run(ModelMergeSimple, *models, 0.5)[0] for models in ((erased_model, demo.model), (demo.model, erased_model))]
    plain = draw(demo.model)
    assert (draw(merged[0]) - plain).std() > 0.1 * plain.std() and (draw(merged[1]) - plain).std() < 0.01 * plain.std()
    schema = pack.UnHypeEraser.define_schema()
    pages = Path(__file__).resolve().parents[2] / "web" / "docs"
    for text in (schema.description, schema.outputs[0].tooltip, (pages / "UnHypeEraser.md").read_text()):
        assert "merge" in text
