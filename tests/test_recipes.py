"""The recipes of trainer/configs: each trains, with nouns of the demo base in the place of its concepts.

Only the base, what belongs to it (files, picture size) and the concepts are others, and everything is short: a few pictures and
steps, one written text in a hundred, a switch that is hardly fitted, and no strengths are measured. So it is tested that a recipe
is accepted and its training ends with an eraser, not how good that is. Templates, retained names and other numbers are the recipe's.
"""

import dataclasses
import re
from pathlib import Path

import pytest

from trainer.config import from_mapping, read_yaml
from trainer.prompts import doubts
from trainer.prompts.entries import split_entry
from trainer.prompts.lists import read_lists
from unhype.checkpoint import load_eraser

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "trainer" / "configs"
RECIPES = sorted(p for p in CONFIGS.glob("*.yaml") if not p.name.startswith("demo"))
KINDS = ("object", "celebrities", "style", "nudity", "violence")
STANDING_IN = ("cat", "pizza", "car")  # of a longer list only so many
SHORT = {"iterations": 3, "pictures": 4, "sampling_steps": 4, "kept_steps": 2, "preview_every": 0}
BASES = {"sd": {"base": "demo", "size": "64x64", "clip_skips": [1]}, "flux": {"base": "demo-flux", "size": "64x64"}}


def family_of(path: Path) -> str:
    return path.stem.rpartition("_")[2]


def with_stand_ins(path: Path, monkeypatch) -> dict:
    """A recipe's settings with nouns of the demo base, each with as many words as the concept in whose place it stands."""
    monkeypatch.chdir(ROOT)
    values = read_lists(read_yaml(path), path.name)
    names = dict(zip((split_entry(e)[0][0] for e in values["erase"]), STANDING_IN))
    several = ["," in entry.partition("->")[0] for entry in values["erase"]]
    values["erase"] = [f"{noun}, {noun} alike -> forest" if s else f"{noun} -> forest" for noun, s in zip(names.values(), several)]
    if "templates_for" in values:
        values["templates_for"] = {names[name]: templates for name, templates in values["templates_for"].items()}
    return {name: value for name, value in values.items() if name not in ("text_encoders", "vae")} | BASES[family_of(path)]


def test_every_kind_has_a_recipe_for_stable_diffusion_and_one_for_flux():
    assert {p.stem for p in RECIPES} == {f"{kind}_{family}" for kind in KINDS for family in BASES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_begins_with_its_command_and_says_what_it_was_run_on(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    head = path.read_text(encoding="utf-8").partition("base:")[0]
    commands = re.findall(r"python trainer/train.py --config (\S+)", head)
    assert set(commands) == {f"trainer/configs/{path.name}"} and "Never run at full size" in head and "demo base" in head
    config = from_mapping(read_yaml(path), path.name)
    assert doubts.on_both_sides(config) == []
    assert bool(config.text_encoders) == (family_of(path) == "flux") and config.base.endswith(".safetensors")


def test_who_is_kept_is_not_erased():
    erased = {line.split(",")[0] for line in (CONFIGS / "celebrities_erased.csv").read_text(encoding="utf-8").splitlines()[1:]}
    kept = {line for line in (CONFIGS / "celebrities_kept.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")}
    assert len(erased) == len(kept) == 25 and not erased & kept


@pytest.fixture(scope="module")
def backbones(comfy):
    from host.load import load_backbone

    loaded = {}
    return lambda base: loaded.setdefault(base, load_backbone(base))


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_trains(path, backbones, few_texts, tmp_path, monkeypatch):
    from trainer import train as room

    monkeypatch.setattr(room, "measured_onset", lambda *_: ())
    monkeypatch.setattr("trainer.found.rate.STEPS", 8)  # of the test that finds a rate
    values = with_stand_ins(path, monkeypatch) | SHORT | {"out": str(tmp_path / "a.safetensors")}
    config = from_mapping(values, path.name)
    backbone = backbones(config.base)
    room.train(config, backbone, progress=lambda *_: None)
    eraser = load_eraser(config.out)
    assert [c.name for c in eraser.concepts] == list(STANDING_IN[: len(eraser.concepts)])
    own = dataclasses.asdict(from_mapping(read_yaml(path), path.name))
    replaced = {
        "base",
        "text_encoders",
        "vae",
        "erase",
        "out",
        "retain",
        "templates_for",
        "size",
        "cfg",
        "clip_skips",
        "retain_batch",
        *SHORT,
    }
    assert {name: eraser.training[name] for name in own.keys() - replaced} == {name: own[name] for name in own.keys() - replaced}
    assert {"misses", "erased"} <= eraser.metrics["verdict"]["concepts"]["cat"].keys()
