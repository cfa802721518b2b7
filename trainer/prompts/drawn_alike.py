"""Words that the base draws as it draws a concept, found by its own predictions, so that they are erased with it.

A text encoder tells "chicken" from "hen" and holds "doctor" near "nurse"; what a prompt is drawn as, the denoiser alone knows. Asked
about are words that stand near the concept's in an outline of things (things.py), and those of the encoder's own vocabulary that are
nearest by their tokens; of all these the ones nearest by what the encoder makes of a prompt of theirs. Those that the base sees the
concept for (eyes.py) are found.
"""

import re
from dataclasses import replace
from itertools import zip_longest

import torch

from host.backbone import Backbone
from unhype.checkpoint import load_eraser

from ..run import processes
from ..run.progress import Progress
from ..settings.fields import Config
from .alike import Pieces
from .concepts import Erase
from .doubts import forms
from .eyes import KEPT, LETTERS, PROMPTS, STEPS, Eyes
from .templates import fill, split_templates
from .things import things
from .words import BESIDE, SUPERORDINATES

WHAT = "looking for words that are drawn alike"
READ, NEAR = 4096, 256  # words around a concept's own in the outline, and those whose tokens are nearest to its own
AROUND, CLOSE = 128, 256  # those of them that are looked at: nearest in the outline, and of the rest by what the encoder makes of them
TOGETHER = 256  # prompts that are encoded at a time
GLANCED, LOOKED = 0.5, 14  # the least share on one latent for a look at all, and for how many of those above that is counted to be so
# Words that emoji-open draws as the concept in each of four pictures have larger shares, such as it draws so in half of them lower ones,
# and other nouns of its own, doctor and nurse, hen and rooster, lie far below (tests/test_drawn_alike.py).
ALIKE = 0.8


def with_found(config: Config, backbone: Backbone, progress=print) -> Config:
    """The config whose concepts have the words that the base draws alike, each concept with a line that says so."""
    erased, given = config.erased(), former(config)
    new = [concept for concept in erased if concept.name not in given]
    if not config.find_words or not new:
        return config
    vocabulary, barred = [w for w in backbone.vocabulary() if w.islower() and len(w) > 2], not_found(config)
    shares, meant = [], Meanings(backbone)
    with Progress(WHAT, len(new), unit="concept", say=progress) as bar:
        for concept in new:
            words = asked_about(concept.words, barred, vocabulary, backbone)
            words = [*words[:AROUND], *meant.nearest(concept.name, words[AROUND:])[:CLOSE]]
            words = [word for word in words if not {*concept.words} & {*backbone.pieces(word)}]  # "sheepdog" is read as dog already
            shares.append(simplest(looked_at(config, backbone, concept, words), backbone.pieces))
            bar.advance()
    found = dict(zip((c.name for c in new), chosen(shares, config.find_words)))
    for name, words in found.items():
        if words:
            progress(
                f"{name!r}: the model draws the same for {', '.join(words)}: these are erased too. To keep one of them, add it to retain"
            )
    entries = [f"{', '.join([*c.words, *found.get(c.name, [])])} -> {c.mapping}" for c in erased]
    return replace(config, erase=entries)


def former(config: Config) -> set[str]:
    """Names of concepts that an eraser which is gone on from has already: their words were found when they were new."""
    if not config.add_to:
        return set()
    return {c.name for c in load_eraser(config.add_to).concepts} - {*config.remove}


def not_found(config: Config) -> set[str]:
    """Words, in every form, that are no candidates: what is erased, mapped to or retained, wider words, and what every prompt holds."""
    erased = config.erased()
    names = [*(w for e in erased for w in e.words), *config.retain, *SUPERORDINATES, *BESIDE]
    texts = [*(e.mapping for e in erased), *config.retain_prompts, *(t for e in erased for t in e.templates), *config.templates]
    return {form for name in (*names, *re.findall(r"\w+", " ".join(texts))) for form in forms(name)}


