"""The report card of an eraser file: what it erases, how well, of which base, and how it was trained.

    python trainer/card.py FILE.safetensors

All of it is read from the file's header; no weights are loaded, and no ComfyUI is needed.
"""

import argparse
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import yaml

from trainer.run.progress import never_refuse, say
from unhype.checkpoint import digest_of
from unhype.description import parse_description
from unhype.header import CheckpointError, read_header
from unhype.layers import FAMILIES
from unhype.text import shown

NOT_SAID = "not said"


def number(found, form: str) -> str:
    """A figure out of a file, of which nobody knows what it is."""
    return format(found, form) if type(found) in (int, float) else NOT_SAID


def part(tree, name: str) -> dict:
    """An object of the description; empty where there is none."""
    found = tree.get(name) if isinstance(tree, dict) else None
    return found if isinstance(found, dict) else {}


def of_concept(concept, found: dict) -> list[str]:
    """The lines of a concept; found: its part of the verdict."""
    calibration = concept.calibration
    lines = [f"  {shown(concept.name, 255)} -> {shown(concept.mapping, 255)}"]
    if found:
        lines.append(
            f"    {number(found.get('erased'), '.0%')} of the wanted change reached; the switch misses "
            f"{number(found.get('misses'), '.1%')} of {number(found.get('prompts'), '.0f')} held-out prompts, "
            f"{number(found.get('false_alarms'), '.1%')} false alarms"
        )
    if calibration:
        lines.append(
            f"    switch: threshold {number(calibration.get('threshold'), '.2f')}, other prompts up to "
            f"{number(calibration.get('highest_safe'), '.2f')}, its own from {number(calibration.get('lowest_target'), '.2f')}"
        )
    return lines


def card(path: Path) -> str:
    """The report card's text. Raises CheckpointError, naming the file, where it is no eraser, and OSError."""
    meta, _ = read_header(path)
    shape, family, concepts = parse_description(path, meta)
    metrics, training = part(meta, "metrics"), part(meta, "training")
    verdict, versions = part(metrics, "verdict"), part(metrics, "versions")
    judged = {True: "passed", False: "FAILED: do not rely on this eraser"}.get(verdict.get("passed"), NOT_SAID)
    known = {"format": meta["format_version"], "condition": meta["condition_version"], "recipe": metrics.get("recipe"), **versions}
    lines = [
        f"{shown(path.name, 255)}: UnHype eraser, {path.stat().st_size / 1e6:.1f} MB",
        f"SHA-256 {digest_of(path)}",
        f"for {FAMILIES[family].title}, {len(shape.layers)} layers, rank {shape.rank}; "
        f"trained on {shown(part(meta, 'base').get('name') or NOT_SAID, 255)}",
        "",
        f"verdict: {judged}",
        "erases",
        *(line for c in concepts for line in of_concept(c, part(part(verdict, "concepts"), c.name))),
    ]
    if verdict:
        lines.append(
            f"keeps\n  {number(verdict.get('left_alone'), '.1%')} of the other prompts exactly alone; with the switch forced on "
            f"they would move by {number(verdict.get('moved_if_forced'), '.1%')} of an erasure"
        )
    lines += [
        "",
        f"training: {number(metrics.get('train_seconds'), '.0f')} seconds, at most {number(metrics.get('train_peak_mb'), '.0f')} MB",
        "versions: " + ", ".join(f"{shown(name)} {shown(value)}" for name, value in known.items() if value is not None),
        "",
        "settings" if training else f"settings: {NOT_SAID}",
    ]
    if training:
        text = yaml.safe_dump(training, allow_unicode=False, sort_keys=False, default_flow_style=None, width=110)
        lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    never_refuse()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="an eraser, a .safetensors file")
    path = parser.parse_args(argv).file
    try:
        say(card(path))
    except FileNotFoundError:
        say(f"error: {path}: there is no such file", error=True)
        return 1
    except (CheckpointError, OSError) as error:
        say(f"error: {error}", error=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
