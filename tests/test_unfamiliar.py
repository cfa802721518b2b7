"""Words that a text encoder hardly knows and words that come near: in small spaces made by hand, and on the demo's encoder."""

from types import SimpleNamespace

import pytest
import torch

from trainer.config import Config
from trainer.prompts import neighbours, unfamiliar
from trainer.prompts.neighbours import Read
from trainer.prompts.unfamiliar import LIMIT, Others, discriminant, doubts, meaningless_letters

KNOWN = [f"known{i}" for i in range(40)]
LETTERS = [f"zq{i}" for i in range(20)]
NOUNS = """cat dog pig bear rabbit frog horse fish bird car bus airplane boat bicycle house tree clock book guitar ball pizza apple
    burger cake ghost""".split()
STRANGERS = ["tiger", "okapi", "sword", "church", "unhypeable", "🐱", "Zxqv"]


def space(monkeypatch, **vectors) -> Read:
    """Known words all around a point of eight dimensions, meaningless letters close together aside of it, and other names."""
    rng = torch.Generator().manual_seed(0)
    known, middle = torch.randn(len(KNOWN), 8, generator=rng), torch.tensor([6.0] + 7 * [0])
    letters = middle + 0.1 * torch.randn(len(LETTERS), 8, generator=rng)
    monkeypatch.setattr(unfamiliar, "VOCABULARY", KNOWN)
    raw = torch.cat([known, letters, torch.tensor(list(vectors.values())).view(-1, 8)])
    place = {name: row for row, name in enumerate([*KNOWN, *LETTERS, *vectors])}
    return Read(place, raw, torch.nn.functional.normalize(raw - known.mean(0), dim=1))


def at(*numbers: float) -> list[float]:
    return [*map(float, numbers), *[0.0] * (8 - len(numbers))]


def said(read: Read, entry: str, near=(), retain=(), **pieces) -> list[str]:
    config = Config(base="demo", out="x", erase=[entry], retain=list(retain))
    words = [w for e in config.erased() for w in e.words]
    backbone = SimpleNamespace(pieces=lambda word: pieces.get(word, [word]))
    return doubts(config, backbone, Others({w: list(near) for w in words}, KNOWN[:9], LETTERS), read)


def test_an_ordinary_word_is_passed_over_in_silence(monkeypatch):
    assert said(space(monkeypatch, cat=at(0, 2)), "cat -> sky") == []


def test_a_word_that_lies_with_letters_is_named_with_what_to_do(monkeypatch):
    (line,) = said(space(monkeypatch, miv=at(6, 0.3)), "miv -> sky")
    assert line.startswith("warning: 'miv': the text encoder seems hardly to know it: ") and line.endswith('as in "miv, ANOTHER -> sky"')


@pytest.mark.parametrize("pieces, expected", [(["ok", "api"], True), (["okapi"], False)])
def test_a_word_on_the_letters_side_is_named_where_it_is_read_in_pieces(monkeypatch, pieces, expected):
    """And a whole token is a word that the encoder has learnt, wherever it lies."""
    lines = said(space(monkeypatch, okapi=at(3, 0, 0.5)), "okapi -> sky", okapi=pieces)
    assert bool(lines) is expected and all("(it reads ok, api): " in line for line in lines)


def test_pieces_alone_are_no_doubt(monkeypatch):
    assert said(space(monkeypatch, kimono=at(0, 2)), "kimono -> sky", kimono=["kim", "ono"]) == []
    assert said(space(monkeypatch, **{"Van Gogh": at(3, 0, 0.5)}), "Van Gogh -> sky", **{"Van Gogh": ["van", "gogh"]}) == []


def test_a_sign_that_cannot_be_read_is_named(monkeypatch):
    (line,) = said(space(monkeypatch, cat=at(0, 2)), "cat -> sky", cat=[None])
    assert line.startswith("warning: 'cat' holds a sign that the text encoder cannot read") and line.endswith("Write it in words")


