"""The report card: all that an eraser's header says, in words, and a clear line for what is none."""

import json
import struct
from pathlib import Path

import pytest
import yaml

from trainer.card import NOT_SAID, card, main
from unhype.checkpoint import load_eraser, save_eraser

ERASERS = sorted((Path(__file__).resolve().parents[1] / "demo/erasers").glob("*.safetensors"))
BUNDLED = next(path for path in ERASERS if path.name == "demo_cat.safetensors")


@pytest.mark.parametrize("path", ERASERS, ids=lambda p: p.stem)
def test_it_says_what_the_file_holds(path, capsys):
    eraser = load_eraser(path)
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert path.name in said and eraser.digest in said and f"trained on {eraser.base['name']}" in said
    for concept in eraser.concepts:
        assert f"\n  {concept.name} -> {concept.mapping}\n" in said
    settings = yaml.safe_load(said.partition("\nsettings\n")[2])
    assert settings == eraser.training and settings


@pytest.fixture
def changed(tmp_path):
    """A function: the bundled eraser's file with a changed description."""

    def new(change) -> Path:
        raw = BUNDLED.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        meta = json.loads(header["__metadata__"]["unhype"])
        change(meta)
        header["__metadata__"]["unhype"] = json.dumps(meta)
        text = json.dumps(header).encode()
        path = tmp_path / "changed.safetensors"
        path.write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + length :])
        return path

    return new


VERDICT = {
    "passed": False,
    "concepts": {"cat": {"erased": 0.031, "misses": 0.25, "false_alarms": 0.0, "prompts": 84}},
    "left_alone": 0.999,
    "moved_if_forced": 0.0123,
}


def test_figures_are_those_of_the_file(changed):
    metrics = {"verdict": VERDICT, "train_seconds": 61.4, "train_peak_mb": 900, "versions": {"torch": "9.9"}, "recipe": 7}
    said = card(changed(lambda meta: meta.update(metrics=metrics)))
    for words in (
        "verdict: FAILED: do not rely on this eraser",
        "3% of the wanted change reached; the switch misses 25.0% of 84 held-out prompts, 0.0% false alarms",
        "99.9% of the other prompts exactly alone; with the switch forced on they would move by 1.2% of an erasure",
        "training: 61 seconds, at most 900 MB",
        "recipe 7, torch 9.9",
    ):
        assert words in said, words


@pytest.mark.parametrize(
    "metrics",
    [{}, {"verdict": 3, "versions": [1], "train_seconds": "long"}, {"verdict": {"passed": "yes", "concepts": {"cat": {"prompts": 1.5}}}}],
)
def test_what_a_file_does_not_say_is_not_made_up(changed, metrics):
    def without(meta):
        meta.update(metrics=metrics, training={}, base={})
        meta["concepts"][0]["calibration"] = {"threshold": "high"}

    said = card(changed(without))
    assert f"verdict: {NOT_SAID}" in said and f"trained on {NOT_SAID}" in said and f"settings: {NOT_SAID}" in said
    assert "passed" not in said and f"threshold {NOT_SAID}" in said


def test_a_strangers_text_moves_no_cursor(changed):
    def evil(meta):
        meta["training"] = {"base": "\x1b[2J\r\n"}
        meta["metrics"] = {"versions": {"a": "\x1b[2J"}}

    assert "\x1b" not in card(changed(evil))


def test_what_is_no_eraser_is_one_line(tmp_path, capsys):
    (tmp_path / "text.safetensors").write_text("hello, this is a text")
    save_eraser(load_eraser(BUNDLED), tmp_path / "cut.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(cut.read_bytes()[:-9])
    for path, words in ((tmp_path / "none.safetensors", "there is no such file"), (tmp_path / "text.safetensors", ""), (cut, "truncated")):
        assert main([str(path)]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ") and str(path) in said and words in said and said.count("\n") == 1
    assert main([str(tmp_path)]) == 1 and capsys.readouterr().err.startswith("error: ")
