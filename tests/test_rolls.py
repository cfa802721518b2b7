"""Rolls: lists of names and of the encoder's words, without and with several targets."""

import re

import pytest

from trainer.prompts import rolls as made_of
from trainer.prompts.concepts import parse_erase
from trainer.prompts.names import NAMES
from trainer.prompts.rolls import rolls
from trainer.prompts.sentences import HELD_OUT, mentions
from trainer.prompts.written import parsed
from trainer.reading import labels_of

TEXTS = tuple(parsed(f"one {kind} sees a {{stone}}", kind) for kind in ("aaaa", "eeee", "iiii", "oooo", "uuuu"))
WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in "lmnrst"]
FEW = [parse_erase(entry) for entry in ("cat, kitty -> forest", "Albrecht Durer -> photograph")]
MANY = [parse_erase(f"zq{chr(97 + i // 10)}{chr(97 + i % 10)} -> sky") for i in range(40)]


@pytest.fixture(scope="module", params=[FEW[:1], FEW, MANY], ids=len)
def made(request):
    return request.param, rolls(request.param, TEXTS, WORDS, 0)


def test_labels_say_which_targets_a_roll_holds(made):
    erased, found = made
    for sentence, named in zip(found, mentions([s.text for s in found], erased)):
        assert named == (set() if sentence.named is None else {sentence.named, *sentence.also})
    labels = labels_of(found, erased)
    assert [set(row.nonzero().flatten().tolist()) for row in labels] == mentions([s.text for s in found], erased)


def test_every_concept_stands_in_rolls_of_both_parts_alone_or_beside_another(made):
    erased, found = made
    for out in (False, True):
        own = [{s.named, *s.also} for s in found if s.named is not None and s.held_out == out]
        assert set().union(*own) == set(range(len(erased)))
        assert {len(named) for named in own} <= ({1, 2} if len(erased) >= 10 else {1})  # never more: nobody names ten of them
    with_target = [s for s in found if s.named is not None]
    assert len(with_target) <= max(made_of.TARGETS * len(erased) ** 0.5, made_of.FEWEST * len(erased)) + 1


def test_names_and_words_of_the_calibration_are_in_no_roll_that_is_fitted():
    found = rolls(FEW[:1], TEXTS, WORDS, 0)
    texts = {out: " ".join(s.text for s in found if s.held_out == out) for out in (False, True)}
    for group in NAMES:
        for i, name in enumerate(group):
            assert name not in texts[i % HELD_OUT != HELD_OUT - 1] or any(name in other for other in group if other != name)
    assert "uuuu" in texts[True] and "uuuu" not in texts[False] and "aaaa" in texts[False] and "aaaa" not in texts[True]
    there = [set(re.findall(r"\w+", texts[out])) & set(WORDS) for out in (False, True)]
    assert all(there) and not there[0] & there[1]


def test_a_name_that_shares_a_word_with_a_target_is_left_out():
    assert any("Marie Curie" in s.text for s in rolls(FEW[:1], TEXTS, WORDS, 0))
    erased = [parse_erase("Pierre Curie -> man")]
    assert not any("Marie Curie" in s.text for s in rolls(erased, TEXTS, WORDS, 0))
