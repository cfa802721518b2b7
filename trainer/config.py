"""Settings as they are given: dataclass <- YAML <- command line, each field checked."""

import argparse
import math
from dataclasses import fields
from pathlib import Path

from unhype.text import shown as quoted

from .extend import inherited
from .prompts.concepts import parse_erase
from .prompts.lists import files_in, read_lists
from .run.progress import say
from .settings import start
from .settings.checks import check
from .settings.fields import DEFAULT, Config, ConfigError, refuse
from .settings.paths import expanded, found_eraser, with_paths_expanded
from .settings.strict_yaml import read_yaml

EXPECTED = {
    list: "a list",
    dict: "a mapping of names to lists",
    str: "a text",
    int: "a whole number",
    float: "a number (0.002, not 2e-3)",
}


def of_right_kinds(values: dict, source: str) -> dict:
    """The settings, whole numbers made floats where these are wanted; an unknown one is an error that names the nearest known."""
    import difflib

    known, result = [f.name for f in fields(Config)], {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
            hint = f"did you mean {near[0]}?" if near else "--help lists those that there are"
            raise ConfigError(f"{source}: unknown setting {quoted(repr(name))}; {hint}")
        kind = type(getattr(DEFAULT, name))
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not kind or kind is float and not math.isfinite(value):
            refuse(source, name, value, EXPECTED[kind])
        if kind is list and not all(type(v) is (int if name == "clip_skips" else str) for v in value):
            refuse(source, name, value, "a list of " + ("whole numbers" if name == "clip_skips" else "texts"))
        if kind is dict and not all(isinstance(k, str) and isinstance(v, list) for k, v in value.items()):
            refuse(source, name, value, EXPECTED[kind])
        result[name] = value
    return result


def from_mapping(values: dict, source: str) -> Config:
    """A checked Config; a line says where something given was left out."""
    values = read_lists(with_paths_expanded(of_right_kinds(values, source), source), source)
    config = Config(**values)
    targets = {target.lower() for e in config.erase for target in parse_erase(e).words}
    if "retain" not in values:
        # The built-in list stands for "everything else": what is erased is simply not part of it.
        erased = {word for target in targets for word in target.split()}
        config.retain = [name for name in config.retain if not erased & set(name.split())]
    elif dropped := [name for name in config.retain if name.strip().lower() in targets]:
        config.retain = [name for name in config.retain if name not in dropped]
        say(f"{source}: {', '.join(map(repr, dropped))} is erased, and taken out of retain", error=True)
    return check(config, source)


def parse_arguments(argv: list[str], description: str) -> tuple[Config, argparse.Namespace]:
    """Settings from --config, overridden by options of the same names; and --comfyui, --dry-run, --resume, --overwrite.

    `inputs` of the second are the files that settings were read from.
    """
    return settings_of(*options(argv, description))


def options(argv: list[str], description: str) -> tuple[dict, argparse.Namespace]:
    """The settings that are given as options, and all options."""
    if "--" in argv:
        raise ConfigError('command line: found "--", which a shell leaves of an unquoted "cat --> forest": put the entry in quotes')
    arguments = new_parser(description).parse_args(argv)
    return {f.name: value for f in fields(Config) if (value := getattr(arguments, f.name, None)) is not None}, arguments


def begin(given: dict, path: str) -> str:
    """--init: write a file of settings to start from; returns what to do with it."""
    given = start.asked(given, path)
    if "add_to" not in given:  # what its file says is inherited when it is trained
        from_mapping(given, "--init")
    start.write(path, given)
    return f"wrote {path}: look through it, and see what it takes with --config {path} --dry-run"


def settings_of(given: dict, arguments: argparse.Namespace) -> tuple[Config, argparse.Namespace]:
    """As parse_arguments has them, of its options."""
    arguments.config, arguments.comfyui = (text and expanded(text) for text in (arguments.config, arguments.comfyui))
    values = {**(read_yaml(arguments.config) if arguments.config else {}), **given}
    source = arguments.config or "command line"
    if arguments.config and given:
        source += " with " + " ".join("--" + name.replace("_", "-") for name in given)
    values = with_paths_expanded(of_right_kinds(values, source), source)
    arguments.inputs = [*([Path(arguments.config)] if arguments.config else []), *files_in(values)]
    values = read_lists(values, source)
    if values.get("add_to"):
        values["add_to"] = found_eraser(values["add_to"], arguments.comfyui)
        values = inherited(values)
    return from_mapping(values, source), arguments


def new_parser(description: str) -> argparse.ArgumentParser:
    """An option for every setting but the mappings, which are in YAML only, in the groups that settings/fields.py has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    file = parser.add_mutually_exclusive_group()
    file.add_argument("--config", help="YAML file of settings, which options override")
    file.add_argument("--init", metavar="FILE", help="write a YAML file to start from, every setting explained, and end")
    parser.add_argument("--comfyui", help="folder of the ComfyUI install (default: COMFYUI_PATH, or the one this pack lies in)")
    parser.add_argument("--dry-run", action="store_true", help="say what it would take, and whether it fits, without loading anything")
    former = parser.add_mutually_exclusive_group()
    former.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    former.add_argument("--overwrite", action="store_true", help="replace the eraser that is there, or start a stopped training over")
    for f in fields(Config):
        default, about = getattr(DEFAULT, f.name), f.metadata
        if about["group"]:
            group = parser.add_argument_group(about["group"])
        if isinstance(default, dict):
            group.description = f"{f.name} (in a YAML file only): {about['words']}"
            continue
        words = f"{about['words']} (default: {shown(default)})" if default != "" and default != [] else about["words"]
        words = words.replace("%", "%%")
        option = "--" + f.name.replace("_", "-")
        if isinstance(default, list):
            kind = int if f.name == "clip_skips" else str
            group.add_argument(
                option, dest=f.name, nargs="+", action="extend", type=kind, metavar="N" if kind is int else "TEXT", help=words
            )
        else:
            kind = type(default)
            shape = "|".join(about["choices"]) or {str: "TEXT", int: "N", float: "X"}[kind]
            group.add_argument(option, dest=f.name, type=kind, metavar=shape, help=words)
    return parser


def shown(default) -> str:
    return f"a list of {len(default)}" if isinstance(default, list) else str(default)
