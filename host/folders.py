"""Where files lie: given by path, or by name in ComfyUI's folders; and where the nodes look for erasers."""

import os
from functools import cache

from .files import look_at

# By name, so that this room does not import the one above it.
DEMOS = {"demo": "demo.base", "demo-flux": "demo.flux"}
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
        if path := folder_paths.get_full_path(folder, name):
            return path
    if os.path.isdir(name):
        raise FileNotFoundError(f"{what} {name!r} is {look_at(name).what}. Give the path of a .safetensors file")
    looked = ", ".join(p for folder in folders for p in folder_paths.get_folder_paths(folder))
    raise FileNotFoundError(f"{what} {name!r}: no such file, and not in {looked}. Give the path of one")


@cache
def add_extra_folders() -> None:
    """Let the folders of ComfyUI's extra_model_paths.yaml be searched too, as its server does when it starts."""
    import folder_paths
    from utils.extra_config import load_extra_path_config

    path = os.path.join(os.path.dirname(os.path.realpath(folder_paths.__file__)), "extra_model_paths.yaml")
    if os.path.isfile(path):
        load_extra_path_config(path)


def eraser_folders() -> list[str]:
    """Where the nodes look for erasers: models/unhype of this ComfyUI first, then what extra_model_paths.yaml adds, and output."""
    import folder_paths

    add_extra_folders()
    own = [os.path.join(folder, ERASERS) for folder in (folder_paths.models_dir, folder_paths.get_output_directory())]
    known = folder_paths.folder_names_and_paths.get(ERASERS, ([], set()))[0]
    return list(dict.fromkeys([own[0], *known, own[1]]))
