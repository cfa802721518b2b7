"""How soon a training erases: what is counted, and what a row says."""

import time
from dataclasses import replace

import pytest
import torch

from benchmarks.training import report, rollouts, schedules
from trainer.work import work

SMALL = {
    "pictures": 4,
    "sampling_steps": 4,
    "kept_steps": 2,
    "rank": 2,
    "hidden": 16,
    "retain_batch": 16,
    "pair_prompts": 16,
    "clip_skips": [1],
}


def test_rows_are_counted_whatever_the_batch_but_not_while_it_is_paused():
    layer = torch.nn.Linear(2, 2)
    meter = schedules.Meter(layer)
    layer(torch.zeros(8, 2)), layer(torch.zeros(3, 2))
    before = meter.seconds
    with meter.paused():
        layer(torch.zeros(100, 2))
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
        assert meter.seconds == meter.before
    assert meter.rows == 11 and before <= meter.seconds < before + 0.2
    layer(torch.zeros(1, 2))
    assert meter.rows == 12
    meter.handle.remove()
    layer(torch.zeros(1, 2))
    assert meter.rows == 12


@pytest.fixture
def small(comfy, few_texts, monkeypatch):
    """Everything as small as it goes; H_o at each look is taken from a list."""
    settings = {name: own | SMALL | {"iterations": 6, "batch": min(2, own["batch"])} for name, own in schedules.SETTINGS.items()}
    monkeypatch.setattr(schedules, "SETTINGS", settings)
    monkeypatch.setattr(schedules, "FIRST", 2)
    monkeypatch.setattr(rollouts, "STEPS", 3)
    monkeypatch.setattr(schedules, "STEPS", 3)
    some = schedules.recipes.EMOJI.prompt_sets
    fewer = replace(schedules.recipes.EMOJI, prompt_sets=lambda nouns: {name: judged[:2] for name, judged in some(nouns).items()})
    monkeypatch.setattr(schedules.recipes, "EMOJI", fewer)
    looks = []
    looked = schedules.Looker.h_o
    monkeypatch.setattr(schedules.Looker, "h_o", lambda self, method: (looked(self, method), looks.pop(0))[1])
    return looks


def test_a_row_for_each_way_and_seed_and_nothing_is_done_twice(small, tmp_path, monkeypatch):
    small += [0.2, 0.97, 0.96, 0.95, 0.5, 0.95]
    kept = []
    found = schedules.schedules(tmp_path, 1, kept.append, {})
    ours, lora, behind, authors = found["rows"]
    assert [(r["name"], r["seed"], r["steps"], r["reached"]) for r in found["rows"]] == [
        ("ours", 0, 4, True),
        ("lora", 0, 2, True),
        ("behind", 0, 2, True),
        ("authors", 0, 4, True),
    ]
    assert len(kept) == 4 and not small and found["cap"] == schedules.CAP
    backbone = schedules.load_backbone("demo")
    config = schedules.recipes.config_for("unhype", ["cat"], 0, tmp_path / "x", schedules.SETTINGS["ours"])
    said = work(replace(config, iterations=4), backbone.family)
    before = ours["course"][-1][1]  # up to the last look
    assert before == said.drawing + said.training and before < ours["denoiser_evaluations"] <= said.evaluations * 1.2
    assert 4 * 3 <= authors["denoiser_evaluations"] <= 4 * (2 * 2 + 3)  # three passes, and a rollout of at most two steps before
    assert lora["denoiser_evaluations"] == 4 * (2 * 4 + 2 * 2) + 2 * 2
    monkeypatch.setattr(schedules, "trained", lambda *_: pytest.fail("again"))
    assert schedules.schedules(tmp_path, 1, kept.append, {}) == found
    assert schedules.missed(found) != [] and "1 of 1" in report.schedules({"schedules": found})


def test_what_does_not_reach_the_bar_is_stopped_at_the_cap(small, tmp_path):
    small += [0.5] * 9
    backbone = schedules.load_backbone("demo")
    looker = schedules.Looker(backbone, tmp_path)
    row = schedules.trained(backbone, looker, "authors", 0, schedules.SETTINGS["authors"], 8, tmp_path, 100)
    assert not row["reached"] and 8 <= row["denoiser_evaluations"] < 8 + 7 and row["h_o"] == 0.5


def test_what_a_row_misses_is_said():
    row = lambda name, seed, rows, seconds, reached=True: {
        "name": name,
        "seed": seed,
        "denoiser_evaluations": rows,
        "seconds": seconds,
        "h_o": 0.97 if reached else 0.5,
        "reached": reached,
    }
    rows = [row("ours", 0, 100, 10), row("ours", 1, 100, 10, False), row("authors", 0, 1000, 49), row("authors", 1, 999, 50, False)]
    assert schedules.missed({"rows": rows}) == [
        "ours reached 0.500 with seed 1",
        "seed 1: 100 denoiser_evaluations, at most 10% of 999 are expected",
        "seed 0: 10 seconds, at most 20% of 49 are expected",
    ]
    assert schedules.missed({"rows": rows[:1]}) == ["the authors' schedule was not measured with seed 0"]
    assert report.compared(rows) == ["0.10 to 0.10", "0.20 to 0.20"] and report.compared(rows[:1]) == []
