"""Where a training's time goes, and what is said to be left of it over all phases."""

import pytest

from trainer.config import Config
from trainer.run import phases, progress
from trainer.run.phases import Phases, Plan, in_words, rows_of
from trainer.run.progress import Progress, looking_ahead


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [100.0]
    monkeypatch.setattr(phases.time, "time", lambda: now[0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_every_second_belongs_to_one_phase(clock):
    own = Phases(90.0, 6.0)
    for name, seconds in (("encoding", 2.0), ("steps", 8.0), ("previews", 1.0), ("steps", 4.0), ("verdict", 3.0)):
        clock[0] += seconds
        own.begin(name)
    clock[0] += 0.25
    spent = own.spent()
    assert spent == {"import": 6.0, "loading": 4.0, "checks": 2.0, "encoding": 8.0, "steps": 4.0, "previews": 4.0, "verdict": 0.2}
    assert sum(own.seconds.values()) == clock[0] - 90
    assert in_words(spent) == "encoding 8 s, import 6 s, loading 4 s, steps 4 s, previews 4 s, checks 2 s"


def test_the_time_left_is_that_of_all_phases(clock, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0)
    said = []
    plan = Plan({"sampling": 100.0, "cat": 200.0, "verdict": 50.0}, row=0.6)
    with looking_ahead(plan):
        with Progress("encoding", 10, say=said.append) as bar:
            clock[0] += 30
            bar.advance(5)  # 30 seconds of its own, and 350 rows at what a row took at first
        with Progress("sampling", 10, say=said.append) as bar:
            clock[0] += 120
            bar.advance(2)  # 480 seconds, and behind it 250 rows at 6 seconds each, which is what they take
        with Progress("cat", 100, 50, say=said.append) as bar:
            clock[0] += 100
            bar.advance(25)  # 100 seconds, and 50 rows at 2
        with Progress("encoding late", None, say=said.append) as bar:
            bar.advance(3)
    with Progress("alone", 4, say=said.append) as bar:
        clock[0] += 60
        bar.advance(1)
    assert said == [
        "encoding: 5 of 10 prompts, 4 minutes left in all".replace("prompts", "steps"),
        "sampling: 2 of 10 steps, 33 minutes left in all",
        "cat: 75 of 100 steps, 3 minutes left in all",
        "encoding late: 3 steps, 2 minutes left in all",
        "alone: 1 of 4 steps, 3 minutes left",
    ]


def test_rows_are_those_of_the_settings():
    config = Config(
        erase=["cat -> forest"], size="64x64", pair_size="128x64", pictures=32, sampling_steps=16, cfg=3.0, kept_steps=8, iterations=300
    )
    rows = rows_of(config, "cat")
    assert rows["sampling pictures"] == 32 * (16 * 2 + 2 * 8) and rows["sampling pictures of pairs"] == 2 * rows["sampling pictures"]
    longer = rows_of(Config(**(vars(config) | {"iterations": 2 * config.iterations})), "cat")
    assert longer["cat"] == 2 * rows["cat"] and all(rows[name] == longer[name] for name in rows if name != "cat")
    assert rows_of(Config(**(vars(config) | {"preview_every": 0})), "cat")["preview"] == 0 < rows["preview"]
