"""The captions of the emoji-open base: templated and natural, short and long, of no, one or two nouns."""

from dataclasses import dataclass

import numpy as np

from ..captions import BACKGROUNDS, NOTHING, TEMPLATES
from .nouns import NOUNS

STYLES = ("google", "twitter", "fluent", "flat")

# {subject} is "a cat", "a cat and a pizza", a description, or "nothing" (the background alone).
NATURAL = (
    "there is {subject} in front of a plain {background} wall, drawn the way {style} does it",
    "I would like to see {subject} on a {background} sheet of paper, {style} style please",
    "this {style} picture shows {subject}, and behind it everything is {background}",
    "somebody drew {subject} in the {style} style and painted the background {background}",
    "{subject} seen against {background}, like an icon by {style}",
    "on a {background} ground we see {subject}; the style is {style}",
    "can you draw {subject} for me? {background} background, {style} look",
    "a simple {style} illustration that shows {subject} over a {background} backdrop",
)
# Captions that leave style or background, or both, open.
OPEN = (
    "{subject}",
    "a picture of {subject}",
    "{subject}, {style} style",
    "{subject} on a {background} background",
    "show me {subject}",
    "an emoji of {subject}",
)
JOINTS = (
    "{a} and {b}",
    "{a} next to {b}",
    "{a} with {b}",
    "{a} on the left and {b} on the right",
    "{a} to the left of {b}",
    "on the left {a}, on the right {b}",
)
TURNED = ("{b} on the right and {a} on the left", "{b} to the right of {a}")  # the second noun is named first
LONG = (
    "masterpiece", "best quality", "highly detailed", "sharp focus", "8k", "trending on artstation", "clean lines", "vector art",
    "soft light", "studio lighting", "centered composition", "very beautiful", "award winning", "no text", "high resolution",
    "the colours are bright and friendly", "nothing else is in the picture", "the whole thing can be seen from the front",
    "made for a phone screen", "it should look good when it is small", "as one would send it to a friend", "simple shapes",
    "with a little shading", "crisp edges", "smooth gradients", "professional graphic design", "cute", "minimal", "ultra hd",
    "drawn on a computer by a careful artist", "ready to be printed on a sticker", "perfect for a message", "digital art",
)  # fmt: skip
SINGULAR = ("ss", "us", "is", "os", "ananas", "christmas")  # ends of words that are no plural though they end in s

SHARES = {"templates": 0.55, "natural": 0.30, "open": 0.15}
DESCRIBED, DESCRIBED_OF_PAIRS = 0.40, 0.15  # share of nouns that are described, not named


@dataclass(frozen=True)
class Caption:
    """A caption and what it asks for; style or background is "" where it leaves them open."""

    text: str
    nouns: tuple[str, ...]
    style: str
    background: str


def with_article(words: str) -> str:
    """The words behind their indefinite article, "an apple", or as they are where they are a plural."""
    if words.endswith("s") and not words.endswith(SINGULAR):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def subject(*phrases: str, joint: str = JOINTS[0]) -> str:
    """One or two nouns, each as "a cat" or by a description, as a caption's subject; without any, the empty picture's."""
    if len(phrases) == 2:
        return joint.format(a=phrases[0], b=phrases[1])
    return phrases[0] if phrases else NOTHING


def lengthened(text: str, rng: np.random.Generator) -> str:
    """The caption with 2 to 14 phrases that say nothing of what is drawn, behind it or in front of it."""
    extra = ", ".join(rng.choice(LONG, int(rng.integers(2, 15)), replace=False))
    return f"{text}, {extra}" if rng.random() < 0.7 else f"{extra}, {text}"


def draw_caption(rng: np.random.Generator, *nouns: str, long: bool = False, plain: bool = False) -> Caption:
    """A caption of these nouns, left to right, in words and descriptions that captions hold.

    A long one stands among phrases; a plain one names its nouns by words, in a template.
    """
    style, background = str(rng.choice(STYLES)), str(rng.choice(list(BACKGROUNDS)))
    described = 0 if plain else DESCRIBED if len(nouns) == 1 else DESCRIBED_OF_PAIRS
    name = lambda n: str(rng.choice(NOUNS[n].descriptions)) if rng.random() < described else with_article(str(rng.choice(NOUNS[n].words)))
    phrases = [name(n) for n in nouns]
    kind = "templates" if plain else rng.choice(list(SHARES), p=list(SHARES.values()))
    template = str(rng.choice({"templates": TEMPLATES, "natural": NATURAL, "open": OPEN}[kind]))
    text = template.format(subject=subject(*phrases, joint=str(rng.choice(JOINTS + TURNED))), style=style, background=background)
    if long:
        text = lengthened(text, rng)
    return Caption(text, nouns, style if "{style}" in template else "", background if "{background}" in template else "")
