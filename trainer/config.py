"""Every setting of a training: dataclass <- YAML <- command line, each field checked."""

import argparse
import functools
import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from unhype.hypernetwork import Shape
from unhype.layers import Family, Layer

from .extend import inherited
from .prompts.concepts import SUGGEST, Erase, parse_erase
from .prompts.templates import TEMPLATES
from .prompts.words import MAPPINGS, RETAIN


class ConfigError(ValueError):
    """A setting that cannot be right; the message says what to write instead."""


@dataclass
class Config:
    base: str = ""  # a checkpoint's or diffusion model's path or name, or "demo", "demo-flux"
    text_encoders: list = field(default_factory=list)  # files, where the base holds none (Flux: clip_l and t5xxl)
    vae: str = ""  # a file, where the base holds none
    # "cat, kitty -> forest": what is forgotten, in one or more words -> what is drawn instead; "cat -> ?animal" and
    # "cat" let it be suggested
    erase: list = field(default_factory=list)
    out: str = ""  # the eraser file to write
    add_to: str = ""  # an eraser file to go on from: what it erases stays erased
    remove: list = field(default_factory=list)  # concepts of that file which are to be left alone from now on

    # prompts
    templates: list = field(default_factory=lambda: list(TEMPLATES))  # {} is the concept, {other} one that stays, {a|b} every alternative
    templates_for: dict = field(default_factory=dict)  # concept -> its own templates in place of these
    retain: list = field(default_factory=lambda: list(RETAIN))  # concepts that must survive, put into the templates
    retain_prompts: list = field(default_factory=list)  # whole prompts that must survive
    neighbours: int = 8  # of each concept, the nearest of trainer/prompts/words.py, added to retain
    clip_skips: list = field(default_factory=list)  # text encoder layers that users may choose, 1 the last; empty: as the family's

    # z_t: the base model's own pictures of the target prompts
    size: str = ""  # empty: as the family's (unhype/layers.py), like cfg at 0
    pair_size: str = ""  # for templates with {other}; empty: as size
    pictures: int = 32  # of target prompts, as many of pairs, half as many of anchors; 4 of a concept at the least
    pair_prompts: int = 48  # target prompts with {other} of all concepts; 16 of a concept at the least
    sampling_steps: int = 20
    cfg: float = 0.0
    kept_steps: int = 8  # noisy latents kept of each picture

    # the hypernetwork
    rank: int = 4
    hidden: int = 64
    queries: int = 4
    bottleneck: int = 12  # numbers between the trunk and a layer's factors in the file, so that it stays small; 0: as trained
    steps: int = 300  # S

    # training
    objective: str = "direct"  # or "trajectory", the paper's; "authors", both added
    iterations: int = 300  # on Flux a third of them are for anchors
    batch: int = 16
    learning_rate: float = 5e-4
    guidance: float = 1.0  # gamma: how far beyond the mapping concept the target lies
    pair_guidance: float = 0.0  # and beside a thing that stays, whose place what lies beyond would take as well
    retain_weight: float = 10.0
    retain_batch: int = 0  # 0: as the family's
    eta: float = 0.05  # trajectory: length of the simulated step
    autocast: str = "none"  # or "bf16"
    seed: int = 0

    # the verdict, on prompts that training does not see; a training that misses one of these ends with exit code 3
    least_erased: float = 0.5  # of the wanted change, of every concept; 0: no bar
    most_misses: float = 0.1  # of prompts that name a concept, on which its switch does not fire
    most_false_alarms: float = 0.1  # of prompts that do not, on which it does

    # along the way
    preview_every: int = 100  # 0: no previews
    save_every: int = 100

    def erased(self) -> list[Erase]:
        """Every entry of `erase`, taken apart."""
        return [parse_erase(entry, self.templates_for, self.templates) for entry in self.erase]

    def size_of(self, pair: bool) -> tuple[int, int]:
        return tuple(int(n) for n in (self.pair_size if pair and self.pair_size else self.size).split("x"))

    def for_family(self, family: Family) -> "Config":
        """With the family's own size, cfg and clip skips where these are not given."""
        own = {"size": family.size, "cfg": family.cfg, "clip_skips": list(family.clip_skips), "retain_batch": family.retain_batch}
        return replace(self, **{name: getattr(self, name) or value for name, value in own.items()})

    def shape(self, layers: tuple[Layer, ...], pooled_dim: int, token_dim: int) -> Shape:
        """The hypernetwork's sizes, as it is trained, for these layers and text widths."""
        sizes = (self.rank, self.steps, self.hidden, self.queries, pooled_dim, token_dim, len(self.erase))
        return Shape(layers, *sizes)


