"""A base by its content: samples of one model are never taken for another's, NaN is never kept, a damaged cache is made again."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from host.encode import Text
from host.load import load_backbone
from trainer.config import Config
from trainer.prompts.concepts import Prompt, Target
from trainer.run.content import content_of, sums
from trainer.run.divergence import Diverged, diverged
from trainer.samples import Asked, cached_samples

CONFIG = Config(base="painter", size="64x64", pictures=4, sampling_steps=4, kept_steps=2)


def texts_of(values) -> Text:
    return Text(torch.zeros(len(values), 1, 1), torch.tensor(values).float()[:, None])


class Base:
    """A base whose latents and predictions are their prompt's number, plus `predicted`; `drawn` counts its pictures."""

    device, flow = torch.device("cpu"), False

    def __init__(self, weight: float = 1.0, predicted: float = 0.0):
        self.diffusion_model = torch.nn.Linear(3, 3)
        torch.nn.init.constant_(self.diffusion_model.weight, weight)
        torch.nn.init.zeros_(self.diffusion_model.bias)
        self.predicted, self.drawn = predicted, 0

    def encode(self, prompts):
        return texts_of([-1] * len(prompts))

    def sigmas(self, steps):
        return torch.linspace(1, 0, steps + 1)

    def sample(self, positive, negative, size, seed, steps, cfg, keep):
        self.drawn += 1
        return [(positive[0][1]["pooled_output"][..., None, None], float(len(keep) - k)) for k in range(len(keep))]

    def predict(self, x, sigma, tokens, pooled, mask):
        return pooled[..., None, None] + self.predicted


def asked_for(prompts=(0, 1, 2), mapped=(7, 8, 9)) -> Asked:
    return Asked([Target(Prompt(f"cat {i}", False), "", (0,)) for i in range(3)], texts_of(prompts), texts_of(mapped), texts_of([-1]))


def drawn(backbone, path, asked=None, **changes):
    return cached_samples(backbone, dataclasses.replace(CONFIG, **changes), asked or asked_for(), None, path, lambda _: None, False)


def test_another_model_under_the_same_name_gets_its_own_samples(tmp_path):
    path = tmp_path / "x.cache"
    drawn(Base(), path)
    same, other = Base(), Base(1 + 1e-7)
    drawn(same, path, base="moved/painter.safetensors")
    assert not same.drawn
    drawn(other, path)
    assert other.drawn


def test_another_text_encoder_or_noise_schedule_gets_its_own_samples(tmp_path):
    path = tmp_path / "x.cache"
    drawn(Base(), path)
    for asked in (asked_for(prompts=(0, 1, 3)), asked_for(mapped=(7, 8, 8))):
        drawn(base := Base(), path, asked)
        assert base.drawn
    base = Base()
    base.sigmas = lambda steps: torch.linspace(2, 0, steps + 1)
    drawn(base, path)
    assert base.drawn


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_base_that_gives_nan_is_named_and_leaves_no_cache(tmp_path, value):
    path = tmp_path / "x.cache"
    with pytest.raises(ValueError, match="base model painter gives NaN .*where it draws its own pictures: .* file is damaged"):
        drawn(Base(predicted=value), path)
    assert not path.exists()


@pytest.mark.parametrize("value, kind", [(torch.nan, ValueError), (torch.inf, ValueError), (0.0, Diverged)])
def test_nan_of_the_base_is_not_called_divergence(value, kind):
    batch = SimpleNamespace(x=None, sigma=None, context=None, pooled=torch.ones(2, 1), mask=None)
    with pytest.raises(kind, match="at iteration 7") as error:
        diverged(Base(predicted=value), CONFIG, batch, "at iteration 7 (task loss nan)")
    said = str(error.value)
    assert ("base model painter gives NaN" in said) == ("lower learning_rate" not in said) == (kind is ValueError)


def test_a_damaged_cache_is_made_again(tmp_path):
    path, said = tmp_path / "x.cache", []
    expected = drawn(Base(), path)
    whole = path.read_bytes()
    for place in (0, 9, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        base = Base()
        found = cached_samples(base, CONFIG, asked_for(), None, path, said.append, False)
        assert base.drawn and all(torch.equal(a, b) for a, b in zip(vars(found[0]).values(), vars(expected[0]).values()))
    assert len([text for text in said if str(path) in text and text.endswith("sampling again")]) == 5
    drawn(base := Base(), path)
    assert not base.drawn


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.complex64])
def test_the_sums_change_with_every_byte(dtype):
    raw = torch.randint(256, (80_003 * dtype.itemsize,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    before = sums(raw.view(dtype))
    assert torch.equal(sums(torch.cat([raw[: dtype.itemsize], raw]).view(dtype)[1:]), before)  # wherever it lies in memory
    for place in (0, 40_000, len(raw) - 1):
        changed = raw.clone()
        changed[place] ^= 1
        assert not torch.equal(sums(changed.view(dtype)), before)
    assert len(sums(torch.tensor(1.0))) and len(sums(torch.zeros(0)))


def test_one_changed_weight_of_a_real_base_is_another_content(comfy):
    backbone = load_backbone("demo")
    text = [backbone.encode(["a cat"])]
    before = content_of(backbone, text, 4)
    for parameter in list(backbone.diffusion_model.parameters())[::60]:
        with torch.no_grad():
            former = parameter.clone()
            parameter.view(-1)[-1] += 1e-6
            assert content_of(backbone, text, 4) != before
            parameter.copy_(former)
    assert content_of(backbone, [backbone.encode(["a dog"])], 4) != before and content_of(backbone, text, 5) != before
    again = load_backbone("demo")
    assert content_of(again, [again.encode(["a cat"])], 4) == before
