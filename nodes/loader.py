"""UnHypeLoader: an eraser file by name."""

import json
import logging
import os
from functools import cache
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..unhype.checkpoint import Eraser, load_eraser
from ..unhype.header import KEY
from ..unhype.layers import FAMILIES
from ..unhype.text import shown
from .schema import ERASING, schema
from .tell import tell

FOLDER = "unhype"
BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "erasers"
HEADER = 16 << 20  # bytes of a header that is looked into
LISTED = 12  # files that the tooltip tells of
NONE_YET = "no eraser yet: put one into models/unhype, then press R"
UnHype = io.Custom("UNHYPE")
log = logging.getLogger("unhype")


def register_folders() -> None:
    """Let ComfyUI find eraser files in models/unhype, extra_model_paths.yaml, output/unhype and the bundled demo."""
    models = os.path.join(folder_paths.models_dir, FOLDER)
    try:
        os.makedirs(models, exist_ok=True)
    except OSError as error:
        why = f"it is a link to {os.readlink(models)}, which is not there" if os.path.islink(models) else error.strerror
        why = "it is a file" if os.path.isfile(models) else why
        log.warning("the folder %s cannot be used for erasers: %s. Erasers in the other folders and the demo work", models, why)
    for path in (models, os.path.join(folder_paths.get_output_directory(), FOLDER), str(BUNDLED)):
        folder_paths.add_model_folder_path(FOLDER, path)
    # Added by path alone, a folder of this name would list every file in it.
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")


def erasers() -> list[str]:
    """The names of all eraser files, below every folder; a folder that is gone has none."""
    names = set()
    for folder in folder_paths.get_folder_paths(FOLDER):
        for place, _, files in os.walk(folder, followlinks=True):
            paths = [os.path.join(place, file) for file in files if file.lower().endswith(".safetensors")]
            names |= {os.path.relpath(path, folder) for path in paths if listed(path)}
    return sorted(names)


def listed(path: str) -> bool:
    """Whether a .safetensors file is an eraser by its header, or damaged so that nobody can tell: choosing it says what is wrong."""
    try:
        status = os.stat(path)
        return may_be_eraser(path, status.st_size, status.st_mtime_ns)
    except OSError:
        return False


@cache
def may_be_eraser(path: str, size: int, changed: int) -> bool:
    metadata = metadata_of(path, size)
    return metadata is None or KEY in metadata


@cache
def told_by_header(path: str, size: int, changed: int) -> str:
    """What a file erases by its header, in a few words; nothing where that cannot be read."""
    try:
        said = json.loads((metadata_of(path, size) or {})[KEY])
        pairs = [(str(c["name"]), str(c["mapping"])) for c in said["concepts"]]
        return f"{shown(into(pairs), 160)} ({FAMILIES[said['family']].title})"
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""


def metadata_of(path: str, size: int) -> dict[str, Any] | None:
    """The metadata in a file's header; None where there is no header that can be read."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        raw = file.read(length) if length <= min(HEADER, size) else b""
    try:
        found = json.loads(raw).get("__metadata__", {})
        return found if isinstance(found, dict) else None
    except (ValueError, AttributeError, RecursionError):
        return None


def into(pairs: list[tuple[str, str]]) -> str:
    """Concepts and what is drawn instead: cat and dog -> forest, car -> boat."""
    by_mapping: dict[str, list[str]] = {}
    for name, mapping in pairs:
        by_mapping.setdefault(mapping, []).append(name)
    return "; ".join(f"{', '.join(names)} -> {mapping or 'nothing'}" for mapping, names in by_mapping.items())


def info(eraser: Eraser) -> str:
    """What an eraser erases and into what, for which models, in two lines."""
    base = f", trained on {shown(eraser.base['name'], 80)}" if eraser.base else ""
    pairs = [(c.name, c.mapping) for c in eraser.concepts]
    return f"{shown(into(pairs), 400)}\nfor {FAMILIES[eraser.family].title}{base}"


def tooltip(names: list[str]) -> str:
    """What the list of files is, and what the first of them erase."""
    lines = ["A .safetensors file from models/unhype or output/unhype, made by Train UnHype Eraser or trainer/train.py."]
    for name in names[:LISTED]:
        try:
            path = find_file(name)
            status = os.stat(path)
            told = told_by_header(path, status.st_size, status.st_mtime_ns)
        except OSError:
            continue
        if told:
            lines.append(f"{shown(name)}: {told}")
    return "\n".join(lines + (["..."] if len(names) > LISTED else []))


def find_file(name: object) -> str:
    """The path of an eraser file. Raises FileNotFoundError that names every folder searched."""
    path: str | None = folder_paths.get_full_path(FOLDER, name) if isinstance(name, str) else None
    if path is None:
        searched = ", ".join(folder_paths.get_folder_paths(FOLDER))
        what = "there is no UnHype eraser yet" if name == NONE_YET else f"UnHype eraser {name!r} was not found"
        raise FileNotFoundError(f"{what}; searched {searched}. Put the .safetensors file into one of these and press R")
    return path


def state_of(name: str) -> str:
    """The name, time and size of an eraser file, as far as it is there."""
    try:
        status = os.stat(find_file(name))
    except OSError:
        return name
    return f"{name}:{status.st_mtime_ns}:{status.st_size}"


class UnHypeLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = erasers()
        return schema(
            node_id="UnHypeLoader",
            display_name="Load UnHype Eraser",
            category="unhype",
            description="Loads an eraser: a hypernetwork that makes a model forget the concepts it was trained on.",
            search=ERASING,
            inputs=[io.Combo.Input("file", options=names or [NONE_YET], tooltip=tooltip(names))],
            outputs=[
                UnHype.Output(display_name="UNHYPE", tooltip="The eraser, for the UnHype Eraser node."),
                io.String.Output(display_name="info", tooltip="What the file erases and into what, and for which models."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, file: object = None, input_types: object = None) -> bool:
        """Let every name pass, also a linked text: only an error of execute is shown where another branch of the graph can run."""
        return True

    @classmethod
    def fingerprint_inputs(cls, file: object = None) -> str:
        """What is on the disk under the name; a linked one comes as None, and any file may be meant."""
        return "\n".join(state_of(name) for name in (erasers() if file is None else [str(file)]))

    @classmethod
    def execute(cls, file: object) -> io.NodeOutput:
        eraser = load_eraser(find_file(file))
        text = info(eraser)
        tell(cls.hidden.unique_id if cls.hidden else None, eraser.source, text)
        return io.NodeOutput(eraser, text, ui={"text": [text]})
