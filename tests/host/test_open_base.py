"""The making of emoji-open: its captions, its optimiser, its training's state and its file."""

import re

import numpy as np
import pytest
import torch

SMALL = {
    "model_channels": 32,
    "context_dim": 48,
    "num_res_blocks": [1, 1],
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1] * 4,
}


@pytest.fixture
def make_run(comfy):
    """A function: a training run of a small UNet, its weights always the same."""
    from demo import base
    from demo.make_base import initialise
    from demo.open.run import Run

    def make():
        torch.manual_seed(0)
        unet = base.new_unet(base.UNET | SMALL).diffusion_model.requires_grad_(True)
        initialise(unet)
        return Run(unet, 7)

    return make


def steps(run, count):
    """So many updates by the run's own step numbers, the whitening in use."""
    for _ in range(count):
        rng = torch.Generator().manual_seed(run.step)
        x, context = torch.randn(4, 32, 8, 8, generator=rng), torch.randn(4, 5, 48, generator=rng)
        run.update(
            (run.unet(x, torch.full((4,), 500.0), context=context @ run.whitening) - x).square().mean()
            + run.namer(torch.arange(4)[:, None]),
            0,
        )


def test_captions_hold_the_words_that_they_may():
    from demo.open.captions import draw_caption
    from demo.open.nouns import NOUNS

    rng, names = np.random.default_rng(0), list(NOUNS)
    drawn = [draw_caption(rng, *rng.choice(names, i % 3, replace=False).tolist(), long=i % 5 == 0) for i in range(3000)]
    drawn_text = "\n".join(c.text for c in drawn)
    for caption in drawn:
        for noun in map(NOUNS.get, caption.nouns):
            assert any(phrase in caption.text for phrase in (*noun.words, *noun.descriptions)), caption
    assert not any(text in drawn_text for noun in NOUNS.values() for text in (noun.held_out_description, noun.long_description))
    assert {len(c.nouns) for c in drawn} == {0, 1, 2} and any(not c.style for c in drawn) and any(not c.background for c in drawn)


def test_the_first_noun_of_a_pair_is_the_left_one():
    from demo.open.captions import JOINTS, TURNED, subject

    told = [subject("a cat", "a bus", joint=j) for j in (*JOINTS, *TURNED)]
    sides = [t for t in told if "left" in t or "right" in t]
    assert len(sides) == 5
    for text in sides:
        assert re.search("a cat (on|to) the left|left a cat|a bus (on|to) the right", text), text
        assert not re.search("a cat (on|to) the right|right a cat|a bus (on|to) the left", text), text


def test_muon_moves_every_direction_alike():
    from demo.muon import Muon, orthogonal

    torch.manual_seed(0)
    rare = torch.randn(24, 6) @ torch.diag(torch.tensor([10.0, 3, 1, 1, 0.3, 0.1])) @ torch.randn(6, 80)
    values = torch.linalg.svdvals(orthogonal(rare))[:6]
    assert 0.5 < values.min() and values.max() < 1.4
    weight = torch.nn.Parameter(torch.zeros(24, 8, 3, 3))
    optimizer = Muon([weight], lr=0.01)
    weight.grad = torch.randn_like(weight)
    optimizer.step()
    assert weight.square().mean().sqrt().item() == pytest.approx(0.2 * 0.01, rel=0.3)


def test_the_namer_learns_where_a_noun_is(make_run):
    """Two nouns side by side are named each in its half, and what is not to be named teaches nothing."""
    run = make_run()
    x, context, t = torch.randn(2, 32, 8, 16), torch.randn(2, 5, 48), torch.full((2,), 500.0)
    run.unet(x, t, context=context)
    first = run.namer(torch.tensor([[1, 2], [-1, -1]]))
    for _ in range(60):
        drawn = run.unet(x, t, context=context)
        run.update(run.namer(torch.tensor([[1, 2], [-1, -1]])) + 0 * drawn.sum(), 0)
    run.unet(x, t, context=context)
    places = run.namer.heads[1](run.namer.features["middle_block"].mean(2).movedim(1, -1)).argmax(-1)  # by columns
    assert places[0, :3].eq(1).all() and places[0, -3:].eq(2).all()
    assert run.namer(torch.tensor([[1, 2], [-1, -1]])) < 0.3 * first


def test_a_run_goes_on_where_it_was_stopped(make_run, tmp_path):
    whole, first, second = make_run(), make_run(), make_run()
    for run in (whole, first):
        run.whitening = torch.randn(48, 48, generator=torch.Generator().manual_seed(1)) / 7
    steps(whole, 5)
    steps(first, 3), first.save(tmp_path / "state.safetensors")
    second.load(tmp_path / "state.safetensors"), steps(second, 2)
    assert second.step == whole.step == 5
    for a, b in zip([*whole.parameters, *whole.ema], [*second.parameters, *second.ema]):
        assert torch.equal(a, b)


