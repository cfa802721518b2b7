"""What evaluate.py measures: every concept of the file that the base draws, and nothing erased among what is to stay."""

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks.demo_grid import grid_prompts
from benchmarks.evaluate import drawn_nouns, main, prompt_sets, table
from demo.captions import NOUNS
from demo.judge import NAMES
from demo.prompts import erased_prompts, heldout_word_prompts, other_prompts, pair_prompts
from evaluation.metrics import figures, per_concept
from evaluation.studio import Drawn

ROOT = Path(__file__).resolve().parents[1]
JUDGE = SimpleNamespace(names=NAMES, present=0.5)
SEEDS = 3


def drawing(sets: dict, missing: tuple[str, ...] = ()) -> dict[str, Drawn]:
    """What a perfect judge sees of pictures that show what was asked for, but for some nouns."""
    drawn = {}
    for name, prompts in sets.items():
        scores = 0.1 * torch.rand(len(prompts), SEEDS, len(NAMES))
        for i, p in enumerate(prompts):
            for noun in p.nouns:
                scores[i, :, NAMES.index(noun)] = 0.9 if noun not in missing else 0.0
        drawn[name] = Drawn(scores, torch.ones(len(prompts), SEEDS, 2, 2))
    return drawn


def measured(nouns, missing):
    torch.manual_seed(0)
    sets = prompt_sets(nouns, ["forest"])
    base, mine = drawing(sets), drawing(sets, missing)
    return figures(sets, mine, base, nouns, JUDGE, lambda drawn: 1.0), per_concept(sets, mine, base, nouns, JUDGE)


def test_every_concept_of_the_file_is_measured():
    together, each = measured(["cat", "dog", "pizza"], ("cat", "pizza"))
    assert list(each) == ["cat", "dog", "pizza"]
    for noun, left in (("cat", 0.0), ("dog", 1.0), ("pizza", 0.0)):
        assert each[noun]["erased_top1"] == each[noun]["heldout_words_top1"] == left and each[noun]["pair_erased_gone"] == 1 - left
        assert each[noun]["pair_other_kept"] == 1.0
        assert each[noun]["n"] == dict(erased_top1=24, heldout_words_top1=24, pair_erased_gone=3 * 14, pair_other_kept=3 * 14)
    assert together["erased_top1"] == together["heldout_words_top1"] == pytest.approx(1 / 3)
    assert together["pair_erased_gone"] == pytest.approx(2 / 3) and together["others_top1"] == 1.0
    assert together["n"]["erased_top1"] == 72 and together["n"]["others_top1"] == 22 * 2 * SEEDS


def test_what_is_erased_is_not_counted_as_kept():
    nouns = ["cat", "dog", "pizza", "bear"]
    sets = prompt_sets(nouns, ["horse", "a landscape"])
    assert not {n for p in sets["others"] for n in p.nouns} & set(nouns)
    assert all(len(set(p.nouns) & set(nouns)) == 1 for p in sets["pairs"])
    assert not {n for p in sets["pairs"] for n in p.nouns} & {"horse", "forest"}


@pytest.mark.parametrize("noun", ["cat", "ghost"])
def test_one_concept_is_judged_by_the_prompts_that_it_was(noun):
    assert prompt_sets([noun], ["forest"]) == {
        "erased": erased_prompts(noun),
        "heldout_words": heldout_word_prompts(noun),
        "others": other_prompts(noun),
        "pairs": pair_prompts(noun),
    }


def test_pairs_count_where_the_base_draws_both():
    sets = prompt_sets(["cat"], ["forest"])
    base = drawing(sets)
    half = len(sets["pairs"]) // 2
    base["pairs"].scores[:half, :, NAMES.index("cat")] = 0.0
    found = figures(sets, drawing(sets, ("cat",)), base, ["cat"], JUDGE, lambda drawn: 1.0)
    assert found["n"]["pair_other_kept"] == (len(sets["pairs"]) - half) * SEEDS and found["pair_other_kept"] == 1.0
    assert found["h_o"] == found["h_c"] == 1.0 and found["others_change"] == 0.0


def test_concepts_are_known_by_any_of_the_bases_words():
    assert drawn_nouns(["Kitty", "dog", "Mickey Mouse", "cat"], "x") == ["cat", "dog"]
    with pytest.raises(ValueError, match="x.safetensors erases Mickey Mouse.*draws cat, dog"):
        drawn_nouns(["Mickey Mouse"], "x.safetensors")


def test_the_table_has_a_line_for_each_concept_and_names_what_was_not_measured():
    report = json.loads((ROOT / "demo/report.json").read_text())
    _, each = measured(["cat", "dog"], ("cat",))
    lines = table(report | {"concepts": each, "not_drawn": ["unicorn"]}).splitlines()
    assert "cat: 0.0 % drawn by its name, 0.0 % by other words; in pairs 100.0 % gone, the other kept in 100.0 %" in lines
    assert any(line.startswith("dog: 100.0 % drawn") for line in lines) and any("draw them: unicorn" in line for line in lines)


@pytest.mark.parametrize("erased", [["cat"], ["pizza"], ["car", "pizza", "dog"], random.Random(0).sample(list(NOUNS), 12)])
def test_the_grid_shows_every_concept_beside_what_stays(erased):
    singles, pairs = grid_prompts(erased)
    assert {p.words[0] for p in singles} >= {word for noun in erased for word in NOUNS[noun][1]}
    for noun in erased:
        assert len([p for p in pairs if noun in p.nouns]) == 2
    assert all(len(set(p.nouns) & set(erased)) <= 1 and len(set(p.nouns)) == 2 for p in pairs)


def test_a_base_that_the_judge_does_not_know_is_refused_before_the_work(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text('base: mine.safetensors\nerase: ["cat -> forest"]\nout: cat.safetensors\n')
    with pytest.raises(SystemExit):
        main(["--config", str(path)])
    assert "base is mine.safetensors, expected demo or demo-flux" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--config", str(ROOT / "trainer/configs/demo_cat.yaml"), "--eraser", str(ROOT / "demo/emoji-sd.safetensors")])
    assert "a base model of UnHype's demo" in capsys.readouterr().err
