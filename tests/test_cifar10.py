"""The CIFAR-10 benchmark's base, judge and words, without its data."""

import pytest
import torch
from torch.nn import functional as F

from benchmarks.cifar10 import data, prompts, words
from benchmarks.cifar10.autoencoder import Autoencoder
from benchmarks.cifar10.judge import NAMES, Judge
from benchmarks.cifar10.make_judge import distort


def smooth(count):
    """Random smooth pictures (count, 3, 32, 32) in -1..1."""
    rough = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    return F.interpolate(rough, size=(32, 32), mode="bicubic").clamp(-1, 1)


@pytest.fixture(scope="module")
def autoencoder():
    autoencoder = Autoencoder()
    autoencoder.fit_basis(smooth(200))
    return autoencoder


def test_words_belong_to_one_class():
    every = [word for own in words.CONCEPTS.values() for word in own]
    assert len(every) == len(set(every)) == 41
    assert all(own[0] == name and len(own) == 4 for name, own in words.CLASSES.items())


def test_prompts_are_held_out():
    assert len(set(words.TEMPLATES)) == 8 and not set(words.TRAINING_TEMPLATES) & set(words.HELD_OUT_TEMPLATES)
    trained = {t.format(word) for t in words.TRAINING_TEMPLATES for own in words.CONCEPTS.values() for word in own}
    for name in words.CLASSES:
        asked = [prompts.class_prompts(name), prompts.synonym_prompts(name), prompts.other_prompts(name)]
        assert [len(a) for a in asked] == [4, 12, 36]
        assert not trained & {p.text for some in asked for p in some}
        assert not any(name in p.nouns for p in asked[2])


def test_foliage_is_varied_and_smooth():
    pictures = data.foliage(64, 0)
    assert pictures.shape == (64, 32, 32, 3) and pictures.dtype == torch.uint8
    assert torch.equal(pictures, data.foliage(64, 0)) and not torch.equal(pictures, data.foliage(64, 1))
    means = pictures.float().mean((1, 2))
    assert means.std(0).min() > 3 and (means[:, 1] > means[:, 2]).all()
    assert pictures.float().diff(dim=2).abs().mean() < 30


def test_autoencoder_round_trip(autoencoder):
    pictures = smooth(8)
    latents = autoencoder.encode(pictures)
    assert latents.shape == (8, 32, 8, 8) and 0.5 < latents.std() < 1.5
    assert (autoencoder.decode(latents) - pictures).abs().mean() < 0.01


def test_judge_scores():
    judge = Judge().eval()
    judge.whiten(smooth(20) / 2 + 0.5)
    scores = judge.scores(torch.rand(3, 32, 32, 3))
    assert scores.shape == (3, 10) == (3, len(NAMES))
    assert torch.allclose(scores.sum(1), torch.ones(3))


def test_distort_moves_and_mirrors():
    ramp = torch.arange(32.0).expand(50, 3, 32, 32)
    moved = distort(ramp, torch.Generator().manual_seed(0))[:, 0, 16, 8:24]
    offsets = {round(d) for d in (moved[moved[:, 1] > moved[:, 0]][:, 0] - 8).tolist()}
    assert offsets == {-2, -1, 0, 1, 2} and (moved[:, 1] < moved[:, 0]).any()


def test_base_round_trips(comfy, autoencoder, tmp_path):
    import numpy as np

    from benchmarks.cifar10 import base, make_base
    from host.backbone import Backbone

    torch.manual_seed(0)
    clip, text, trained = make_base.new_parts(np.random.default_rng(0))
    parameters = [p for p in trained.parameters() if p.requires_grad]
    parts = {"train": torch.randint(256, (40, 32, 32, 3), dtype=torch.uint8), "train_labels": torch.arange(40) % 10}
    latents, ids, labels = make_base.Data(parts, autoencoder, text, np.random.default_rng(0)).batch()
    assert latents.shape == (48, 32, 8, 8) and ids.shape == (16, 77) and labels.shape == (16,)
    make_base.export(tmp_path / "base.safetensors", trained, parameters, [p.detach() for p in parameters], clip, autoencoder, 1)
    backbone = Backbone(*base.load(tmp_path / "base.safetensors"))
    ours, theirs = trained["unet"].state_dict(), backbone.diffusion_model.state_dict()
    assert all(torch.equal(v.half(), theirs[k].half()) for k, v in ours.items())
    states, pooled = trained["text"](torch.tensor([text.chunk(text.words("a photo of the cat"))]))
    encoded = backbone.encode(["a photo of the cat"])
    assert torch.allclose(encoded.tokens, states, atol=0.02) and torch.allclose(encoded.pooled, pooled, atol=0.02)
    latents = backbone.sample(encoded.conditioning(), encoded.conditioning(), base.SAMPLE_SIZE, seed=0, steps=2, cfg=1.0)
    pictures = backbone.decode(latents)
    assert latents.shape == (1, 32, 8, 8) and pictures.shape == (1, 32, 32, 3) and 0 <= pictures.min() and pictures.max() <= 1
    assert backbone.vae.encode(pictures).shape == (1, 32, 8, 8)


