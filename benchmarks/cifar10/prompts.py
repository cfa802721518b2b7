"""Prompts for judging an eraser on the CIFAR-10 base, in templates that its training never saw."""

from benchmarks.cifar10.words import CLASSES, HELD_OUT_TEMPLATES
from demo.prompts import Judged


def judged(template: str, word: str, name: str) -> Judged:
    return Judged(template.format(word), (name,), (word,))


def class_prompts(name: str) -> list[Judged]:
    """The class by its name, in every held-out template."""
    return [judged(t, name, name) for t in HELD_OUT_TEMPLATES]


def synonym_prompts(name: str) -> list[Judged]:
    """The class by each of its synonyms, in every held-out template."""
    return [judged(t, word, name) for word in CLASSES[name][1:] for t in HELD_OUT_TEMPLATES]


def other_prompts(name: str) -> list[Judged]:
    """Every other class in every held-out template, its words taken in turn."""
    others = [n for n in CLASSES if n != name]
    return [judged(t, CLASSES[n][(i + k) % 4], n) for i, n in enumerate(others) for k, t in enumerate(HELD_OUT_TEMPLATES)]