def test_near_words_are_proposed_but_for_what_is_erased_retained_or_mapped_to(monkeypatch):
    names = {"cat": at(0, 2), "kitten": at(0, 2, 1), "Feline": at(0, 3), "dog": at(0, 1, 2)}
    names |= dict.fromkeys(("kitty", "paw", "sky"), at(0, 2))
    read = space(monkeypatch, **names)
    near = ["kitten", "Feline", "dog", "kitty", "paw", "sky"]
    (line,) = said(read, "cat, kitty -> sky", near, retain=["paw"])
    assert line == (
        "'cat': these words come near it for the text encoder: Feline, kitten. "
        'Erase them too with "cat, kitty, Feline, kitten -> sky", or add them to retain if they are to stay'
    )


def test_neither_letters_nor_a_words_own_pieces_are_proposed(monkeypatch):
    read = space(monkeypatch, cat=at(4, 4), shareholders=at(6, 0.5), horse=at(0, 2), ho=at(0, 2))
    assert said(read, "cat -> sky", ["shareholders"]) == [] and said(read, "horse -> sky", ["ho"], horse=["ho", "rse"]) == []
    assert "come near it for the text encoder: ho. " in said(read, "horse -> sky", ["ho"])[0]


def test_the_discriminant_is_one_on_one_side_and_minus_one_on_the_other():
    rng = torch.Generator().manual_seed(0)
    known, letters = torch.randn(50, 6, generator=rng) + 5, torch.randn(30, 6, generator=rng) + torch.tensor([9.0, 5, 5, 5, 5, 5])
    place = discriminant(known, letters)
    found = [torch.tensor([place(v) for v in some]) for some in (known, letters)]
    for values, expected in zip(found, (-1, 1)):
        assert abs(values.mean() - expected) < 0.01
    assert (found[0] < LIMIT).float().mean() > 0.9 and (found[1] > 0).float().mean() > 0.9


def test_letters_are_many_and_the_same_every_time():
    letters = meaningless_letters(64)
    assert (
        letters == meaningless_letters(64) and len(set(letters)) > 60 and all(w.isascii() and w.isalpha() and len(w) > 3 for w in letters)
    )


@pytest.fixture(scope="module")
def demo_says(comfy):
    """What is said of the demo's nouns and of words that it was never taught, a few of its nouns being retained."""
    from host.load import load_backbone

    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        for module in (neighbours, unfamiliar):
            patch.setattr(module, "VOCABULARY", neighbours.VOCABULARY[::12])
        erase = [f"{word} -> sky" for word in [*NOUNS[:18], *STRANGERS]]
        templates = ["a {}, google style, on a blue background"]
        config = Config(base="demo", out="x", erase=erase, templates=templates, retain=NOUNS[18:], neighbours=0)
        lines = []
        neighbours.resolve(config, load_backbone("demo"), lines.append)
    return [line for line in lines if "mapping concept" not in line]


def test_the_demo_knows_its_nouns_and_no_other_word(demo_says):
    unknown = [line.split("'")[1] for line in demo_says if "hardly to know" in line]
    assert unknown == STRANGERS


@pytest.mark.parametrize("name, synonyms", [("cat", {"feline", "kitty"}), ("dog", {"puppy", "hound"}), ("car", {"sedan", "automobile"})])
def test_the_demos_synonyms_are_proposed_and_nothing_else(demo_says, name, synonyms):
    (line,) = [line for line in demo_says if line.startswith(f"'{name}': these words come near")]
    assert set(line.split("encoder: ")[1].split(". Erase")[0].split(", ")) == synonyms


def test_pieces_are_those_of_the_tokenizer(comfy):
    from host.load import load_backbone

    backbone = load_backbone("demo")
    assert backbone.pieces("cat") == ["cat"] and backbone.pieces("hot dog") == ["hot", "dog"]
    assert "".join(backbone.pieces("unhypeable")) == "unhypeable" and len(backbone.pieces("unhypeable")) > 1
    near = backbone.near_words(["cat", "hot dog"], 5)
    assert near.keys() == {"cat", "hot dog"} and all(len(words) == 5 for words in near.values()) and "cat" not in near["cat"]
    assert "dog" in near["hot dog"]
