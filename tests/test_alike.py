"""Words that a text encoder reads in a target's pieces, and signs."""

from trainer.prompts.alike import TEXTS, alike
from trainer.prompts.concepts import parse_erase
from trainer.prompts.words import SIGNS
from trainer.prompts.written import free_of, parsed

WRITTEN = tuple(parsed(f"one {kind} sees a {{stone}}", kind) for kind in ("aaaa", "eeee", "iiii", "oooo", "uuuu"))
WORDS = ["banks", "banking", "bankrupt", "bankside", "banksman", "river", "tree"]
PIECES = {"banksy": ["banks", "y"], "cat": ["cat"]}


def pieces(word):
    return PIECES[word.lower()]


def made(*entries):
    return alike([parse_erase(e) for e in entries], WRITTEN, WORDS, pieces, 0)


def test_a_word_in_pieces_has_texts_of_words_that_share_some_and_never_its_own():
    found = [s for s in made("Banksy -> photograph") if not any(sign in s.text for sign in SIGNS)]
    assert len(found) == TEXTS and {s.named for s in found} == {None}
    assert len(free_of([s.text for s in found], ["Banksy"])) == len(found)
    assert all("banks" in s.text or "bank" in s.text or "y" in s.text for s in found)
    assert any("bankside" in s.text for s in found) and not any("river" in s.text for s in found)


def test_a_word_of_one_piece_has_none_and_signs_stand_in_every_file():
    found = made("cat -> forest")
    assert found and all(any(sign in s.text for sign in SIGNS) for s in found)


def test_texts_of_the_calibration_are_apart():
    found = made("Banksy -> photograph")
    assert {s.held_out for s in found} == {False, True}
    assert all(("uuuu" in s.text) <= s.held_out and ("aaaa" in s.text) <= (not s.held_out) for s in found)
