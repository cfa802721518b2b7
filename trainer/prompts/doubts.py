"""What is doubtful about a training before an hour is spent on it: words on both sides, and a switch that cannot tell."""

import re

from ..settings.fields import Config
from .concepts import SUGGEST

MISSED = 0.03  # of held-out prompts, missed or fired on by mistake
GAP = 1.0  # between the lowest target and the highest safe score; a word that the encoder knows has 5 and more
SHOWN = 4  # names in a line


def forms(name: str) -> set[str]:
    """A name, its plural, and where it looks like one its singular."""
    name = name.lower().strip()
    found = {name, name + "s", name + "es"}
    if name.endswith("y"):
        found.add(name[:-1] + "ies")
    for ending, single in (("ies", "y"), ("es", ""), ("s", "")):
        if name.endswith(ending) and len(name) > len(ending) + 2:
            found.add(name.removesuffix(ending) + single)
    return found


def holds(text: str, name: str) -> bool:
    """Whether a name stands in a text as whole words, as it is or in the plural."""
    every = "|".join(map(re.escape, sorted(forms(name), key=len, reverse=True)))
    return re.search(rf"(?<!\w)({every})(?!\w)", text.lower()) is not None


def listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(n) for n in names[:SHOWN]) + more


def warn(lines: list[str], progress) -> None:
    for line in lines:
        progress(f"warning: {line}")


def on_both_sides(config: Config) -> list[str]:
    """A line for each erased word that stands in what is retained or mapped to, or holds what is retained."""
    erased, lines = config.erased(), []
    words = [w for e in erased for w in e.words]
    lower = {w.lower() for w in words}  # "hot dog" that is erased itself is not spared
    mappings = list(dict.fromkeys(e.mapping for e in erased if not e.mapping.startswith(SUGGEST)))
    for word in words:
        found = lambda names, word=word: [n for n in names if n.lower() not in lower and holds(n, word)]
        if names := found(config.retain):
            lines.append(
                f"retain keeps {listed(names)} with the erased word {word!r} inside: some prompts of {word!r} are missed then "
                "(4 % for 'hot dog' beside dog, 24 % for 'cable car' beside car). Leave it out, or look at the misses in the verdict"
            )
        if prompts := found(config.retain_prompts):
            lines.append(
                f"retain_prompts keeps {listed(prompts)} with the erased word {word!r} inside: the training is pulled both ways. "
                f"Write it without {word!r}, or leave it out"
            )
        if into := found(mappings):
            lines.append(f"erase draws {listed(into)} with the erased word {word!r} inside: give another mapping concept")
        if inside := [n for n in config.retain if n.lower() not in lower and holds(word, n) and not holds(n, word)]:
            lines.append(
                f"erase: {word!r} holds {listed(inside)}, which is retained: only the words around tell them apart, and one may be taken "
                "for the other. Look at misses and false alarms in the verdict, or leave it out of retain if it may go too"
            )
    return lines


def badly_told_apart(names: list[str], calibrations: list[dict]) -> list[str]:
    """A line for each concept whose switch does badly on prompts that it was not fitted on, by what `trainer.switch.calibrate` measured."""
    lines = []
    for name, found in zip(names, calibrations):
        gap = found["lowest_target"] - found["highest_safe"]
        if max(found["misses"], found["false_alarms"]) > MISSED:
            what = f"misses {found['misses']:.1%} of the prompts that name it and fires on {found['false_alarms']:.1%} of those that do not"
        elif gap < GAP:
            what = f"has hardly room between the prompts that name it and those that do not ({gap:.1f}, expected {GAP:g} and more)"
        else:
            continue
        lines.append(
            f"{name!r}: on prompts that it was not fitted on the switch {what}. The text encoder hardly tells it from what is retained: "
            "take the names nearest to it out of retain, name it by other or more words, or give it templates of its own (templates_for)"
        )
    return lines