POSITIVE = (
    "pictures",
    "pair_prompts",
    "sampling_steps",
    "kept_steps",
    "rank",
    "hidden",
    "queries",
    "steps",
    "iterations",
    "batch",
    "learning_rate",
    "eta",
    "save_every",
)
DEFAULT = Config()
EXPECTED = {
    list: "a list",
    dict: "a mapping of names to lists",
    str: "a text",
    int: "a whole number",
    float: "a number (0.002, not 2e-3)",
}
CHOICES = {"objective": ("direct", "trajectory", "authors"), "autocast": ("none", "bf16")}


def refuse(source: str, name: str, found, expected: str):
    raise ConfigError(f"{source}: {name} is {found!r}, expected {expected}")


def of_right_kinds(values: dict, source: str) -> dict:
    """The settings, whole numbers made floats where these are wanted; an unknown one is an error that names the nearest known."""
    import difflib

    known, result = [f.name for f in fields(Config)], {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(known)}"
            raise ConfigError(f"{source}: unknown setting {name!r}; {hint}")
        kind = type(getattr(DEFAULT, name))
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or kind is float and not math.isfinite(value):
            refuse(source, name, value, EXPECTED[kind])
        if kind is list and not all(isinstance(v, int if name == "clip_skips" else str) for v in value):
            refuse(source, name, value, "a list of " + ("whole numbers" if name == "clip_skips" else "texts"))
        if kind is dict and not all(isinstance(k, str) and isinstance(v, list) for k, v in value.items()):
            refuse(source, name, value, EXPECTED[kind])
        result[name] = value
    return result


def check(config: Config, source: str) -> Config:
    """Raise ConfigError, naming source and field, unless the settings, each of its right kind, make sense together."""
    wrong = functools.partial(refuse, source)
    for name in POSITIVE:
        if not getattr(config, name) > 0:
            wrong(name, getattr(config, name), "a number above 0")
    for name in ("guidance", "pair_guidance", "retain_weight", "preview_every", "seed", "neighbours", "cfg", "bottleneck", "retain_batch"):
        if getattr(config, name) < 0:
            wrong(name, getattr(config, name), "0 or more")
    for name, choices in CHOICES.items():
        if getattr(config, name) not in choices:
            wrong(name, getattr(config, name), " or ".join(choices))
    for name in ("least_erased", "most_misses", "most_false_alarms"):
        if not 0 <= getattr(config, name) <= 1:
            wrong(name, getattr(config, name), "a share from 0 to 1")
    if not config.base:
        wrong("base", config.base, 'a checkpoint\'s path or name, or "demo"')
    if not config.out.endswith(".safetensors"):
        wrong("out", config.out, "a file name that ends in .safetensors")
    if not config.erase:
        wrong("erase", config.erase, 'at least one entry like "cat -> forest"')
    check_concepts(config, wrong)
    if min(config.clip_skips, default=1) < 1:
        wrong("clip_skips", config.clip_skips, "layers counted from the last, 1 or more")
    for name in ("size", "pair_size"):
        value = getattr(config, name)
        if value and not re.fullmatch(r"\d+x\d+", value) or value and any(int(n) % 8 or int(n) < 16 for n in value.split("x")):
            wrong(name, value, 'width and height in pixels, multiples of 8, like "512x512"')
    if config.kept_steps > config.sampling_steps:
        wrong("kept_steps", config.kept_steps, f"at most sampling_steps, which is {config.sampling_steps}")
    return config