def test_the_file_needs_no_whitening(make_run, tmp_path):
    """The UNet as written, on MiniLM's plain states, is the one that was trained on whitened ones."""
    from safetensors.torch import load_file

    from demo import base
    from demo.autoencoder import Autoencoder

    run = make_run()
    run.whitening = torch.randn(48, 48, generator=torch.Generator().manual_seed(1)) / 7
    run.whitening = run.whitening + run.whitening.T
    for q in run.parameters:
        torch.nn.init.normal_(q, std=0.1)
    run.ema = [q.detach().clone() for q in run.parameters]
    run.export(tmp_path / "base.safetensors", Autoencoder())
    written = base.new_unet(base.UNET | SMALL).diffusion_model
    written.load_state_dict(base.part(base.read(tmp_path / "base.safetensors"), "unet."))
    assert {t.dtype for t in load_file(tmp_path / "base.safetensors").values()} == {torch.float16}
    x, context, t = torch.randn(2, 32, 8, 8), 9 * torch.randn(2, 5, 48), torch.full((2,), 300.0)
    with torch.no_grad():
        trained, plain = run.unet(x, t, context=context @ run.whitening), written(x, t, context=context)
        blind = written(x, t, context=context @ run.whitening)
    assert (trained - plain).norm() < 0.1 * (trained - blind).norm()


def test_a_run_starts_from_a_file(make_run, tmp_path):
    """Its weights come back from the written ones, also where the whitening is another."""
    from demo.autoencoder import Autoencoder

    first, second = make_run(), make_run()
    for seed, run in enumerate((first, second)):
        run.whitening = torch.eye(48) + torch.randn(48, 48, generator=torch.Generator().manual_seed(seed)) / 40
    steps(first, 8), first.export(tmp_path / "base.safetensors", Autoencoder())
    second.start(tmp_path / "base.safetensors")
    x, context, t = torch.randn(2, 32, 8, 8), torch.randn(2, 5, 48), torch.full((2,), 300.0)
    with torch.no_grad():
        for weight, average in zip(first.parameters, first.ema):
            weight.copy_(average)
        before, after = (run.unet(x, t, context=context @ run.whitening) for run in (first, second))
    assert second.step == 8 and (before - after).norm() < 0.02 * before.norm()


def test_the_rate_falls_to_nothing_when_asked(make_run):
    run, rates = make_run(), []
    run.step = 100
    run.end = run.step + 4
    for _ in range(4):
        drawn = run.unet(torch.ones(1, 32, 8, 8), torch.ones(1), context=torch.ones(1, 5, 48))
        run.update((drawn - 1).square().mean() + run.namer(torch.tensor([[3]])), 4)
        rates.append(run.optimizers[0].param_groups[0]["lr"] / run.rates[0])
    assert rates == pytest.approx([1.0, 0.75, 0.5, 0.25])


def test_the_judge_finds_a_noun_in_either_half(comfy):
    from demo.open.judge import NAMES, Judge

    torch.manual_seed(0)
    judge = Judge().eval()
    left, right, grey = torch.rand(1, 64, 64, 3), torch.rand(1, 64, 64, 3), torch.full((1, 64, 64, 3), 0.5)
    both = judge.scores(torch.cat([left, right], 2))
    assert both.shape == (1, len(NAMES)) and len(NAMES) >= 300
    for half in (torch.cat([left, grey], 2), torch.cat([grey, left], 2)):
        assert judge.scores(half).shape == both.shape and (judge.scores(half) >= judge.scores(left) * 0.5).all()


def test_a_base_of_full_size_is_loaded_and_draws(comfy, tmp_path):
    """Through the loader that `--base demo-open` uses, from a file with random weights."""
    from demo.autoencoder import Autoencoder
    from demo.make_base import initialise
    from demo.open import base
    from demo.open.run import Run
    from host.backbone import Backbone
    from host.load import ready

    torch.manual_seed(0)
    unet = base.new_unet().diffusion_model.requires_grad_(True)
    initialise(unet)
    Run(unet, 3).export(tmp_path / "base.safetensors", Autoencoder())
    backbone = ready(Backbone(*base.load(tmp_path / "base.safetensors")))
    text = backbone.encode(["a cat and a dog"]).conditioning()
    latents = backbone.sample(text, text, (128, 64), 0, 1, 1.0, noise=backbone.noise((128, 64), 0)[None])
    assert backbone.vae.decode(latents).shape == (1, 64, 128, 3)
    with pytest.raises(FileNotFoundError, match=r"make them with python demo/open/make_base.py"):
        base.load(tmp_path / "nothing.safetensors")


def test_an_eraser_is_trained_where_prompts_are_of_different_lengths(comfy, tiny, few_texts, tmp_path):
    """MiniLM's are as long as they are; with guidance a prompt and the empty one are asked for in one batch."""
    from host.load import load_backbone
    from trainer.config import from_mapping
    from trainer.run.lock import only_run
    from trainer.train import train

    own = {"base": "demo-open", "retain": ["dog", "bear", "car"], "iterations": 2, "out": str(tmp_path / "cat.safetensors")}
    config = from_mapping(tiny | own, "the test")
    with only_run(config.out):
        eraser = train(config, load_backbone(config.base), progress=print)
    assert eraser.metrics["verdict"] and eraser.onset


def test_prompts_of_different_lengths_lie_in_one_batch_as_the_host_puts_them(comfy):
    from host.encode import Text

    one = Text(torch.randn(2, 6, 3), torch.randn(2, 5), torch.tensor([[1, 1, 1, 1, 0, 0]] * 2))
    both = one.beside(Text(torch.randn(1, 4, 3), torch.randn(1, 5), torch.ones(1, 4, dtype=torch.long)))
    assert both.tokens.shape == (3, 12, 3) and both.mask.tolist()[0] == [1, 1, 1, 1, 0, 0] * 2
    query = torch.randn(3, 7, 3)
    attend = lambda q, states, mask: (q @ states.mT).masked_fill(mask[:, None] == 0, -1e9).softmax(-1) @ states
    assert torch.allclose(attend(query, both.tokens, both.mask)[:2], attend(query[:2], one.tokens, one.mask), atol=1e-6)
