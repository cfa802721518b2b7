"""Every setting of a training: its default, what --help says of it, and the numbers that it takes."""

from copy import copy
from dataclasses import dataclass, field, replace

from unhype.description import LIMITS, MAX_BOTTLENECK
from unhype.hypernetwork import Shape
from unhype.layers import Family, Layer
from unhype.text import shown

from ..prompts.concepts import Erase, parse_erase
from ..prompts.templates import TEMPLATES
from ..prompts.words import RETAIN

SEED = 2**63 - 1
# Width of the switch's hidden layer up to TEN concepts, the power of their number that it grows by, and its most.
LOOK, TEN, LOOK_GROWTH, WIDEST = 8, 10, 1.5, 512
REWRITE = 4  # rank of the maps of token states
REWRITING = "rewriting"  # the objective that trains no adapter
MOST_STEPS, GROWTH = 1000, 0.5  # for one concept, and by which power of their number they grow


class ConfigError(ValueError):
    """A setting that cannot be right; the message says what to write instead."""


def setting(default, words: str, most: float = 0, zero: bool = False, group: str = "", choices: tuple[str, ...] = ()):
    """A field of Config.

    Args:
        words: what it is, for --help and for whoever reads this file.
        most, zero: a number is above 0, or where `zero` is set 0 as well, and at most `most`.
        group: the heading of this field and those that follow it.
    """
    own = {"default_factory": lambda: copy(default)} if isinstance(default, (list, dict)) else {"default": default}
    return field(**own, metadata={"words": words, "most": most, "zero": zero, "group": group, "choices": choices})