def check_concepts(config: Config, wrong) -> None:
    """The part of `check` about what is erased and what is retained."""
    for entry in config.erase:
        words, arrow, mapping = (p.strip() for p in entry.partition("->"))
        if not all(w.strip() for w in words.split(",")) or (arrow and not mapping) or "->" in mapping:
            wrong("erase", entry, 'a target and a mapping concept, like "cat -> forest", or "cat, kitty -> forest"')
        if mapping.startswith(SUGGEST) and (category := mapping[1:].strip()) and category not in MAPPINGS:
            wrong("erase", entry, f"a mapping concept or one of {', '.join(SUGGEST + c for c in MAPPINGS)}")
        if mapping.lower() in [w.strip().lower() for w in words.split(",")]:
            wrong("erase", entry, "a mapping concept that is not the target")
    erased = config.erased()
    targets = [w.lower() for e in erased for w in e.words]
    if len(set(targets)) < len(targets):
        wrong("erase", config.erase, "each target once")
    for name in config.retain:
        if name.strip().lower() in targets or not name.strip():
            wrong("retain", name, "concepts that are not erased: take it out of retain or out of erase")
    for prompt in config.retain_prompts:
        if any(re.search(rf"\b{re.escape(t)}\b", prompt.lower()) for t in targets):
            wrong("retain_prompts", prompt, "prompts that do not name a target: take it out, or take the target out of erase")
    for concept in erased:
        if concept.mapping.lower() in targets:
            wrong("erase", config.erase, f"mapping concepts that are not erased themselves ({concept.mapping} is)")
    for name in config.templates_for:
        if name not in {e.name for e in erased}:
            wrong("templates_for", name, "a concept of erase, by its first word")
    if config.remove and not config.add_to:
        wrong("remove", config.remove, "an eraser file in add_to that these concepts are removed from")
    for name, templates in (("templates", config.templates), *(("templates_for", t) for t in config.templates_for.values())):
        if not all(isinstance(t, str) and "{}" in t for t in templates) or not any("{other}" not in t for t in templates):
            wrong(name, templates, "texts with {} where the concept goes, at least one of them without {other}")


def from_mapping(values: dict, source: str) -> Config:
    """A checked Config."""
    config = Config(**of_right_kinds(values, source))
    if "retain" not in values:
        # The built-in list stands for "everything else": what is erased is simply not part of it.
        erased = {word for e in config.erase for target in parse_erase(e).words for word in target.lower().split()}
        config.retain = [name for name in config.retain if not erased & set(name.split())]
    return check(config, source)


def read_yaml(path: str | Path) -> dict:
    import yaml

    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML ({error})") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected settings like 'base: demo', found {type(values).__name__}")
    return values


def parse_arguments(argv: list[str], description: str) -> tuple[Config, argparse.Namespace]:
    """Settings from --config, overridden by options of the same names; and --comfyui, --resume."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="YAML file of settings")
    parser.add_argument("--comfyui", help="folder of the ComfyUI install (default: COMFYUI_PATH, or the one this pack lies in)")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and whether it fits, without loading anything")
    parser.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    for f in fields(Config):
        default = getattr(DEFAULT, f.name)
        option = "--" + f.name.replace("_", "-")
        if isinstance(default, dict):
            continue  # in YAML only
        if isinstance(default, list):
            parser.add_argument(option, dest=f.name, nargs="+", action="extend", type=int if f.name == "clip_skips" else str)
        else:
            parser.add_argument(option, dest=f.name, type=type(default))
    arguments = parser.parse_args(argv)
    given = {f.name: value for f in fields(Config) if (value := getattr(arguments, f.name, None)) is not None}
    values = {**(read_yaml(arguments.config) if arguments.config else {}), **given}
    source = arguments.config or "command line"
    if arguments.config and given:
        source += " with " + " ".join("--" + name.replace("_", "-") for name in given)
    values = of_right_kinds(values, source)
    if values.get("add_to"):
        values = inherited(values)
    return from_mapping(values, source), arguments
