"""Near and far in the text encoder's embedding space: near neighbours to retain, far concepts to map to."""

import dataclasses
import random
from collections.abc import Sequence
from typing import NamedTuple

import torch

from host.backbone import Backbone

from ..config import Config, ConfigError
from . import drawn_alike, unfamiliar
from .concepts import SUGGEST, Erase, holds
from .doubts import forms
from .templates import fill, split_templates
from .words import BESIDE, MAPPINGS, SUPERORDINATES, VOCABULARY
from .written import plural

SAME = 0.8  # nearer than this, a word is taken for another word of the concept: it is neither retained nor mapped to
FAR = 0.5  # nearer than this, a word may mean the concept
PROBES = 3  # templates that a name is read in


class Read(NamedTuple):
    """Names as the text encoder reads them: their embeddings by row, and less the vocabulary's mean, of unit length, (N, P)."""

    place: dict[str, int]
    raw: torch.Tensor
    unit: torch.Tensor

    def rows(self, names: list[str], unit: bool = False) -> torch.Tensor:
        return (self.unit if unit else self.raw)[[self.place[name] for name in names]]


def embed(backbone: Backbone, templates: list[str], names: list[str], others: list[str] = ()) -> Read:
    """Names, the vocabulary and others in a few templates; the mean is that of names and vocabulary."""
    single = split_templates(templates)[0]
    probes = single[:: max(1, len(single) // PROBES)][:PROBES]
    known = list(dict.fromkeys([*names, *VOCABULARY]))
    every = list(dict.fromkeys([*known, *others]))
    raw = sum(backbone.encode([fill(t, n) for n in every]).meaning() for t in probes)
    unit = torch.nn.functional.normalize(raw - raw[: len(known)].mean(0), dim=1)
    return Read({name: row for row, name in enumerate(every)}, raw, unit)


class Apart(NamedTuple):
    """Words of the text encoder's own vocabulary, by what they may mean."""

    drawn: list[str]  # by the seed, that mean none of the targets
    meant: list[Erase]  # the concepts with the encoder's words for the same, but for what is retained and for wider words ("animal")
    others: list[str]  # all that are not near a target
    named: list[Erase]  # the concepts as prompts name them: every third time in the plural, where that is the same to the encoder


def told_apart(backbone: Backbone, erased: list[Erase], retain: list[str], count: int, seed: int) -> Apart:
    """The vocabulary beside the targets, `count` words of it drawn.

    A word that may mean one, "automobile" for car, must not stand in a prompt that is called safe. FAR is careful for words that
    are drawn by lot; what people write holds "shooting" and "shot", which are no guns.
    """
    targets, known = [w for e in erased for w in e.words], backbone.vocabulary()
    words = random.Random(seed).sample(known, min(count, len(known)))
    near = backbone.near_words(targets, unfamiliar.NEAREST)
    kept = {form for name in (*retain, *SUPERORDINATES, *BESIDE) for form in forms(name)} | {*targets}
    more = {word: plural(word) for word in targets if word.islower()}
    names = sorted({name for own in near.values() for name in own} - kept | {*more.values()} - {*targets})
    pooled = backbone.encode([*targets, *words, *names]).meaning()
    vectors = torch.nn.functional.normalize(pooled - pooled[len(targets) : len(targets) + len(words)].mean(0), dim=1)
    meant = vectors[len(targets) :] @ vectors[: len(targets)].T
    apart = [w for w, cosine in zip(words, meant.amax(1).tolist()) if cosine < FAR]
    cosine = {(n, t): c for n, row in zip(names, meant[len(words) :].tolist()) for t, c in zip(targets, row)}
    own = [[n for w in e.words for n in near[w] if cosine.get((n, w), 0) >= unfamiliar.SYNONYM] for e in erased]
    alike = lambda word: word in more and cosine.get((more[word], word), 0) >= unfamiliar.SYNONYM
    near_one = {n for (n, _), c in cosine.items() if c >= FAR} | {*words} - {*apart}
    return Apart(
        apart,
        [dataclasses.replace(e, words=tuple(dict.fromkeys([*e.words, *more]))) for e, more in zip(erased, own)],
        [w for w in known if w not in near_one],
        [dataclasses.replace(e, words=tuple(n for w in e.words for n in ((w, w, more[w]) if alike(w) else (w,)))) for e in erased],
    )


def resolve(config: Config, backbone: Backbone, progress=print, draws: bool = False, known: Sequence[str] = ()) -> Config:
    """The config with every mapping concept chosen, each concept's near neighbours among what is retained, and where the backbone
    `draws` the words that it draws alike among the concept's own, `known` where they were found before.

    Raises ConfigError where no mapping concept of the category is far enough from a target. One that was given is
    taken, with a warning when it is near.
    """
    erased = config.erased()
    words = [w for e in erased for w in e.words]
    suggested = {e.name: MAPPINGS[e.mapping[1:].strip() or "object"] for e in erased if e.mapping.startswith(SUGGEST)}
    given = [e.mapping for e in erased if e.name not in suggested]
    parts = {part for w in words for part in w.lower().split()}
    candidates = [v for v in VOCABULARY if not parts & set(v.split())] if config.neighbours else []
    names = list(dict.fromkeys([*words, *given, *(m for ms in suggested.values() for m in ms), *candidates]))
    others = unfamiliar.Others.of(backbone, words, config.retain)
    read = embed(backbone, config.templates, names, others.names())
    near = lambda a, b: (read.unit[read.place[a]] @ read.unit[read.place[b]]).item()
    # What is near any word of any target may mean it.
    apart = [c for c in candidates if max(near(w, c) for w in words) < SAME]
    entries, added = [], []
    for concept in erased:
        mapping = concept.mapping
        if concept.name in suggested:
            far = [m for m in suggested[concept.name] if m not in words and max(near(w, m) for w in words) < SAME]
            if not far:
                raise ConfigError(
                    f"erase: every suggested mapping concept ({', '.join(suggested[concept.name])}) is near a target: "
                    f'write one, as in "{concept.name} -> forest"'
                )
            mapping = far[0]
            progress(f"{concept.name!r} is mapped to {mapping!r}")
        elif (cosine := near(concept.name, mapping)) > SAME:
            progress(f"warning: the mapping concept {mapping!r} is near {concept.name!r} ({cosine:.2f}): choose a farther one")
        entries.append(f"{', '.join(concept.words)} -> {mapping}")
    given = config = dataclasses.replace(config, erase=entries)
    if len(known) == len(entries) and all(map(holds, known, entries)):
        config = dataclasses.replace(given, erase=[*known])
    elif draws:
        config = drawn_alike.with_found(given, backbone, progress)
    alike = {form for e in config.erased() for w in e.words if w not in words for form in forms(w)}
    apart = [c for c in apart if c not in alike]
    for concept in erased:
        added += sorted(apart, key=lambda c: -max(near(w, c) for w in concept.words))[: config.neighbours]
    found = [n for n in dict.fromkeys(added) if n not in config.retain]
    if found:
        progress(f"near neighbours to retain: {', '.join(found)}")
    config = dataclasses.replace(config, retain=[*config.retain, *found])
    for line in unfamiliar.doubts(dataclasses.replace(given, retain=[*config.retain, *sorted(alike)]), backbone, others, read):
        progress(line)
    return config
