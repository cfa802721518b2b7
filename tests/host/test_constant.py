"""The prompts are the same in every step: what they bring about in the adapted layers is made once, and let go of at the end."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


@pytest.fixture
def watches(pack, monkeypatch):
    """The watch of every sampling."""
    from unhype_pack.nodes import patching

    made = []

    class Recorded(patching.Watch):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(patching, "Watch", Recorded)
    return made


def anew(monkeypatch):
    """As if no tensor were the same as in the step before."""
    from unhype_pack.nodes import patching

    monkeypatch.setattr(patching.Watch, "own_in_place_of", lambda *_: None)


class Products(TorchDispatchMode):
    """Counts the products of low-rank pairs: of three dimensions, which those of linear layers have not."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten.bmm.default, torch.ops.aten.baddbmm_.default, torch.ops.aten.matmul.default)
        return func(*args, **(kwargs or {}))


def products(s, model, prompts, steps):
    with Products() as counted:
        s.sample(model, prompts["erased"], prompts["empty"], s.noise(), steps=steps)
    return counted.count


def test_more_steps_take_no_more_products(s, demo, prompts, erased_model, monkeypatch):
    more = [products(s, erased_model, prompts, steps) - products(s, demo.model, prompts, steps) for steps in (2, 5)]
    assert more[0] == more[1] > 0
    anew(monkeypatch)
    assert products(s, erased_model, prompts, 5) - products(s, demo.model, prompts, 5) > 2 * more[0]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", ["one", "two in a batch", "combined", "scheduled", "longer", "below 1"])
def test_the_picture_is_the_one_that_is_made_anew_in_every_step(s, pack, demo, prompts, erased_model, monkeypatch, kind, rows):
    import nodes

    ranged = nodes.ConditioningSetTimestepRange().set_range
    positive = {
        "two in a batch": lambda: s.two_rows(prompts["erased"], prompts["safe"], prompts["erased2"])[:rows],
        "combined": lambda: prompts["safe"] + prompts["erased"],
        "scheduled": lambda: ranged(prompts["erased2"], 0.0, 0.5)[0] + ranged(prompts["erased"], 0.5, 1.0)[0],
        "longer": lambda: s.encode(demo.clip, s.ERASED + ", " + "very " * 80),
    }.get(kind, lambda: prompts["erased"])()
    model = pack.UnHypeEraser.execute(demo.model, demo.eraser, 0.6).result[0] if kind == "below 1" else erased_model
    once = s.sample(model, positive, prompts["empty"], s.noise(rows))
    anew(monkeypatch)
    every = s.sample(model, positive, prompts["empty"], s.noise(rows))
    assert (once - every).abs().max() < 1e-4 * every.abs().max()
    assert not torch.equal(every, s.sample(demo.model, positive, prompts["empty"], s.noise(rows)))


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_nothing_is_kept_after_a_sampling(s, demo, prompts, erased_model, watches, ends):
    kept = []

    def callback(step, *_):
        (watch,) = watches
        kept.append(sum(len(constant.kept) for constant in watch.expected.values()))
        if ends == "with an error" and step == 1:
            raise RuntimeError("in the middle")

    before = s.weights(demo.model)
    try:
        s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise(), callback=callback)
    except RuntimeError as error:
        assert str(error) == "in the middle" and ends == "with an error"
    (watch,) = watches
    assert set(kept) == {18} and not watch.expected and not watch.cast and not watch.models
    assert s.unchanged(demo.model, before)


def test_a_patch_that_writes_into_what_the_model_reads_stays_out_of_the_next_step(s, demo, prompts, erased_model, monkeypatch):
    def scribble(n, context, value, options):
        return n, context.mul_(1.01), value

    model = erased_model.clone()
    model.set_model_attn2_patch(scribble)
    once = s.sample(model, prompts["erased"], prompts["empty"], s.noise())
    anew(monkeypatch)
    every = s.sample(model, prompts["erased"], prompts["empty"], s.noise())
    assert (once - every).abs().max() < 1e-4 * every.abs().max()
    assert not torch.equal(every, s.sample(erased_model, prompts["erased"], prompts["empty"], s.noise()))


def test_a_model_in_16_bits_is_handed_what_it_reads(m, pack, watches, monkeypatch):
    """Which type that is the first step shows; from the second one on the changes are kept."""
    model = m.make_model("sd1", torch.bfloat16, torch.bfloat16)
    ours = pack.UnHypeEraser.execute(model, m.make_eraser("sd1", model), 1.0).result[0]
    kept = []

    def callback(*_):
        kept.append({key[3]: len(constant.kept) for key, constant in watches[0].expected.items()}.get(torch.bfloat16, 0))

    once = m.sample(ours, m.prompt("sd1"), m.prompt("sd1", 1), m.noise("sd1"), callback=callback)
    assert kept == [0, 14, 14, 14]
    anew(monkeypatch)
    assert m.distance(once, m.sample(ours, m.prompt("sd1"), m.prompt("sd1", 1), m.noise("sd1"))) < 0.01
