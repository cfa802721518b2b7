"""Training and sampling where the model lies on a graphics card: what is put together lies on one device (test_card.py runs these)."""

import pytest
import torch
from test_gradients import gradient


@pytest.fixture
def card(comfy, monkeypatch):
    """ComfyUI has a card (tests/host/card.py) on which it computes, and keeps weights in main memory until they are used."""
    import card as pretended
    import comfy.model_management as management

    from host import devices

    for name in ("get_torch_device", "text_encoder_device", "vae_device"):
        monkeypatch.setattr(management, name, lambda: pretended.CARD)
    for name in ("unet_offload_device", "text_encoder_offload_device", "vae_offload_device", "intermediate_device"):
        monkeypatch.setattr(management, name, lambda: torch.device("cpu"))

    def memory(dev=None, torch_free_too=False, torch_total_too=False):
        return (80 * pretended.GB,) * 2 if torch_free_too or torch_total_too else 80 * pretended.GB

    monkeypatch.setattr(management, "get_total_memory", memory), monkeypatch.setattr(management, "get_free_memory", memory)
    for name in ("should_use_fp16", "should_use_bf16"):
        monkeypatch.setattr(management, name, lambda *_, **__: False)
    monkeypatch.setattr(management, "soft_empty_cache", lambda *_: None)
    monkeypatch.setattr(devices, "kind", lambda: "card")
    with pretended.Watching():
        yield pretended.CARD
    management.unload_all_models()


@pytest.mark.parametrize("base", ["demo"])
def test_a_training_keeps_what_is_on_the_card_there(card, tiny, few_texts, tmp_path, base):
    from host.load import load_backbone
    from trainer.config import from_mapping
    from trainer.run.lock import only_run
    from trainer.train import train

    config = from_mapping(tiny | {"base": base, "out": str(tmp_path / "cat.safetensors"), "preview_every": 2, "iterations": 4}, "the test")
    backbone = load_backbone(config.base)
    assert backbone.device == card
    with only_run(config.out):
        eraser = train(config, backbone, progress=print)
    assert next(backbone.diffusion_model.parameters()).device == card
    assert eraser.metrics["verdict"] and eraser.onset


@pytest.mark.parametrize("name", ["sd1", "sdxl", "flux-dev"])
@pytest.mark.parametrize("apply", ["adapter", "weight patch"])
def test_an_eraser_in_main_memory_changes_a_model_on_the_card_as_one_on_the_cpu(pack, m, request, name, apply):
    prompt, other = m.prompt(name), m.prompt(name, 1)
    eraser = m.make_eraser(name, m.make_model(name))

    def drawn():
        model = m.make_model(name)
        erased = pack.UnHypeEraser.execute(model, eraser, 1.0, prompt, "", apply).result[0]
        return [m.sample(each, prompt, other, m.noise(name), steps=2) for each in (model, erased)]

    on_cpu = drawn()
    request.getfixturevalue("card")
    on_card = drawn()
    assert m.distance(on_cpu[0], on_cpu[1]) > 0.01
    assert all(m.distance(a, b) < 1e-4 for a, b in zip(on_card, on_cpu))


def gradient_with(m, name, needed):
    """The adapter's gradient with the weights on the card or in main memory, and where they lay."""
    from host.memory import recompute_blocks

    where = set()

    def prepare(backbone):
        backbone.load_again(needed)
        where.update(p.device.type for p in backbone.diffusion_model.parameters())
        recompute_blocks(backbone.diffusion_model, backbone.family)

    return gradient(m, name, prepare, rows=1), where


@pytest.mark.since("0.3.75")  # 0.3.52 puts 64 MB of weights on the card however little room there is, which is all of these
@pytest.mark.parametrize("name", ["sd1", "sdxl", "flux-dev"])
def test_weights_that_stay_in_main_memory_give_the_same_gradients(card, m, monkeypatch, name):
    import comfy.model_management as management

    monkeypatch.setattr(management, "vram_state", management.VRAMState.NORMAL_VRAM)
    monkeypatch.setattr(management, "MIN_WEIGHT_MEMORY_RATIO", 0.0)  # as with NVIDIA's cards
    (on_card, all_there), (moved, some_there) = (gradient_with(m, name, needed) for needed in (None, management.get_total_memory(card)))
    assert all_there == {"card"} and "cpu" in some_there
    assert on_card.norm() > 0 and m.distance(moved, on_card) < 1e-5
