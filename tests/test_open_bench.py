"""The open comparison: its prompts, its ranks, and on the small base a quick run of every part from nothing."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch

from benchmarks.open import columns, look_alikes, prompts, report
from benchmarks.open.words import Base, emoji_sd
from evaluation.measure import Drawn

ERASED = ["cat", "car", "pizza"]
ROW = {"base", "method", "erased", "seed", "acc_e", "acc_g", "acc_s", "acc_s_base", "h_o", "h_c", "h_c_share", "train_seconds", "file_mb"}
ROW |= {"acc_hard", "acc_hard_base", "acc_long", "acc_description", "selective"}


@pytest.fixture(scope="module")
def base() -> Base:
    described = {n: (f"a thing like a {n[::-1]}", "it") for n in emoji_sd().wording.nouns}
    return replace(
        emoji_sd(), short=described, unseen={"cat": ("tomcat",)}, wider={"animal": ("cat", "dog"), "pet": ("cat",), "food": ("cake",)}
    )


def test_the_nouns_take_turns(base):
    found = prompts.meanings(base, ERASED, 12)
    assert Counter(p.nouns[0] for p in found["compound"]) == dict.fromkeys(ERASED, 4)
    assert {p.words[0] for p in found["description"]} == {w for n in ERASED for w in base.short[n]}
    assert {p.words[0] for p in found["unseen"]} == {"tomcat"} and not found["long_description"]
    assert all(len(p.text.split()) >= prompts.WORDS and f" {p.nouns[0]}" in p.text for p in found["long"])
    combinations = 4 * 2  # templates and backgrounds
    assert len({p.text for p in prompts.in_turn(base, ["cat"], lambda n: ("kitty", "feline"), 2 * combinations + 2)}) == 2 * combinations


def test_a_wider_word_means_what_is_erased_and_what_stays(base):
    assert {(p.words, p.nouns) for p in prompts.wider(base, ERASED, 4)} == {(("animal",), ("cat", "dog"))}
    assert not prompts.wider(base, ["dog", "cat"], 4) and not prompts.wider(base, ["bus"], 4)


@pytest.mark.parametrize("things", [2, 3, 4])
def test_an_erased_noun_stands_at_every_place_among_others(base, things):
    found = prompts.beside(base, ERASED, things, 3 * things)
    places = [next(i for i, n in enumerate(p.nouns) if n in ERASED) for p in found]
    assert Counter(places) == dict.fromkeys(range(things), 3)
    for p in found:
        assert len(set(p.nouns)) == things and base.mapping not in p.nouns and len(set(p.nouns) & set(ERASED)) == 1
        at = [p.text.index(f" {n}") for n in p.nouns]
        assert at == sorted(at)


def test_look_alikes_stand_apart_from_the_others(base):
    sets = prompts.table_sets(base, lambda erased: ["dog", "bus"], 6, 50)(ERASED)
    assert {p.nouns[0] for p in sets["others"]} == set(base.others(ERASED)) - {"dog", "bus"}
    assert {p.nouns[0] for p in sets["erased"]} == set(ERASED) and not {p.words[0] for p in sets["words"]} & set(ERASED)


def test_look_alikes_are_taken_in_turn():
    first = torch.tensor([[9.0, 5, 4, 3, 2, 1, 0], *[[0.0] * 7] * 6])
    second = torch.tensor([[9.0, 0, 1, 2, 3, 4, 5], *[[0.0] * 7] * 6])
    assert look_alikes.by_both(list("abcdefg"), first, second)["a"] == ["b", "g", "c", "f", "d"]


def test_safe_prompts_name_nothing_erased(base):
    found = prompts.safe(base, ERASED, 60)
    assert len({p.text for p in found}) == 60 and not {n for p in found for n in p.nouns} & {*ERASED, base.mapping}


def test_ranks_share_places_and_leave_out_what_some_lack():
    row = lambda method, **figures: {"method": method, "erased": 10, "n": {}, **figures}
    rows = [
        row("a", acc_e=0.0, acc_s=0.99, acc_hard=0.5),
        row("b", acc_e=0.001, acc_s=0.80, acc_hard=0.9),
        row("c", acc_e=0.5, acc_s=0.90, acc_hard=None),
    ]
    assert report.ranks(rows, 10) == {"a": (1.25, 2), "b": (2.25, 2), "c": (2.5, 2)}


def test_a_noun_is_named_among_as_many_as_were_asked_for():
    from types import SimpleNamespace

    judge = SimpleNamespace(names=["a", "b", "c"], present=0.5)
    drawn = Drawn(torch.tensor([[[0.9, 0.8, 0.7]], [[0.4, 0.3, 0.2]]]), torch.zeros(2, 1, 1, 1, 3))
    assert columns.named(drawn, judge, ["c", "a"], 2).tolist() == [False, False]
    assert columns.named(drawn, judge, ["c", "a"], 3).tolist() == [True, False]


def test_backgrounds_are_read_off_the_rim():
    from demo.captions import BACKGROUNDS

    pictures = torch.stack([torch.tensor(c, dtype=torch.uint8).expand(64, 64, 3).clone() for c in BACKGROUNDS.values()])
    pictures[:, 10:50, 10:50] = 0
    assert columns.background(pictures) == list(BACKGROUNDS)


def test_a_fine_tune_lies_on_the_base_and_leaves_it_alone(comfy, tmp_path, monkeypatch):
    """With a few steps only: its pictures differ from the base's, whose own weights are what they were."""
    from benchmarks.open import erasers
    from host.load import load_backbone

    monkeypatch.setitem(erasers.TUNE, "iterations", 4)
    backbone, few = (
        load_backbone("demo"),
        replace(emoji_sd(), wording=replace(emoji_sd().wording, nouns={"cat": ("cat",), "dog": ("dog",)})),
    )
    text, noise = backbone.encode(["a cat"]).conditioning(), backbone.noise((64, 64), 0)[None]
    draw = lambda b: b.sample(text, text, (64, 64), 0, 2, 1.0, noise=noise)
    before, tuned = draw(backbone), draw(erasers.on_fine_tune(few, backbone, tmp_path))
    assert not torch.equal(before, tuned) and torch.equal(before, draw(backbone))


def test_a_quick_run_makes_every_part(comfy, tmp_path, capsys):
    from benchmarks.bench import work
    from benchmarks.open.table import COLUMNS, OWN, SMALL, Open

    run = Open(tmp_path, SMALL)
    work(run)
    run.write()
    found = json.loads((tmp_path / report.JSON).read_text())
    assert not found["missing_parts"] and found["base"]["nouns"] == 25 and found["base"]["single_top1"] > 0.9
    assert {r["method"] for r in found["rows"]} == {"unhype", "uce"} and all(r.keys() >= ROW for r in found["rows"])
    assert found["safe"].keys() >= {"prompts", "bit_identical"} and found["cost"].keys() == {"cells", *COLUMNS, *OWN}
    (ours,) = (r for r in found["rows"] if r["method"] == "unhype")
    assert ours["acc_hard"] == ours["acc_hard_base"] and ours["off_kept"] == ours["off_kept_base"]
    page = (tmp_path / report.MD).read_text()
    assert "mean rank" in page and "## What a false alarm costs" in page and "text-free inversion" in page
    assert all(path.exists() for path, _ in run.jobs())
