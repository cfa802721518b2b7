"""Written text without and with a target in it: what the switch learns to tell apart, and what it is calibrated on.

A target stands where the text had another thing, among the tags of other prompts, and in long prompts that several texts are
joined to; what it was put into is safe. Whole kinds of text are kept for the calibration, and nothing of theirs is fitted.
"""

import random
from dataclasses import dataclass

from .concepts import Erase
from .templates import fill
from .words import BESIDE, FUNCTION_WORDS, SIGNS, SUPERORDINATES
from .written import Written, mentioned, put

HELD_OUT = 5  # every fifth kind of text goes to the switch's calibration
TARGETS, FEWEST, MOST = 4000, 60, 400  # texts with a target in them, of all concepts together; of one, at the least and at the most
LONG, TAGS = 4, 4  # every fourth of them is a long prompt, every fourth a list of tags
WHOLE = 3  # two of so many lists of tags are a written one as a whole
SAFE = 300  # texts of every kind that is made without a target
RUN = (2, 12)  # function words
PARTS, WORDS = 8, 110  # of a long prompt, at the most
FEWEST_TAGS, MOST_TAGS, TAG = 3, 25, 4  # of a list of tags; words of a tag


@dataclass(frozen=True)
class Sentence:
    text: str
    named: int | None  # the concept that was put into it
    held_out: bool  # for the calibration
    also: tuple[int, ...] = ()  # other concepts that were


def sentences(erased: list[Erase], texts: tuple[Written, ...], retain: list[str], seed: int) -> list[Sentence]:
    """Every text as it is, long prompts and lists of tags made of them, and for every concept texts with one of its words."""
    held_out = held_out_kinds(texts)
    count = min(MOST, max(FEWEST, TARGETS // len(erased)))
    return [
        Sentence(text, named, out)
        for out, share in ((False, HELD_OUT - 1), (True, 1))
        for some in [[t for t in texts if (t.kind in held_out) == out]]
        for text, named in [
            *((t.text, None) for t in some),
            *((text, None) for text in safe(some, retain, SAFE * share // HELD_OUT, seed)),
            *((text, k) for k, e in enumerate(erased) for text in targets(e, some, count * share // HELD_OUT, seed + k)),
        ]
    ]


def held_out_kinds(texts: tuple[Written, ...]) -> set[str]:
    kinds = list(dict.fromkeys(t.kind for t in texts))
    return set(kinds[HELD_OUT - 1 :: HELD_OUT])


def safe(texts: list[Written], retain: list[str], count: int, seed: int) -> list[str]:
    """`count` long prompts, as many lists of tags, texts with a retained thing or a general word in a place of theirs, and
    runs of words that mean nothing by themselves."""
    rng = random.Random(seed)
    tags, placed = tags_of(texts), [t for t in texts if t.places]
    made = [long(parts(texts, rng), rng) for _ in range(count)] if texts else []
    made += [listed(some_tags(tags, rng)) for _ in range(count)] if len(tags) >= MOST_TAGS else []
    for names, share in (([*retain, *SUPERORDINATES], count), (BESIDE, count // 2)):
        made += [with_name(rng.choice(placed), rng.choice(names), rng) for _ in range(share) if placed]
    return made + [" ".join(rng.choices(FUNCTION_WORDS, k=rng.randint(*RUN))) for _ in range(count)]


def targets(concept: Erase, texts: list[Written], count: int, seed: int) -> list[str]:
    """`count` texts that name the concept by any of its words, made of those that do not mention it."""
    rng = random.Random(seed)
    free = [t for t, names in zip(texts, mentions([t.text for t in texts], [concept])) if not names]
    placed, tags = [t for t in free if t.places], tags_of(free)
    if not placed:
        return []
    long_ones, lists = count // LONG, count // TAGS if len(tags) >= MOST_TAGS else 0
    word = lambda number: concept.words[number % len(concept.words)]
    places = [(t, place) for t in placed for place in t.places]
    rng.shuffle(places)
    rounds = [put(t, place, word(i + turn)) for turn in range(len(concept.words)) for i, (t, place) in enumerate(places)]
    made = rounds[: count - long_ones - lists]
    for i in range(long_ones):
        others = parts(free, rng)
        made.append(long([*others, with_name(rng.choice(placed), word(i), rng)], rng))
    prompts = [t.text for t in free if t.text.count(",") > FEWEST_TAGS]
    for i in range(lists):
        tag = rng.choice((word(i), fill("a {}", word(i))))
        made.append(among_tags(rng.choice(prompts), tag, rng) if i % WHOLE else listed([*some_tags(tags, rng), tag], rng))
    return made


def among_tags(text: str, tag: str, rng: random.Random) -> str:
    """A whole list of tags, as it was written, with one more at any place; behind every third a sign that hardly any encoder reads."""
    tags = [t.strip() for t in text.split(",")]
    tags.insert(rng.randint(0, len(tags)), tag)
    return listed(tags) + (f" {rng.choice(SIGNS)}" if rng.random() < 1 / 3 else "")


def with_name(text: Written, name: str, rng: random.Random) -> str:
    return put(text, rng.choice(text.places), name)


def parts(texts: list[Written], rng: random.Random) -> list[str]:
    """Some texts of WORDS words together at the most."""
    found, words = [], 0
    for text in rng.choices(texts, k=rng.randint(1, PARTS)):
        words += len(text.text.split())
        if found and words > WORDS:
            break
        found.append(text.text)
    return found


def long(texts: list[str], rng: random.Random) -> str:
    """Texts in any order, as one prompt."""
    return rng.choice((" ", ", ", ". ")).join(t.strip(" .,") for t in rng.sample(texts, len(texts)))


def tags_of(texts: list[Written]) -> list[str]:
    """Every tag of the texts that are lists of them."""
    lists = [t.text for t in texts if t.text.count(",") > FEWEST_TAGS]
    return list(dict.fromkeys(tag for text in lists for t in text.split(",") if 0 < len((tag := t.strip()).split()) <= TAG))


def some_tags(tags: list[str], rng: random.Random) -> list[str]:
    return rng.sample(tags, rng.randint(FEWEST_TAGS, MOST_TAGS))


def listed(tags: list[str], rng: random.Random | None = None) -> str:
    """Tags as one prompt, in any order where a lot is given."""
    return ", ".join(rng.sample(tags, len(tags)) if rng else tags)


def mentions(texts: list[str], erased: list[Erase]) -> list[set[int]]:
    """The concepts that each text mentions by a word of theirs."""
    return mentioned(texts, [concept.words for concept in erased])
