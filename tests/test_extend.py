"""Going on from an eraser file: which settings and weights are taken over, and a concept added and removed for real."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from trainer.config import Config, ConfigError, check, parse_arguments
from trainer.extend import inherited, take_over
from unhype.checkpoint import CheckpointError, Concept, Eraser, load_eraser, save_eraser
from unhype.condition import read_condition
from unhype.fold import unfold
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

ROOT = Path(__file__).resolve().parents[1]
BUNDLED = ROOT / "demo/erasers/demo_cat.safetensors"
SHAPE = Shape((Layer("a", 3, 2), Layer("b", 2, 3)), rank=2, steps=10, hidden=4, queries=1, pooled_dim=2, token_dim=3, concepts=2)


def some_network(shape: Shape, seed: int = 2) -> Hypernetwork:
    """Every weight and buffer at random, all different; deviations and lengths positive."""
    torch.manual_seed(seed)
    network = Hypernetwork(shape)
    for name, value in network.state_dict().items():
        torch.nn.init.normal_(value) if value.ndim > 1 else value.copy_(torch.randn(value.shape))
        if name.endswith(("_deviation", "least")):
            value.abs_()
    return network


def some_eraser(**training) -> Eraser:
    """Of "cat" and "owl"."""
    names = [Concept("cat", "forest"), Concept("owl", "sky")]
    return Eraser(some_network(SHAPE, 1), "sd1", names, training, source="two.safetensors")


FORMER = Config(
    base="demo",
    erase=["cat, kitty -> forest", "owl -> sky"],
    out="two.safetensors",
    retain=["dog", "pig"],
    templates_for={"owl": ["an {}"]},
    rank=2,
    hidden=4,
    seed=7,
    bottleneck=0,
    add_to="one.safetensors",
    remove=["bear"],
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "two.safetensors"
    save_eraser(some_eraser(**dataclasses.asdict(FORMER)), path)
    return path


def extended(file, *options: str) -> Config:
    return parse_arguments(["--add-to", str(file), "--out", str(file.with_name("new.safetensors")), *options], "")[0]


def test_a_file_with_a_linear_switch_is_taken_over_into_one_with_a_hidden_layer():
    network, former = some_network(dataclasses.replace(SHAPE, look=5)), some_eraser()
    take_over(network, ["cat", "owl"], former)
    assert torch.equal(network.switch.weight, former.network.switch.weight)
    assert torch.equal(network.trunk[0].weight, former.network.trunk[0].weight)


# Settings


def test_settings_are_the_files_own_but_for_its_out_add_to_and_remove(file):
    config = extended(file)
    changed = {"out": str(file.with_name("new.safetensors")), "add_to": str(file), "remove": []}
    assert config == dataclasses.replace(FORMER, **changed)


def test_given_settings_win(file):
    config = extended(file, "--rank", "4", "--retain", "bus", "--seed", "0")
    assert (config.rank, config.retain, config.seed, config.hidden) == (4, ["bus"], 0, 4)


def test_settings_of_a_file_are_given_settings(file, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        yaml.safe_dump({"add_to": str(file), "out": "new.safetensors", "erase": ["bus"], "templates_for": {"bus": ["big {}"]}, "rank": 3})
    )
    config, _ = parse_arguments(["--config", str(path), "--rank", "5"], "")
    assert (config.rank, config.seed, config.erase) == (5, 7, [*FORMER.erase, "bus"])
    assert config.templates_for == {"owl": ["an {}"], "bus": ["big {}"]}


def test_a_new_concept_comes_last_and_is_no_longer_retained(file):
    config = extended(file, "--erase", "Dog, hound -> forest")
    assert config.erase == [*FORMER.erase, "Dog, hound -> forest"] and config.retain == ["pig"]


def test_a_concept_that_the_file_has_is_not_added_twice(file):
    assert extended(file, "--erase", "owl -> sky", "bus").erase == [*FORMER.erase, "bus"]
    assert extended(file, "--erase", "cat -> forest", "bus").erase == [*FORMER.erase, "bus"]  # its other words were found for it
    with pytest.raises(ConfigError, match="each target once"):
        extended(file, "--erase", "owl -> moon")


def test_a_removed_concept_is_retained_in_all_its_words(file):
    config = extended(file, "--remove", "cat")
    assert config.erase == ["owl -> sky"] and config.retain == ["dog", "pig", "cat", "kitty"] and config.remove == ["cat"]
    assert config.templates_for == FORMER.templates_for
    assert extended(file, "--remove", "owl").templates_for == {}


def test_removed_and_added_again_a_concept_changes_its_words(file):
    config = extended(file, "--remove", "cat", "--erase", "cat, feline -> moon")
    assert config.erase == ["owl -> sky", "cat, feline -> moon"] and config.retain == ["dog", "pig", "kitty"]


def test_removing_all_leaves_nothing_to_train(file):
    with pytest.raises(ConfigError, match=r"erase is \[\]"):
        extended(file, "--remove", "cat", "owl")


def test_the_new_file_is_another(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    for out in (str(file), "two.safetensors", f"../{file.parent.name}/two.safetensors"):
        with pytest.raises(ValueError, match="out and add_to are both .*two.safetensors: give the new eraser a name of its own"):
            inherited({"add_to": str(file), "out": out})


def test_an_unknown_removed_concept_is_refused_with_the_known_ones(file):
    with pytest.raises(ValueError, match=r"remove: 'kitty' is no concept of .*two.safetensors, which erases cat, owl"):
        extended(file, "--remove", "cat", "kitty")


def test_a_file_that_says_nothing_of_its_training_is_refused(tmp_path):
    path = tmp_path / "silent.safetensors"
    save_eraser(some_eraser(), path)
    with pytest.raises(ValueError, match="silent.safetensors does not say how it was trained"):
        extended(path, "--erase", "dog")


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        extended(tmp_path / "nowhere.safetensors", "--erase", "dog")
    (tmp_path / "foreign.safetensors").write_bytes(b"something else altogether")
    with pytest.raises(CheckpointError, match="foreign.safetensors"):
        extended(tmp_path / "foreign.safetensors", "--erase", "dog")


def test_the_bundled_eraser_can_be_added_to():
    config, _ = parse_arguments(["--add-to", str(BUNDLED), "--out", "new.safetensors", "--erase", "dog -> forest"], "")
    assert config.erase == ["cat -> forest", "dog -> forest"] and "dog" not in config.retain and "pig" in config.retain
    assert check(config, "x") is config and config.size == "64x64"


@pytest.mark.parametrize("line", ["erase: dog", "retain: dog", "erase: [3]", "retain: [3]", "templates_for: [a]", "out:", "add_to: 5"])
def test_settings_of_the_wrong_kind_beside_add_to(tmp_path, line):
    settings = {"add_to": str(BUNDLED), "out": "new.safetensors", "erase": '["dog -> forest"]'}
    settings[line.split(":")[0]] = line.split(":")[1].strip()
    path = tmp_path / "a.yaml"
    path.write_text("\n".join(f"{k}: {v}" for k, v in settings.items()))
    with pytest.raises(ConfigError, match=f"a.yaml: {line.split(':')[0]} is "):
        parse_arguments(["--config", str(path)], "")


# Weights


PER_CONCEPT = ("switch.weight", "switch.bias", "switch.threshold", "concept")
HIDDEN = ("switch.look.weight", "switch.look.bias", "switch.seen")  # the bundled eraser is of before


@pytest.mark.parametrize(
    "names",
    [["cat", "owl"], ["owl", "cat"], ["owl"], ["dog", "owl", "pig", "cat"], ["dog"]],
    ids=" ".join,
)
def test_weights_are_taken_over_and_a_concepts_rows_follow_its_name(names):
    eraser = some_eraser()
    network = some_network(dataclasses.replace(SHAPE, concepts=len(names)))
    own = {k: v.clone() for k, v in network.state_dict().items()}
    take_over(network, names, eraser)
    mine, theirs = network.state_dict(), eraser.network.state_dict()
    assert torch.equal(mine.pop("least"), own["least"])
    for key, value in mine.items():
        if key not in PER_CONCEPT:
            assert torch.equal(value, theirs[key]) and value.data_ptr() != theirs[key].data_ptr()
            continue
        for row, name in enumerate(names):
            expected = theirs[key][["cat", "owl"].index(name)] if name in ("cat", "owl") else own[key][row]
            assert torch.equal(value[row], expected), (key, name)


def test_the_same_concepts_in_another_order_make_the_same_adapter():
    eraser, network = some_eraser(), some_network(SHAPE)
    take_over(network, ["owl", "cat"], eraser)
    torch.manual_seed(0)
    condition, s = read_condition(torch.randn(4, 5, 3), torch.randn(4, 2)), torch.tensor([1.0, 4, 7, 10])
    off = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    for f, g in zip(eraser.network(condition, s, off), network(condition, s, off.flip(1))):
        torch.testing.assert_close(f.up, g.up)
    torch.testing.assert_close(eraser.network.scores(condition), network.scores(condition).flip(1))
    assert torch.equal(eraser.network.fires(condition, off), network.fires(condition, off.flip(1)))


def test_a_folded_eraser_is_gone_on_from():
    network, former = some_network(SHAPE), some_network(dataclasses.replace(SHAPE, bottleneck=2))
    take_over(network, ["cat", "owl"], dataclasses.replace(some_eraser(), network=former))
    for head, thin in zip(network.heads, former.heads):
        torch.testing.assert_close(head.weight, thin[1].weight @ thin[0].weight)


@pytest.mark.parametrize(
    "change",
    [
        {"rank": 3},
        {"queries": 2},
        {"pooled_dim": 5},
        {"token_dim": 5},
        {"hidden": 5},
        {"steps": 7},
        {"layers": (Layer("a", 3, 2), Layer("b", 4, 3))},
        {"layers": (*SHAPE.layers, Layer("more", 3, 2))},
        {"layers": SHAPE.layers[:1]},
    ],
    ids=str,
)
def test_other_sizes_are_refused(change):
    name = next(iter(change))
    with pytest.raises(ValueError, match=f"add_to: {name} is .* in two.safetensors, .* leave rank, hidden, queries, steps and the base"):
        take_over(Hypernetwork(dataclasses.replace(SHAPE, **change)), ["cat", "dog"], some_eraser())


# For real


TINY = "--pictures 2 --sampling-steps 2 --kept-steps 1 --iterations 2 --batch 2 --retain-batch 8 --preview-every 0 --neighbours 0"
TINY += " --learning-rate 0.0005 --least-erased 0 --most-misses 1 --most-false-alarms 1"  # two steps erase nothing


def train(out: Path, *options: str) -> Eraser:
    command = [sys.executable, ROOT / "trainer/train.py", "--out", out, *TINY.split(), *options]
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return load_eraser(out)


@pytest.fixture(scope="module")
def both(comfy, tmp_path_factory):
    """The bundled eraser of cat, to which dog was added at a learning rate that moves nothing."""
    out = tmp_path_factory.mktemp("both") / "both.safetensors"
    return out, train(out, "--add-to", str(BUNDLED), "--erase", "dog -> forest", "--learning-rate", "1e-12", "--bottleneck", "0")


def test_a_concept_is_added_to_a_trained_eraser(both):
    _, eraser = both
    assert [(c.name, c.mapping) for c in eraser.concepts] == [("cat", "forest"), ("dog", "forest")]
    assert eraser.network.shape.concepts == 2 and eraser.training["add_to"] == str(BUNDLED)
    assert eraser.training["erase"] == ["cat -> forest", "dog, hound, puppy -> forest"]  # found for what is new
    assert max(max(c.calibration["misses"], c.calibration["false_alarms"]) for c in eraser.concepts) < 0.1
    former = unfold(load_eraser(BUNDLED).network).state_dict()
    assert eraser.network.least.shape == (2,) and eraser.network.least.min() > 0
    for key, value in eraser.network.state_dict().items():
        if key.startswith("rewriting."):  # fitted for both, also where the former file had none
            assert key.startswith("rewriting.join") or value.flatten(1).any(1).all(), key  # the probe is no concept's
        elif key not in (*PER_CONCEPT, *HIDDEN, "least"):
            torch.testing.assert_close(value, former[key], rtol=1e-3, atol=1e-6)


def test_a_concept_is_removed_again(both, tmp_path):
    file, former = both
    eraser = train(tmp_path / "dog.safetensors", "--add-to", str(file), "--remove", "cat")
    assert [c.name for c in eraser.concepts] == ["dog"] and eraser.network.shape.concepts == 1
    assert eraser.training["erase"] == former.training["erase"][1:] and "cat" in eraser.training["retain"]
    assert eraser.concepts[0].calibration["misses"] < 0.1 and eraser.concepts[0].calibration["false_alarms"] < 0.1
