"""Where files lie: given by path, or by name in ComfyUI's folders; and where the nodes look for erasers."""

import os
from functools import cache
from pathlib import Path
from typing import Any

from unhype.files import what_is

# By name, so that this room does not import the one above it.
DEMOS = {"demo": "demo.base", "demo-flux": "demo.flux", "demo-open": "demo.open.base"}
ERASERS = "unhype"  # the folder of the nodes' files, in models and in output


def find_base(base: str) -> str:
    """The path of a base model's file, as given or by its name in ComfyUI's folders."""
    return find_file(base, ("checkpoints", "diffusion_models"), "base model")


def find_file(name: str, folders: tuple[str, ...], what: str) -> str:
    import folder_paths

    add_extra_folders()
    if os.path.isfile(name):
        return name
    for folder in folders:
        path: str | None = folder_paths.get_full_path(folder, name)
        if path:
            return path
    if os.path.isdir(name):
        raise FileNotFoundError(f"{what} {name!r} is {what_is(name).what}. Give the path of a .safetensors file")
    looked = ", ".join(p for folder in folders for p in folder_paths.get_folder_paths(folder))
    raise FileNotFoundError(f"{what} {name!r}: no such file, and not in {looked}. Give the path of one")


@cache
def add_extra_folders() -> None:
    """Let the folders of ComfyUI's extra_model_paths.yaml be searched too, which its server adds when it starts."""
    import folder_paths

    for kind, folder in extra_folders(Path(folder_paths.__file__).resolve().with_name("extra_model_paths.yaml")):
        folder_paths.add_model_folder_path(kind, folder)


def extra_folders(path: Path) -> list[tuple[str, str]]:
    """(kind of models, folder) of every line in that file; none where there is no file.

    Raises ValueError where it cannot be read.
    """
    import yaml

    if not path.is_file():
        return []
    try:
        sections = [section for section in yaml.safe_load(path.read_text(encoding="utf-8")).values() if section]
        found = [(kind, root_of(section, path.parent), text) for section in sections for kind, text in section.items()]
        return [
            (kind, os.path.normpath(os.path.join(root, line.strip())))
            for kind, root, text in found
            if kind not in ("base_path", "is_default")
            for line in text.splitlines()
            if line.strip()
        ]
    except (OSError, yaml.YAMLError, AttributeError, ValueError) as error:
        raise ValueError(f"{path} cannot be read ({' '.join(str(error).split())[:200]}): mend it, or move it away") from None


def root_of(section: dict[str, Any], beside: Path) -> str:
    return os.path.join(beside, os.path.expandvars(os.path.expanduser(section.get("base_path") or "")))


def eraser_folders() -> list[str]:
    """Where the nodes look for erasers: models/unhype of this ComfyUI first, then what extra_model_paths.yaml adds, and output."""
    import folder_paths

    add_extra_folders()
    own = [os.path.join(folder, ERASERS) for folder in (folder_paths.models_dir, folder_paths.get_output_directory())]
    known = folder_paths.folder_names_and_paths.get(ERASERS, ([], set()))[0]
    return list(dict.fromkeys([own[0], *known, own[1]]))
