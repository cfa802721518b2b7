"""Prompts that no training sees: what an eraser is judged by when it is done."""

from .concepts import ROOM, Erase, Prompt, Target
from .templates import fill, split_templates

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
OWN = 8  # of a concept's own templates, put into contexts
SAFE = 120  # prompts that are to stay, at most


def spread(things: list, count: int) -> list:
    """At most `count` of them, evenly."""
    return [things[i * len(things) // count] for i in range(count)] if len(things) > count else things


def in_contexts(texts: list[str]) -> list[str]:
    """Each text in every context."""
    return [context.replace("{}", text) for text in texts for context in CONTEXTS]


def fits(text: str) -> bool:
    """Whether a prompt surely has no more tokens than one has room for."""
    return 2 * len(text.split()) <= ROOM


def targets(erased: list[Erase], seen: set[str]) -> list[Target]:
    """Prompts that name each concept in every word, with what they are to become, none of `seen`."""
    found = []
    for index, concept in enumerate(erased):
        own = spread(split_templates(concept.templates)[0], OWN)
        named = lambda name: [fill(t, name) for t in TEMPLATES] + in_contexts([fill(t, name) for t in own])
        for word in concept.words:
            every = [Target(Prompt(a, False), b, (index,)) for a, b in zip(named(word), named(concept.mapping))]
            new = [t for t in every if t.prompt.text not in seen and fits(t.prompt.text) and fits(t.mapped)]
            found += new or every[: len(TEMPLATES)]
    return found


def safe(erased: list[Erase], retain: list[str], templates: list[str], given: list[str], seen: set[str]) -> list[str]:
    """Prompts of what is to stay: retained and mapping concepts in new templates and in new contexts, and the given prompts
    in new contexts; none of `seen`."""
    names = spread(list(dict.fromkeys([*retain, *(e.mapping for e in erased)])), SAFE // 2)
    own = split_templates(templates)[0]
    texts = in_contexts(spread(given, SAFE // 8))
    for turn in range(len(TEMPLATES)):
        for i, name in enumerate(names, turn):
            template, context = TEMPLATES[i % len(TEMPLATES)], CONTEXTS[i % len(CONTEXTS)]
            texts.append(fill(template, name) if i % 2 else context.replace("{}", fill(own[(i + turn) % len(own)], name)))
    return [t for t in dict.fromkeys(texts) if t not in seen and fits(t)][:SAFE]
