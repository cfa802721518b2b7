"""Paths in settings: home folders and variables, where the eraser goes, and what is written beside it."""

import os
import re
from pathlib import Path

from host.folders import eraser_folders
from host.start import find_comfy, start_comfy

from ..run import beside
from .fields import Config, refuse

ENDING = ".safetensors"
VARIABLE = re.compile(r"^~[^/\\]*(?=[/\\]|$)|(?<![^/\\])(\$\w+|\$\{\w+\}|%\w+%)(?![^/\\])")
SINGLE, SEVERAL = ("base", "vae", "out", "add_to"), ("text_encoders",)


def expanded(path: str) -> str:
    """With ~, $HOME, ${HOME} and %USERPROFILE% replaced on every system; an unknown variable stays as it is."""
    path = re.sub(r"%(\w+)%", lambda found: os.environ.get(found[1], found[0]), path)
    return os.path.expanduser(os.path.expandvars(path))


def with_paths_expanded(values: dict, source: str) -> dict:
    """The settings with every path expanded, and out with its ending.

    Raises ConfigError where out holds a variable that is not set, or is no file's name.
    """
    values = dict(values)
    values |= {name: expanded(values[name]) for name in SINGLE if name in values}
    values |= {name: [expanded(p) for p in values[name]] for name in SEVERAL if name in values}
    if out := values.get("out"):
        if unknown := VARIABLE.search(out):
            refuse(source, "out", out, f"a path: {unknown[0]} is no folder or variable of this computer")
        name = re.split(r"[/\\]", out)[-1].strip()
        if not out.isprintable() or name in ("", ".", "..", ENDING) or not is_bare(out) and os.path.isdir(out):
            refuse(source, "out", out, "a file name that ends in .safetensors, not a folder")
        if re.fullmatch(r"(\.\d*)?", Path(out).suffix):
            values["out"] = out + ENDING
    return values


def is_bare(name: str) -> bool:
    """Whether it is a file's name alone, without a folder."""
    return re.search(r"[/\\]", name) is None


def placed(out: str) -> str:
    """Where an eraser of this name is written: one without a folder where ComfyUI's nodes look for it."""
    return os.path.join(eraser_folders()[0], out) if is_bare(out) else out


def found_eraser(name: str, comfyui: str | None) -> str:
    """The path of an eraser that add_to names: as it is, or in one of the folders that the nodes of this ComfyUI look in.

    Raises FileNotFoundError for a name that is in none of them.
    """
    if os.path.isfile(name) or not is_bare(name):
        return name
    start_comfy(find_comfy(comfyui))
    places = [os.path.join(folder, n) for folder in eraser_folders() for n in (name, name + ENDING)]
    if found := next((p for p in places if os.path.isfile(p)), None):
        return found
    folders = ", ".join(map(os.path.dirname, places[::2]))
    raise FileNotFoundError(f"add_to: there is no eraser {name} here, and none in {folders}. Give the path of one")


def where_to_find(out: str | Path) -> str:
    """What to do in ComfyUI with an eraser that was saved there."""
    out = Path(out).resolve()
    folders = [Path(folder).resolve() for folder in eraser_folders()]
    for folder in folders:
        if out.is_relative_to(folder):
            return f'in ComfyUI press R and choose "{out.relative_to(folder)}" in the node Load UnHype Eraser'
    return f"ComfyUI does not look in {out.parent}: move {out.name} to {folders[0]} to find it in the node Load UnHype Eraser"


def written(config: Config) -> dict[str, Path]:
    """Everything that a training writes, by what it is."""
    out = config.out
    return {
        "eraser": Path(out),
        "state": beside.state_path(out),
        "state before": beside.former_state_path(out),
        "coming state": beside.coming_state_path(out),
        "log": beside.log_path(out),
        "page": beside.page_path(out),
        "previews": beside.previews_path(out),
        "cache": beside.cache_path(out),
        "lock": beside.lock_path(out),
    }
