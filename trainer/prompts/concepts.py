"""Target, mapping and retain prompts from concepts and templates."""

import random
from dataclasses import dataclass

from .entries import split_entry
from .templates import fill, split_templates

FEW = 8  # words that a prompt stands among
ROOM = 75  # tokens of a chunk; a prompt's own words are counted as two each
SUGGEST = "?"  # a mapping concept that begins so is to be suggested, from the category that follows


@dataclass(frozen=True)
class Erase:
    """One entry of `erase`: "cat, kitty -> forest" is a concept of two words and what is drawn instead."""

    words: tuple[str, ...]  # the first is the concept's name
    mapping: str
    templates: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.words[0]


@dataclass(frozen=True)
class Prompt:
    text: str
    pair: bool  # names two things


@dataclass(frozen=True)
class Target:
    """A prompt that names erased concepts, and what it is to become."""

    prompt: Prompt
    mapped: str  # the same prompt, the concepts that are switched on replaced
    named: tuple[int, ...]  # concepts that it names
    off: tuple[int, ...] = ()  # those of them that are switched off, so that they stay

    @property
    def concept(self) -> int:
        return next(n for n in self.named if n not in self.off)

    @property
    def beside(self) -> bool:
        """Whether it names another thing that stays."""
        return self.prompt.pair and len(self.named) - len(self.off) < 2


def parse_erase(entry: str, templates: dict[str, list[str]] | None = None, common: list[str] = ()) -> Erase:
    """ "cat, kitty -> forest" as Erase; without a mapping concept one is to be suggested, as with "cat -> ?animal"."""
    words, mapping = split_entry(entry)
    return Erase(tuple(words), mapping or SUGGEST, tuple((templates or {}).get(words[0], common)))


def target_prompts(erased: list[Erase], others: list[str], count: int, seed: int) -> list[Target]:
    """Targets of every concept in every template, its first word in all of them and the others in turn; of the two-concept ones
    `count` per concept, drawn by the seed.

    With several concepts also 3/2 `count` prompts per concept that name a second erased one, a third of them with the
    second switched off.
    """
    rng = random.Random(seed)
    targets = []
    for index, concept in enumerate(erased):
        single, double = split_templates(concept.templates)
        targets += [Target(Prompt(fill(t, w), False), fill(t, concept.mapping), (index,)) for w, t in in_turn(concept.words, single)]
        everything = [(t, w, o) for t in double for w in concept.words for o in others if o != concept.mapping]
        for t, w, other in rng.sample(everything, min(count, len(everything))):
            targets.append(Target(Prompt(fill(t, w, other), True), fill(t, concept.mapping, other), (index,)))
        both = [(t, w, j) for t in double for w in concept.words for j in range(len(erased)) if j != index]
        for number, (t, w, j) in enumerate(rng.sample(both, min(count * 3 // 2, len(both)))):
            other = erased[j].words[number % len(erased[j].words)]
            prompt = Prompt(fill(t, w, other), True)
            if number % 3 == 2:
                targets.append(Target(prompt, fill(t, concept.mapping, other), (index, j), (j,)))
            else:
                targets.append(Target(prompt, fill(t, concept.mapping, erased[j].mapping), (index, j)))
    return targets


def holds(former: str, entry: str) -> bool:
    """Whether an entry of `erase` in a file is the one that is given, with words beside that were found for it."""
    (old, its), (new, own) = split_entry(former), split_entry(entry)
    return (old[:1], its) == (new[:1], own) and {*new} <= {*old}


def in_turn(words: tuple[str, ...], templates: list[str]) -> list[tuple[str, str]]:
    """The first word in every template; the others share them, each in two at the least: many words do not make many more prompts."""
    first, *more = words
    step = max(1, min(len(more), len(templates) // 2))
    return [(first, t) for t in templates] + [(w, t) for i, w in enumerate(more) for t in templates[i % step :: step]]


def retain_prompts(retain: list[str], erased: list[Erase], templates: list[str], given: list[str], count: int, seed: int) -> list[Prompt]:
    """Prompts that must survive: the given ones, retain and mapping concepts in every template, `count` drawn pairs."""
    rng = random.Random(seed)
    single, double = split_templates(templates)
    names = list(dict.fromkeys([*retain, *(e.mapping for e in erased)]))
    prompts = [Prompt(g, False) for g in given] + [Prompt(fill(t, name), False) for name in names for t in single]
    everything = [(t, a, b) for t in double for a in names for b in names if a != b]
    prompts += [Prompt(fill(t, a, b), True) for t, a, b in rng.sample(everything, min(count, len(everything)))]
    return list(dict.fromkeys(prompts))


def among_words(texts: list[str], words: list[str], most: int, seed: int) -> list[str]:
    """Each prompt with words before or behind it, drawn by the seed: mostly up to FEW, in two fifths of them up to `most`."""
    rng = random.Random(seed)
    mixed = []
    for text in texts:
        room = min(most if rng.random() < 0.4 else FEW, max(1, ROOM - 2 * len(text.split())))
        extra = " ".join(rng.choices(words, k=rng.randint(1, room))).split()[:room]
        mixed.append(" ".join([*extra, text] if rng.random() < 0.5 else [text, *extra]))
    return mixed


def bare_prompts(names: list[str], words: list[str], count: int, seed: int) -> list[str]:
    """For every name `count` prompts that no template makes: the name alone, with an article, among one to eight words."""
    rng = random.Random(seed)
    prompts = []
    for name in names:
        prompts += [name, fill("a {}", name)]
        for _ in range(count - 2):
            extra = rng.choices(words, k=rng.randint(1, FEW))
            place = rng.randint(0, len(extra))
            prompts.append(" ".join([*extra[:place], rng.choice((name, fill("a {}", name))), *extra[place:]]))
    return prompts