def test_the_protocol_erases_one_class_or_all(tmp_path):
    from benchmarks.cifar10 import table
    from trainer.prompts.concepts import retain_prompts, target_prompts

    for nouns in (["ship"], list(words.CLASSES)):
        assert table.config_for("uce", nouns, 0, tmp_path / "x.safetensors", {}).iterations > 0
        config = table.config_for("unhype", nouns, 0, tmp_path / "x.safetensors", {"iterations": 10})
        assert [e.name for e in config.erased()] == nouns and not set(nouns) & set(config.retain)
        trained = {t.prompt.text for t in target_prompts(config.erased(), config.retain, 100, 0)}
        trained |= {p.text for p in retain_prompts(config.retain, config.erased(), config.templates, [], 100, 0)}
        sets = table.prompt_sets(nouns)
        assert not trained & {p.text for some in sets.values() for p in some}
        assert {p.nouns[0] for p in sets["others"]} == set(words.CLASSES) - set(nouns)
        assert {p.words[0] for p in sets["words"]} == {w for n in nouns for w in words.CLASSES[n][1:]}


def test_the_page_shows_what_there_is():
    from benchmarks.cifar10.table import page

    row = {"nouns": ["ship"], "method": "uce", "acc_e": 0.05, "acc_e_base": 0.9, "acc_g": 0.1, "acc_g_base": 0.8, "acc_s": 0.7}
    row |= {"acc_s_base": 0.75, "h_o": 0.8, "h_o_share": 0.9, "train_seconds": 3.0}
    every = row | {"nouns": list(words.CLASSES), "acc_s": None, "acc_s_base": None, "h_o": None, "h_o_share": None}
    judge = {"test_accuracy": 0.9, "test_n": 10000.0}
    text = page({"rows": [row, every], "judge": judge, "missing_parts": 1, "command": "c"})
    assert "| ship | uce | 5.0 (90.0) | 10.0 (80.0) | 70.0 (75.0) | 80.0 | 90.0 | 3 s |" in text
    assert "| all 10 | uce | 5.0 (90.0) | 10.0 (80.0) | - | - | - | 3 s |" in text and "1 rows are missing" in text


def test_typical_pictures_are_those_whose_neighbours_are_of_their_class():
    light, dark = torch.full((40, 32, 32, 3), 200, dtype=torch.uint8), torch.full((40, 32, 32, 3), 20, dtype=torch.uint8)
    light[:, 0, 0, 0], dark[:, 0, 0, 0] = torch.arange(40, dtype=torch.uint8), torch.arange(40, dtype=torch.uint8)
    pictures, labels = torch.cat([light, dark]), torch.tensor([0] * 39 + [1] + [1] * 40)
    first, second = data.typical(pictures, labels, 20)
    assert len(first) == len(second) == 20 and set(first.tolist()) < set(range(39)) and set(second.tolist()) < set(range(40, 80))


def test_the_committed_base_draws_what_the_committed_judge_names(comfy):
    from safetensors import safe_open

    from benchmarks.cifar10.table import JUDGE, PROTOCOL, Cifar10
    from evaluation import measure
    from evaluation.metrics import top1

    with safe_open(JUDGE, framework="pt") as file:
        assert float(file.metadata()["test_accuracy"]) > 0.9
    backbone, judge = Cifar10(JUDGE.parent).tools()
    asked = [p for name in words.CLASSES for p in prompts.class_prompts(name)[:2]]
    drawn = measure.draw(backbone, judge, backbone.model, asked, 1, cfg=PROTOCOL.cfg)
    assert drawn.pictures.shape == (20, 1, 32, 32, 3) and top1(drawn, asked, PROTOCOL.names) > 0.8


def test_an_undecided_judge_names_nothing():
    from types import SimpleNamespace

    from evaluation.metrics import top1

    scores = torch.full((2, 1, len(NAMES)), 0.02)
    scores[0, 0, NAMES.index("ship")], scores[1, 0, NAMES.index("ship")] = 0.12, 0.9
    asked = prompts.class_prompts("ship")[:2]
    drawn = SimpleNamespace(scores=scores)
    assert top1(drawn, asked, NAMES) == 1.0 and top1(drawn, asked, NAMES, least=0.5) == 0.5
