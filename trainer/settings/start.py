"""--init: a YAML file of settings to start from, every one with its words from the table in fields.py."""

import math
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import yaml

from host.folders import DEMOS

from .fields import DEFAULT, Config, ConfigError

EXAMPLE = {"base": "demo", "erase": ["cat -> forest"]}  # where nothing else is given or answered
WIDTH = 110
HEAD = """\
python trainer/train.py --config {name}
A setting behind a # without a space has its default: take the # away to change it."""


def asked(given: dict, path: str | Path, read=input, terminal: bool | None = None) -> dict:
    """What was given, and what is missing as the terminal answers, or without one as the demo has it."""
    found = dict(given)
    terminal = sys.stdin is not None and sys.stdin.isatty() if terminal is None else terminal
    wanted = [name for name in ("base", "erase", "out") if name not in found and not (name == "erase" and "add_to" in found)]
    for name in wanted if terminal else []:
        if answer := answered(name, read):
            found[name] = answer
    example = {} if "add_to" in found else EXAMPLE  # that file has a base and concepts
    found = {**example, "out": Path(path).stem, **found}
    for name in ("text_encoders", "vae") if terminal and "base" in wanted and found.get("base", "demo") not in DEMOS else ():
        if name not in found and (answer := answered(name, read)):
            found[name] = answer
    return found


def answered(name: str, read) -> str | list[str]:
    """The terminal's answer for a setting; of a list one a line until an empty one."""
    about, several = Config.__dataclass_fields__[name].metadata["words"], isinstance(getattr(DEFAULT, name), list)
    answers = [read(f"{name}: {about}{'; one a line, an empty line ends them' if several else ''}\n> ").strip()]
    while several and answers[-1]:
        answers.append(read("> ").strip())
    return [a for a in answers if a] if several else answers[0]


def written_out(name: str, value) -> str:
    """A line of YAML, so that one # makes it a comment."""
    flow = isinstance(value, (list, dict))
    return yaml.safe_dump({name: value}, allow_unicode=True, width=math.inf, default_flow_style=None if flow else False).rstrip("\n")


def text_of(given: dict, name: str) -> str:
    """The file: what is given as it is, everything else as a comment that holds its default."""
    lines = comment(HEAD.format(name=name))
    for f in fields(Config):
        if f.metadata["group"]:
            lines += ["", "", f"# --- {f.metadata['group']} ---"]
        lines += ["", *comment(f.metadata["words"] + (f": {' or '.join(c)}" if (c := f.metadata["choices"]) else ""))]
        lines += [("" if f.name in given else "#") + written_out(f.name, given.get(f.name, getattr(DEFAULT, f.name)))]
    return "\n".join(lines) + "\n"


def comment(words: str) -> list[str]:
    return [f"# {line}" for part in words.splitlines() for line in textwrap.wrap(part, WIDTH)]


def write(path: str | Path, given: dict) -> None:
    """Raises ConfigError where there is a file already, or where none can be written."""
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(text_of(given, str(path)))
    except FileExistsError:
        raise ConfigError(f"--init: {path} is there already: give another name, or delete it") from None
    except OSError as error:
        raise ConfigError(f"--init: {path} cannot be written ({error.strerror}): give a name in a folder that you may write to") from None
