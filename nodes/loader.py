"""UnHypeLoader: an eraser file by name."""

import logging
import os
from functools import cache
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..unhype.checkpoint import load_eraser
from ..unhype.header import KEY
from ..unhype.text import shown
from .schema import ERASING, schema
from .tell import tell
from .told import Told, metadata_of, told, told_by_header

FOLDER = "unhype"
BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "erasers"
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


def all_told(names: list[str]) -> dict[str, Told]:
    """What the files say of themselves, by name, as far as they can be read."""
    found = {}
    for name in names:
        try:
            path = find_file(name)
            status = os.stat(path)
            if said := told_by_header(path, status.st_size, status.st_mtime_ns):
                found[name] = said
        except OSError:
            continue
    return found


def tooltip(every: dict[str, Told]) -> str:
    """What the list of files is, and what the first of them erase."""
    lines = [f"{shown(name)}: {shown(said.text.splitlines()[0], 160)}" for name, said in list(every.items())[:LISTED]]
    more = ["..."] * (len(every) > LISTED)
    return "\n".join(["A .safetensors file from models/unhype or output/unhype, made by training an eraser.", *lines, *more])


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
        every = all_told(names)
        files = io.Combo.Input("file", options=names or [NONE_YET], tooltip=tooltip(every))
        # For web/js, which shows it before the first run. The input's own argument of that name came later than V3.
        files.extra_dict = {"erasers": {name: said._asdict() for name, said in every.items()}}
        return schema(
            node_id="UnHypeLoader",
            display_name="Load UnHype Eraser",
            category="unhype",
            description="Loads an eraser: a small file that makes a model forget what the file was trained on.",
            search=ERASING,
            inputs=[files],
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
        text = told(eraser)
        tell(cls.hidden.unique_id if cls.hidden else None, eraser.source, text)
        return io.NodeOutput(eraser, text)
