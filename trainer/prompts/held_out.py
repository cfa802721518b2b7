"""Prompts that no training sees: what an eraser is judged by when it is done, and others that it is looked at by on the way."""

from typing import NamedTuple

from .concepts import ROOM, Erase, Prompt, Target
from .templates import fill, split_templates


class Frames(NamedTuple):
    """What concepts and other prompts are put into."""

    templates: tuple[str, ...]
    contexts: tuple[str, ...]  # {} is a whole prompt


TEMPLATES = (
    "a photograph of a {} in the rain",
    "an engraving of a {}",
    "a {} behind a window, soft light",
    "a watercolour of a {}, pale colours",
    "a postcard that shows a {}",
    "seen from above: a {}",
    "a {} in winter, film grain",
    "a mosaic of a {} on an old wall",
)
CONTEXTS = ("{}, misty morning", "at the museum, {}", "{}, wide angle, 1970s", "my sister found this: {}")  # around other prompts
VERDICT = Frames(TEMPLATES, CONTEXTS)
ON_THE_WAY = Frames(("a stamp with a {} on it", "a {} at dawn, oil on canvas"), ("{}, by lamplight", "as I remember it: {}"))
OWN = 8  # of a concept's own templates, put into contexts
SAFE = 120  # prompts that are to stay, at most


def spread(things: list, count: int) -> list:
    """At most `count` of them, evenly."""
    return [things[i * len(things) // count] for i in range(count)] if len(things) > count else things


def in_contexts(texts: list[str], contexts: tuple[str, ...]) -> list[str]:
    """Each text in every context."""
    return [context.replace("{}", text) for text in texts for context in contexts]


def fits(text: str) -> bool:
    """Whether a prompt surely has no more tokens than one has room for."""
    return 2 * len(text.split()) <= ROOM


def targets(erased: list[Erase], seen: set[str], frames: Frames = VERDICT) -> list[Target]:
    """Prompts that name each concept in every word, with what they are to become, none of `seen`."""
    found = []
    for index, concept in enumerate(erased):
        own = spread(split_templates(concept.templates)[0], OWN)
        named = lambda name: [fill(t, name) for t in frames.templates] + in_contexts([fill(t, name) for t in own], frames.contexts)
        for word in concept.words:
            every = [Target(Prompt(a, False), b, (index,)) for a, b in zip(named(word), named(concept.mapping))]
            new = [t for t in every if t.prompt.text not in seen and fits(t.prompt.text) and fits(t.mapped)]
            found += new or every[: len(frames.templates)]
    return found


def safe(
    erased: list[Erase], retain: list[str], templates: list[str], given: list[str], seen: set[str], frames: Frames = VERDICT
) -> list[str]:
    """Prompts of what is to stay: retained and mapping concepts in new templates and in new contexts, and the given prompts
    in new contexts; none of `seen`."""
    names = spread(list(dict.fromkeys([*retain, *(e.mapping for e in erased)])), SAFE // 2)
    own = split_templates(templates)[0]
    texts = in_contexts(spread(given, SAFE // 8), frames.contexts)
    for turn in range(len(frames.templates)):
        for i, name in enumerate(names, turn):
            template, context = frames.templates[i % len(frames.templates)], frames.contexts[i % len(frames.contexts)]
            texts.append(fill(template, name) if i % 2 else context.replace("{}", fill(own[(i + turn) % len(own)], name)))
    return [t for t in dict.fromkeys(texts) if t not in seen and fits(t)][:SAFE]
