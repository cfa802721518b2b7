"""Templates: sentences with a place for a concept, and how they are filled in."""

import itertools
import re

TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a {}",
    "a {} in the park",
    "a close-up photo of a {}",
    "a painting of a {}",
    "an oil painting of a {}",
    "a sketch of a {}",
    "a {} during sunset",
    "a black and white photo of a {}",
    "a 3d render of a {}",
    "a {} at home, highly detailed",
    "a photo of a {} and a {other}",
    "a {other} next to a {}",
)


def expand(template: str) -> list[str]:
    """Every choice of {a|b} alternatives: "{red|blue} {}" -> ["red {}", "blue {}"]."""
    parts = re.split(r"\{([^{}]*\|[^{}]*)\}", template)
    choices = [[part] if i % 2 == 0 else part.split("|") for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def fill(template: str, concept: str, other: str = "") -> str:
    """The template with its concepts, and "a" turned into "an" where a vowel follows."""
    text = template.replace("{}", concept).replace("{other}", other)
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)


def split_templates(templates) -> tuple[list[str], list[str]]:
    """Expanded templates of one concept, and of two."""
    expanded = [e for t in templates for e in expand(t)]
    return [t for t in expanded if "{other}" not in t], [t for t in expanded if "{other}" in t]