def asked_about(own: tuple[str, ...], barred: set[str], vocabulary: list[str], backbone: Backbone) -> list[str]:
    """Words near a concept's own in the outline, and things of the vocabulary whose tokens are near; any words where it is no thing."""
    lines = things().lines_of
    known = [w for w in vocabulary if w in lines] if any(w.lower() in lines for w in own) else vocabulary
    near = backbone.near_words([*own], NEAR, known)
    sources = ([things().related(word, READ) for word in own], [near[word] for word in own])
    return list(dict.fromkeys(word for rows in sources for word in candidates(own, in_turns(rows), barred)[:READ]))


class Meanings:
    """What the text encoder makes of "a cat" for a word, each read once."""

    def __init__(self, backbone: Backbone):
        self.backbone, self.read = backbone, dict[str, torch.Tensor]()

    def nearest(self, name: str, words: list[str]) -> list[str]:
        new = [word for word in dict.fromkeys([name, *words]) if word not in self.read]
        for some in (new[i : i + TOGETHER] for i in range(0, len(new), TOGETHER)):
            self.read |= dict(zip(some, self.backbone.encode([fill("a {}", word) for word in some]).meaning()))
        meant = torch.stack([self.read[word] for word in (name, *words)])
        cosine = processes.from_first(torch.nn.functional.cosine_similarity(meant[1:], meant[:1]))
        return [words[i] for i in cosine.argsort(descending=True, stable=True).tolist()]


def candidates(own: tuple[str, ...], near: list[str], barred: set[str]) -> list[str]:
    """Of the words near a concept's own those that may be found: none that holds what is barred, and no "catsofinstagram"."""
    tags = tuple(f"{word.lower()}s" for word in own)
    return [word for word in dict.fromkeys(near) if barred.isdisjoint(parts(word)) and not word.startswith(tags)]


def parts(word: str) -> set[str]:
    return {word, *re.split("[ -]", word)}


def in_turns(rows: list[list[str]]) -> list[str]:
    """The first of every row, the second of every row, and so on."""
    return [word for turn in zip_longest(*rows) for word in turn if word]


def chosen(shares: list[dict[str, float]], most: int) -> list[list[str]]:
    """Of every concept the words that are drawn as it, most alike first: those that it has the higher share of, in their shortest form."""
    best: dict[str, float] = {}
    for own in shares:
        for word, share in own.items():
            best[word] = max(share, best.get(word, share))
    found: list[list[str]] = []
    taken: set[str] = set()
    for own in shares:
        alike = {word: share for word, share in own.items() if share > ALIKE and share == best[word]}
        words: list[str] = []
        for word in sorted(alike, key=lambda word: (-alike[word], word)):
            if not forms(word) & taken and len(words) < most:
                words.append(min(forms(word) & alike.keys(), key=len))
                taken |= forms(word) | forms(words[-1])
        found.append(words)
    return found


def looked_at(config: Config, backbone: Backbone, concept: Erase, words: list[str]) -> dict[str, float]:
    """The share of those of `words` that a glance does not rule out."""
    if not words:
        return {}
    prompts = drawn_in(concept)
    eyes = Eyes(config, backbone, prompts, concept)
    words = [w for w, share in zip(words, eyes.shares(words, 1, 1)) if share > GLANCED]
    return dict(zip(words, eyes.shares(words, len(prompts), len(KEPT)))) if words else {}


def simplest(shares: dict[str, float], pieces: Pieces) -> dict[str, float]:
    """Those that hold no other one that is drawn alike, as "true toad" and "bloodhound" do."""
    alike = {word for word, share in shares.items() if share > ALIKE}
    return {word: share for word, share in shares.items() if not ((parts(word) | {*pieces(word)}) - {word}) & alike}


def drawn_in(concept: Erase) -> list[str]:
    """The templates of one thing that a concept is drawn in."""
    single = split_templates(concept.templates)[0]
    return single[:: max(1, len(single) // PROMPTS)][:PROMPTS]


def asked_for(config: Config) -> int:
    """How many rows the denoiser is asked for, about: of the words near a concept some are looked at closer."""
    rows = STEPS * (1 if config.cfg == 1 else 2) + (2 + LETTERS + LOOKED) * len(KEPT)
    return (config.find_words > 0) * sum(len(drawn_in(concept)) * rows + AROUND + CLOSE for concept in config.erased())
