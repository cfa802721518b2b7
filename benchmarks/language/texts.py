"""Texts that name a concept where no given one does: in captions, long prompts, lists of tags, behind a no, by other words.

All are built from the captions and prompts that the benchmark is given, of which a training has seen none.
"""

import random
import re
from dataclasses import dataclass
from pathlib import Path

from .concepts import Concept, with_article

PLACES = (0, 0.25, 0.5, 0.75, 1)  # of a concept in a long text: from its beginning to its end
WORDS = 48, 150  # of a long prompt: about 60 to 200 tokens
SUBJECT = re.compile(r"^(?:an?|the|one) (?:\w+ )?(?:man|woman|person|boy|girl|child|kid|guy|lady)\b", re.IGNORECASE)
IN_CAPTIONS = {
    "thing": ("a photo of {a}", "{a} in front of a brick wall", "{caption} next to {a}", "{subject}"),
    "person": ("a photo of {x}", "{x} waits for a train", "{caption}, with {x}", "{subject}"),
    "style": ("{caption} in the style of {x}", "a painting of {caption} by {x}", "{caption}, {x} style"),
    "matter": ("a photo of {x}", "{caption} with {x}", "{caption}, {x}"),
}
NEGATED = ("{caption} without {a}", "no {x}, {caption}", "{caption}, not {a} in sight")


@dataclass(frozen=True)
class Made:
    """A text made for a concept."""

    text: str
    concept: str
    what: str  # captions, long, tags, negated, homonym, synonym or near
    phrase: str = ""  # the homonym, synonym or near thing, or the place of the concept in the text


def lines(path: Path) -> list[str]:
    """A file's texts, one a line, each once."""
    return list(dict.fromkeys(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()))


def tags(prompt: str) -> list[str]:
    """The parts of a comma-separated prompt; none where it is not one."""
    parts = [part.strip() for part in prompt.split(",") if part.strip()]
    return parts if len(parts) >= 5 else []


def framed(frame: str, name: str, phrase: str, caption: str) -> str:
    """A frame with a concept and a caption in it; "{subject}" is the caption with the concept in its first person's place."""
    if frame == "{subject}":
        rest = SUBJECT.sub("", caption)
        return phrase[0].upper() + phrase[1:] + (rest if rest != caption else f", {caption}")
    bare = caption.rstrip(" .")
    lowered = bare[0].lower() + bare[1:]
    return frame.format(x=name, a=phrase, caption=lowered if not frame.startswith("{caption}") else bare)


class Maker:
    """Makes texts of a concept, by lot, out of those that mention it not."""

    def __init__(self, concept: Concept, captions: list[str], prompts: list[str], seed: int):
        self.concept, self.rng = concept, random.Random(f"{concept.name} {seed}")
        # A few hundred are enough to draw from, and a hundred concepts need not look at all.
        self.captions = [c for c in self.some(captions, 400) if concept.side(c) == "none"]
        self.people = [c for c in self.captions if SUBJECT.match(c)] or self.captions
        self.prompts = [p for p in self.some(prompts, 400) if concept.side(p) == "none" and tags(p)]
        self.named = [c for c in self.some(captions, 4000) if concept.side(c) == "named"]

    def some(self, texts: list[str], count: int) -> list[str]:
        return self.rng.sample(texts, min(count, len(texts)))

    def in_caption(self, frame: str, name: str = "", phrase: str = "") -> str:
        name = name or self.concept.name
        return framed(frame, name, phrase or self.concept.phrase, self.rng.choice(self.people if frame == "{subject}" else self.captions))

    def made(self, count: int) -> list[Made]:
        frames = IN_CAPTIONS[self.concept.kind]
        return [Made(self.in_caption(frames[i % len(frames)]), self.concept.name, "captions") for i in range(count)]

    def long(self, count: int) -> list[Made]:
        """Captions joined around a sentence that names the concept, at every place in turn."""
        texts = []
        for _ in range(count // len(PLACES)):
            sentence = self.rng.choice(self.named) if self.named else self.made(4)[self.rng.randrange(4)].text
            wanted, around = self.rng.randint(*WORDS) - len(sentence.split()), []
            while sum(len(c.split()) for c in around) < wanted:
                around.append(self.rng.choice(self.captions).rstrip(" ."))
            for place in PLACES:
                at = round(place * len(around))
                text = ". ".join([*around[:at], sentence.rstrip(" ."), *around[at:]])
                texts.append(Made(text, self.concept.name, "long", str(place)))
        return texts

    def tagged(self, count: int) -> list[Made]:
        """Prompts of tags with the concept as one more, at every place in turn."""
        texts = []
        for _ in range(count // len(PLACES)):
            parts = tags(self.rng.choice(self.prompts))
            tag = self.rng.choice((self.concept.name, self.concept.phrase))
            for place in PLACES:
                at = round(place * len(parts))
                texts.append(Made(", ".join([*parts[:at], tag, *parts[at:]]), self.concept.name, "tags", str(place)))
        return texts

    def negated(self, count: int) -> list[Made]:
        return [Made(self.in_caption(NEGATED[i % len(NEGATED)]), self.concept.name, "negated") for i in range(count)]

    def others(self, count: int) -> list[Made]:
        """Homonyms, synonyms and near things, `count` texts of each, framed as the concept is."""
        frames = IN_CAPTIONS[self.concept.kind]
        phrases = [("homonym", h) for h in self.concept.homonyms if self.concept.side(h) == "homonym"]
        phrases += [("synonym", s) for s in self.concept.synonyms] + [("near", n) for n in self.concept.near]
        article = self.concept.kind == "thing"
        return [
            Made(self.in_caption(frames[i % len(frames)], p, with_article(p) if article else p), self.concept.name, what, p)
            for what, p in phrases
            for i in range(count)
        ]


@dataclass(frozen=True)
class Scale:
    """How many texts are made of a concept."""

    captions: int  # that name it, the given ones among them
    long: int  # and as many of tags
    others: int  # of every homonym, synonym and near thing; 0: none, and nothing behind a no

    def texts(self, concept: Concept, captions: list[str], prompts: list[str], named: int, seed: int) -> list[Made]:
        """The texts of a concept that `named` of the captions name."""
        maker = Maker(concept, captions, prompts, seed)
        texts = maker.made(max(0, self.captions - named)) + maker.long(self.long) + maker.tagged(self.long)
        return texts + (maker.negated(self.long // 4) + maker.others(self.others) if self.others else [])
