"""Whether settings, each of its right kind, make sense together; said from the settings alone."""

import functools
import json
import re
from dataclasses import asdict, fields

from unhype.description import LIMITS
from unhype.header import MAX_HEADER

from ..prompts.concepts import SUGGEST
from ..prompts.entries import fault
from ..prompts.words import MAPPINGS
from .fields import Config, refuse

LARGEST_SIDE = 8192


def range_fault(value: float, most: float, zero: bool) -> str:
    """What was expected of a number that is out of its range; empty where it is not."""
    low = "0 or more" if zero else "a number above 0"
    if value < 0 or not zero and value == 0:
        return low
    return f"{low} and at most {most:,}".replace(",", " ") if value > most else ""


def check(config: Config, source: str) -> Config:
    """Raise ConfigError, naming source and field, unless the settings, each of its right kind, make sense together."""
    wrong = functools.partial(refuse, source)
    for f in fields(Config):
        value, about = getattr(config, f.name), f.metadata
        if isinstance(value, (int, float)) and (expected := range_fault(value, about["most"], about["zero"])):
            wrong(f.name, value, expected)
        if about["choices"] and value not in about["choices"]:
            wrong(f.name, value, " or ".join(about["choices"]))
    if not config.base:
        wrong("base", config.base, 'a checkpoint\'s path or name, or "demo"')
    if not config.out.endswith(".safetensors"):
        wrong("out", config.out, "a file name that ends in .safetensors")
    if not config.erase:
        wrong("erase", config.erase, 'at least one entry like "cat -> forest"')
    if len(config.erase) > LIMITS["concepts"]:
        wrong("erase", f"{len(config.erase)} entries long", f"at most {LIMITS['concepts']}, which an eraser file holds")
    check_concepts(config, wrong)
    most = Config.__dataclass_fields__["clip_skips"].metadata["most"]
    if not all(1 <= skip <= most for skip in config.clip_skips):
        wrong("clip_skips", config.clip_skips, f"layers counted from the last, 1 or more and at most {most}")
    for name in ("size", "pair_size"):
        value = getattr(config, name)
        sides = [int(n) for n in value.split("x")] if re.fullmatch(r"\d{1,9}x\d{1,9}", value) else []
        if value and (not sides or any(n % 8 or not 16 <= n <= LARGEST_SIDE for n in sides)):
            wrong(name, value, f'width and height in pixels, multiples of 8 from 16 to {LARGEST_SIDE}, like "512x512"')
    if config.kept_steps > config.sampling_steps:
        wrong("kept_steps", config.kept_steps, f"at most sampling_steps, which is {config.sampling_steps}")
    described = len(json.dumps(json.dumps(asdict(config))))
    if described > MAX_HEADER // 2:
        longest = max(("retain_prompts", "retain", "templates", "erase"), key=lambda name: len(str(getattr(config, name))))
        wrong(longest, f"{described / 1e6:.0f} MB long", f"at most {MAX_HEADER / 2e6:.0f}, for it is written into the eraser. Shorten it")
    return config


def check_concepts(config: Config, wrong) -> None:
    """The part of `check` about what is erased and what is retained."""
    for entry, concept in zip(config.erase, config.erased()):
        if expected := fault(entry):
            wrong("erase", entry, expected)
        mapping = concept.mapping
        if mapping.startswith(SUGGEST) and (category := mapping[1:].strip()) and category not in MAPPINGS:
            wrong("erase", entry, f"a mapping concept or one of {', '.join(SUGGEST + c for c in MAPPINGS)}")
        if mapping.lower() in [w.lower() for w in concept.words]:
            wrong("erase", entry, "a mapping concept that is not the target")
    erased = config.erased()
    targets = [w.lower() for e in erased for w in e.words]
    if len(set(targets)) < len(targets):
        wrong("erase", config.erase, "each target once")
    for name in config.retain:
        if name.strip().lower() in targets or not name.strip():
            wrong("retain", name, "concepts that are not erased: take it out of retain or out of erase")
    naming = re.compile("|".join(rf"\b{re.escape(t)}\b" if t[0].isalnum() and t[-1].isalnum() else re.escape(t) for t in targets))
    named = [prompt for prompt in config.retain_prompts if naming.search(prompt.lower())]
    if named:
        more = f" (and {len(named) - 1} more do)" if named[1:] else ""
        wrong("retain_prompts", named[0], f"prompts that do not name a target{more}: take it out, or take the target out of erase")
    if not all(prompt.strip() for prompt in config.retain_prompts):
        wrong("retain_prompts", "", "prompts that say something; the empty prompt is kept anyway")
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
