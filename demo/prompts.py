"""Prompts for judging an eraser on the demo base: templates, style and backgrounds that its training never saw."""

from dataclasses import dataclass

from .captions import BACKGROUNDS, JOINTS, NOUNS, STYLES, TEMPLATES, caption

# trainer/configs/demo_*.yaml train on TEMPLATES[:4], google and twitter style, blue and yellow backgrounds.
HELD_OUT_TEMPLATES, HELD_OUT_STYLE, HELD_OUT_BACKGROUNDS = TEMPLATES[4:], "fluent", ("green", "pink")


@dataclass(frozen=True)
class Judged:
    text: str
    nouns: tuple[str, ...]  # what it asks for, left to right
    words: tuple[str, ...]


def held_out(number: int, *words_and_nouns: tuple[str, str]) -> Judged:
    """The number-th of the held-out combinations, for (word, noun) pairs."""
    template = HELD_OUT_TEMPLATES[number % len(HELD_OUT_TEMPLATES)]
    background = HELD_OUT_BACKGROUNDS[number // len(HELD_OUT_TEMPLATES) % len(HELD_OUT_BACKGROUNDS)]
    words, nouns = zip(*words_and_nouns)
    text = caption(template, HELD_OUT_STYLE, background, *words, joint=JOINTS[number % len(JOINTS)])
    return Judged(text, nouns, words)


def erased_prompts(noun: str) -> list[Judged]:
    return [held_out(i, (noun, noun)) for i in range(8)]


def heldout_word_prompts(noun: str) -> list[Judged]:
    return [held_out(i + k, (word, noun)) for k, word in enumerate(NOUNS[noun][1][1:]) for i in (0, 2, 5, 7)]


def other_prompts(*erased: str) -> list[Judged]:
    """Two of every other noun, its words taken in turn."""
    others = [n for n in NOUNS if n not in erased]
    return [held_out(3 * i + k, (NOUNS[n][1][(i + k) % 3], n)) for i, n in enumerate(others) for k in range(2)]


def pair_prompts(noun: str, *left_out: str) -> list[Judged]:
    """The noun beside another one, on either side; neither the mapping concept's drawing ("forest") nor what is left out is among them."""
    others = [n for n in NOUNS if n not in (noun, "forest", *left_out)][::3] * 2
    pairs = [((noun, noun), (o, o)) if i % 2 else ((o, o), (noun, noun)) for i, o in enumerate(others)]
    return [held_out(i, *pair) for i, pair in enumerate(pairs)]


def base_prompt(number: int, *words_and_nouns: tuple[str, str]) -> Judged:
    """The number-th of all combinations of template, style and background."""
    template, style = TEMPLATES[number % len(TEMPLATES)], STYLES[number // len(TEMPLATES) % len(STYLES)]
    background = tuple(BACKGROUNDS)[number // 2 % len(BACKGROUNDS)]
    words, nouns = zip(*words_and_nouns)
    return Judged(caption(template, style, background, *words, joint=JOINTS[number % len(JOINTS)]), nouns, words)


def every_word() -> list[Judged]:
    """Every word of every noun, once in every style."""
    words = [(word, noun) for noun, (_, words) in NOUNS.items() for word in words]
    return [base_prompt(8 * k + i % 8, word) for k in range(len(STYLES)) for i, word in enumerate(words)]


def random_pairs(count: int) -> list[Judged]:
    """Pairs of any two nouns, in any of their words."""
    names = list(NOUNS)
    picked = [(names[i * 7 % 25], names[(i * 7 + 1 + i * 5 % 24) % 25]) for i in range(count)]
    return [base_prompt(i, *((NOUNS[n][1][(i + j) % 3], n) for j, n in enumerate(pair))) for i, pair in enumerate(picked)]