@dataclass
class Config:
    base: str = setting("", 'a checkpoint\'s or diffusion model\'s path or name, or "demo", "demo-flux"', group="what is made of what")
    text_encoders: list = setting([], "files, where the base holds none (Flux: clip_l and t5xxl)")
    vae: str = setting("", "a file, where the base holds none")
    erase: list = setting(
        [],
        '"cat, kitty -> forest": what is forgotten, in one or more words -> what is drawn instead; "cat -> ?animal" and "cat" let it be '
        "suggested; or a TXT with an entry a line, or a CSV with the columns concept and mapping",
    )
    out: str = setting("", "the eraser file to write; a name without a folder goes to models/unhype of ComfyUI")
    add_to: str = setting("", "an eraser file to go on from: what it erases stays erased")
    remove: list = setting([], "concepts of that file which are to be left alone from now on")

    templates: list = setting(
        list(TEMPLATES), "sentences: {} is the concept, {other} one that stays, {a|b} every alternative", group="prompts"
    )
    templates_for: dict = setting({}, "concept -> its own templates in place of these")
    retain: list = setting(list(RETAIN), "concepts that must survive, put into the templates, or a TXT or CSV of them")
    retain_prompts: list = setting([], 'whole prompts that must survive, or a TXT with one a line, or a CSV with a column "prompt"')
    neighbours: int = setting(8, "of each concept, the nearest of trainer/prompts/words.py, added to retain", 1000, zero=True)
    find_words: int = setting(
        8, "of each concept at most, which the base draws as it draws the concept: found and erased too; 0: none", 1000, zero=True
    )
    clip_skips: list = setting([], "text encoder layers that users may choose, 1 the last; empty: as the family's", 24)

    size: str = setting(
        "",
        "of the pictures, like 512x512; empty: as the family's, like cfg at 0",
        group="the base model's own pictures of targets",
    )
    pair_size: str = setting("", "for templates with {other}; empty: as size")
    pictures: int = setting(32, "of target prompts, as many of pairs, half as many of anchors; 4 of a concept at the least", 100_000)
    pair_prompts: int = setting(48, "target prompts with {other} of all concepts; 16 of a concept at the least", 100_000)
    sampling_steps: int = setting(20, "of a picture", 1000)
    cfg: float = setting(0.0, "guidance that the pictures are sampled with; 0: as the family's", 100, zero=True)
    kept_steps: int = setting(8, "noisy latents kept of each picture", 1000)

    rank: int = setting(4, "of the LoRA weights", LIMITS["rank"], group="the hypernetwork")
    hidden: int = setting(64, "width of its trunk", LIMITS["hidden"])
    queries: int = setting(4, "with which it looks at a prompt's tokens", LIMITS["queries"])
    bottleneck: int = setting(
        12, "numbers between the trunk and a layer's factors in the file, so that it stays small; 0: as trained", MAX_BOTTLENECK, zero=True
    )
    steps: int = setting(300, "S, on the way from no adapter to the whole one", LIMITS["steps"])

    objective: str = setting(
        "direct",
        '"trajectory" is the paper\'s, "authors" both added; "rewriting" trains no adapter: an eraser in a minute, on Stable Diffusion',
        group="training",
        choices=("direct", "trajectory", "authors", REWRITING),
    )
    iterations: int = setting(
        0, "steps of the training, on Flux a third of them for anchors; 0: until held-out prompts gain no more", 10_000_000, zero=True
    )
    batch: int = setting(16, "rows of a step", 4096)
    learning_rate: float = setting(0.0, "at its highest; 0: found on the base by a short test", 1, zero=True)
    guidance: float = setting(1.0, "gamma: how far beyond the mapping concept the target lies", 100, zero=True)
    pair_guidance: float = setting(0.0, "and beside a thing that stays, whose place what lies beyond would take as well", 100, zero=True)
    retain_weight: float = setting(10.0, "of the loss that keeps safe prompts as they are", 1e6, zero=True)
    retain_batch: int = setting(0, "safe prompts of a step; 0: as the family's", 65_536, zero=True)
    eta: float = setting(0.05, "trajectory: length of the simulated step", 10)
    autocast: str = setting("none", "precision of a step", choices=("none", "bf16"))
    seed: int = setting(0, "of everything that is drawn by lot", SEED, zero=True)

    least_erased: float = setting(
        0.5,
        "of the wanted change, of every concept, on prompts that training does not see; less ends with exit code 3; 0: no bar",
        1,
        zero=True,
        group="the verdict",
    )
    most_misses: float = setting(0.1, "share of prompts that name a concept, on which its switch does not fire", 1, zero=True)
    most_false_alarms: float = setting(0.1, "share of prompts that name none, on which it does", 1, zero=True)

    most_leaked: float = setting(
        0.1,
        "how far other prompts may move with the switch forced on, as a share of an erasure, before a training whose iterations are "
        "not given ends",
        1,
        zero=True,
    )

    preview_every: int = setting(100, "iterations; 0: no previews", 10_000_000, zero=True, group="along the way")
    save_every: int = setting(100, "iterations", 10_000_000)
    look_every: int = setting(
        0,
        "iterations between two looks at held-out prompts; 0: none where iterations and learning_rate are given, otherwise so many "
        "that looks take 3 % of the time",
        10_000_000,
        zero=True,
    )

    def erased(self) -> list[Erase]:
        """Every entry of `erase`, taken apart."""
        return [parse_erase(entry, self.templates_for, self.templates) for entry in self.erase]

    def most_steps(self) -> int:
        """The steps of a training, the most of them where none are given."""
        if not self.trains():
            return 0
        return self.iterations or round(MOST_STEPS * len(self.erase) ** GROWTH)

    def finds(self) -> bool:
        """Whether a training looks at held-out prompts on the way: to find settings, or because it is asked to."""
        return self.trains() and (not (self.iterations and self.learning_rate) or self.look_every > 0)

    def trains(self) -> bool:
        """Whether there is an adapter to train, or token states are rewritten alone."""
        return self.objective != REWRITING

    def size_of(self, pair: bool) -> tuple[int, int]:
        return tuple(int(n) for n in (self.pair_size if pair and self.pair_size else self.size).split("x"))

    def for_family(self, family: Family) -> "Config":
        """With the family's own size, cfg and clip skips where these are not given."""
        own = {"size": family.size, "cfg": family.cfg, "clip_skips": list(family.clip_skips), "retain_batch": family.retain_batch}
        return replace(self, **{name: getattr(self, name) or value for name, value in own.items()})

    def shape(self, layers: tuple[Layer, ...], pooled_dim: int, token_dim: int, family: Family | None = None) -> Shape:
        """The hypernetwork's sizes, as it is trained, for these layers and text widths; without a family it rewrites nothing."""
        rank, hidden, queries = (self.rank, self.hidden, self.queries) if self.trains() else (0, 1, 1)
        sizes = (rank, self.steps, hidden, queries, pooled_dim, token_dim, len(self.erase))
        look = min(WIDEST, round(LOOK * max(1, len(self.erase) / TEN) ** LOOK_GROWTH))
        return Shape(layers, *sizes, look=look, rewrite=REWRITE if family and self.rewrites(family) else 0)

    def rewrites(self, family: Family) -> bool:
        """Whether token states are rewritten: where the adapted layers read nothing else."""
        return self.objective in ("direct", REWRITING) and not family.anchors


DEFAULT = Config()


def refuse(source: str, name: str, found, expected: str):
    raise ConfigError(f"{source}: {name} is {shown(repr(found), 200)}, expected {expected}")
