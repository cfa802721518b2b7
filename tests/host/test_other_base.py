"""An eraser on a model that is not quite its base: one warning that names both, and it erases all the same."""

import dataclasses
import logging

import pytest
import torch

SEEDS, STEPS = 4, 16


@pytest.fixture
def eraser(demo):
    """The bundled eraser as if it had been trained now, under a digest of its own so that it was not yet compared."""
    from unhype_pack.unhype.sketch import sketch

    weight_of = lambda name: demo.model.model.diffusion_model.get_submodule(name).weight
    numbers = sketch(demo.eraser.network.shape.layers, weight_of)
    return dataclasses.replace(demo.eraser, base={"name": "emoji-sd", "sketch": numbers}, digest="compared")


@torch.no_grad()
def another(change):
    """The demo base anew, its UNet's tensors changed."""
    from demo.base import load

    model = load()[0]
    for parameter in model.model.diffusion_model.parameters():
        parameter.data = change(parameter.data)
    return model


def noisy(share):
    """Gaussian noise of this share of a tensor's size."""
    rng = torch.Generator().manual_seed(0)

    def change(tensor):
        noise = torch.randn(tensor.shape, generator=rng)
        return tensor + share * tensor.norm() / noise.norm() * noise

    return change


def warnings(pack, caplog, model, eraser):
    caplog.clear()
    with caplog.at_level(logging.WARNING, "unhype"):
        for _ in range(2):
            pack.UnHypeEraser.execute(model, eraser, 1.0)
    return [r.getMessage() for r in caplog.records if r.name == "unhype"]


def cats(s, demo, model) -> float:
    """Of pictures of cat prompts the share that the judge calls cats."""
    from demo.judge import NAMES, load_judge
    from demo.prompts import erased_prompts

    with torch.inference_mode():
        text = [s.encode(demo.clip, p.text) for p in erased_prompts("cat") for _ in range(SEEDS)]
        latents = s.sample(model, s.two_rows(*text), s.encode(demo.clip, ""), s.noise(len(text)), steps=STEPS)
        return (load_judge().scores(demo.vae.decode(latents)).argmax(1) == NAMES.index("cat")).float().mean().item()


def test_a_fine_tune_warns_once_and_is_erased(s, pack, demo, eraser, caplog):
    model = another(noisy(0.03))
    (said,) = warnings(pack, caplog, model, eraser)
    assert "demo_cat.safetensors was trained on emoji-sd; this model's weights differ by 3." in said or "by 2." in said
    drawn = cats(s, demo, model), cats(s, demo, pack.UnHypeEraser.execute(model, eraser, 1.0).result[0])
    print("cats without and with the eraser:", drawn)
    assert drawn[0] > 0.8 and drawn[1] < 0.15


@pytest.mark.parametrize("share, warns", [(0.002, 0), (0.01, 1)])
def test_small_differences(pack, demo, eraser, caplog, share, warns):
    assert len(warnings(pack, caplog, another(noisy(share)), eraser)) == warns


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_the_base_in_fewer_bits_is_the_base(pack, demo, eraser, caplog, dtype):
    assert not warnings(pack, caplog, another(lambda t: t.to(getattr(torch, dtype))), eraser)


def test_in_8_bits_a_far_model_warns(pack, demo, eraser, caplog):
    far = noisy(0.1)
    assert len(warnings(pack, caplog, another(lambda t: far(t).to(torch.float8_e4m3fn)), eraser)) == 1


def test_a_lora_is_no_other_base(s, pack, demo, eraser, caplog):
    """Also while it is merged into the weights."""
    from comfy.weight_adapter import LoRAAdapter

    key = f"diffusion_model.{eraser.network.shape.layers[0].name}.weight"
    rows, columns = demo.model.model.state_dict()[key].shape
    patched = demo.model.clone()
    assert patched.add_patches({key: LoRAAdapter(set(), (torch.randn(rows, 2), torch.randn(2, columns), None, None, None, None))})
    before = demo.model.model.state_dict()[key].clone()
    s.sample(patched, s.encode(demo.clip, "a dog"), s.encode(demo.clip, ""), s.noise(), steps=1)
    assert not torch.equal(demo.model.model.state_dict()[key], before)
    assert not warnings(pack, caplog, patched, eraser) and not warnings(pack, caplog, demo.model, dataclasses.replace(eraser, digest="b"))
    s.sample(demo.model, s.encode(demo.clip, "a dog"), s.encode(demo.clip, ""), s.noise(), steps=1)


def test_files_that_say_nothing_and_weights_that_cannot_be_read(pack, demo, eraser, caplog):
    model = another(noisy(0.1))
    assert not warnings(pack, caplog, model, dataclasses.replace(eraser, base={}))
    assert not warnings(pack, caplog, model, dataclasses.replace(eraser, base={"name": "x", "sketch": []}, digest="c"))

    class Bytes(torch.Tensor):
        pass

    for layer in eraser.network.shape.layers:
        module = model.model.diffusion_model.get_submodule(layer.name)
        module.weight = torch.nn.Parameter(module.weight.data.as_subclass(Bytes), requires_grad=False)
    assert not warnings(pack, caplog, model, dataclasses.replace(eraser, digest="d"))
