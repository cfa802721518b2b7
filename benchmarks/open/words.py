"""What the comparison takes of a base: its words and descriptions, what is erased, what an eraser may be trained with, its judge.

Everything else here is of any such base: `emoji_open` is the one that it is for, `emoji_sd` the small one that it was
made on and that its quick run stands on.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.comparison import emoji, recipes
from demo.prompts import Judged
from evaluation.wording import Wording
from trainer.config import DEFAULT, Config

PAIR = (128, 64)
BOTTLENECK, TEN = 24, 10


@dataclass(frozen=True)
class Base:
    """A base with its words, and which of them are erased."""

    name: str  # as a config has it
    title: str
    wording: Wording
    load_judge: Callable
    mapping: str  # what every erased noun becomes
    order: tuple[str, ...]  # erased at once, in this order; single ones are the first
    tuning: tuple[str, ...]  # nouns that the methods' settings are chosen on
    unseen: dict[str, tuple[str, ...]] = field(default_factory=dict)  # words of a noun that no caption held
    short: dict[str, tuple[str, ...]] = field(default_factory=dict)  # descriptions without the name
    long: dict[str, str] = field(default_factory=dict)
    wider: dict[str, tuple[str, ...]] = field(default_factory=dict)  # word -> the nouns that it means
    natural: tuple[str, ...] = ()  # templates of captions as people write them
    cfg: float = 3.0

    def others(self, erased: list[str]) -> list[str]:
        return [n for n in self.wording.nouns if n not in (*erased, self.mapping)]

    def config(self, method: str, nouns: list[str], seed: int, out: Path, settings: dict) -> Config:
        """The demo's recipe on this base: erased by the nouns' names, and what the trainer finds by these, every other noun retained."""
        own = {
            "base": self.name,
            "find_words": DEFAULT.find_words,
            "erase": [f"{n} -> {self.mapping}" for n in nouns],
            "retain": self.others(nouns),
            "bottleneck": BOTTLENECK,
        }
        if method in recipes.HYPERNETWORKS and len(nouns) > TEN:  # each is asked for less often, and what they share swings
            own |= {"learning_rate": settings.get("learning_rate", 0.0) * (TEN / len(nouns)) ** 0.5, "hidden": 2 * DEFAULT.hidden}
        return recipes.demo_recipe(method, nouns, seed, out, settings, own)


def held_out(wording: Wording, number: int, *words_and_nouns: tuple[str, str], natural: tuple[str, ...] = ()) -> Judged:
    """The number-th caption of templates, style and backgrounds that no eraser is trained with, of (words, noun) pairs, left to right.

    With `natural` templates the second half of these takes part.
    """
    templates = wording.templates[len(wording.templates) // 2 :] + natural[len(natural) // 2 :]
    template = templates[number % len(templates)]
    background = wording.held_out_backgrounds[number // len(templates) % len(wording.held_out_backgrounds)]
    words, nouns = zip(*words_and_nouns)
    subject = several(wording, number, words)
    text = template.format(subject=subject, style=wording.held_out_style, background=background)
    return Judged(text, nouns, words)


def several(wording: Wording, number: int, words: tuple[str, ...]) -> str:
    """One to four things as a caption's subject, left to right."""
    first, *rest = [wording.with_article(w) for w in words]
    if len(rest) < 2:
        return wording.joints[number % len(wording.joints)].format(a=first, b=rest[0]) if rest else first
    return f"{', '.join([first, *rest[:-1]])} and {rest[-1]}"


def emoji_sd() -> Base:
    """The small base: a text encoder that knows 25 nouns; no descriptions, no unseen words."""
    from demo.judge import load_judge

    order = tuple(n for n in (*recipes.ORDER, *recipes.ORDER_REST))
    wider = {"fruit": ("apple",), "pastry": ("cake",), "amphibian": ("frog",)}
    return Base("demo", "emoji-sd", emoji.WORDING, load_judge, recipes.MAPPING, order, ("dog", "boat"), wider=wider)


def emoji_open() -> Base:
    """300 nouns and more through a frozen pretrained text encoder."""
    from demo.captions import BACKGROUNDS, NOTHING, caption
    from demo.open import captions, nouns
    from demo.open.judge import load_judge

    table = nouns.NOUNS
    wording = Wording(
        nouns={n: noun.words for n, noun in table.items()},
        templates=captions.TEMPLATES,
        styles=captions.STYLES,
        backgrounds=tuple(BACKGROUNDS),
        joints=captions.JOINTS[:3],
        nothing=NOTHING,
        caption=caption,
        with_article=captions.with_article,
        held_out=lambda number, *pairs: held_out(wording, number, *pairs, natural=captions.NATURAL),
        held_out_style="fluent",
        held_out_backgrounds=("green", "pink"),
    )
    names = list(table)
    # Groups in turn, so that any number of them is of every kind; every third stays, so that each has look-alikes that do.
    groups = {g: [n for n in names if table[n].group == g and n != "pine"] for g in dict.fromkeys(t.group for t in table.values())}
    turn = [ns[i] for i in range(max(map(len, groups.values()))) for ns in groups.values() if i < len(ns) and i % 3 < 2]
    single = ["cat", "car", "pizza", "guitar", "doctor", "rose"]
    order = [*(n for n in single if n in table), *(n for n in turn if n not in single)]
    tuning = [ns[i] for ns in groups.values() for i in range(2, len(ns), 3)][:2]
    return Base(
        "demo-open",
        "emoji-open",
        wording,
        load_judge,
        "pine",
        tuple(order),
        tuple(tuning),
        unseen={n: t.held_out_words for n, t in table.items()},
        short={n: (*t.descriptions, t.held_out_description) for n, t in table.items()},
        long={n: t.long_description for n, t in table.items()},
        wider=nouns.SUPERORDINATES,
        natural=captions.NATURAL,
    )
