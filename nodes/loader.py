"""UnHypeLoader: an eraser file by name."""

import os
from pathlib import Path

import folder_paths
from comfy_api.latest import io

from ..unhype.checkpoint import load_eraser

FOLDER = "unhype"
BUNDLED = Path(__file__).resolve().parents[1] / "demo" / "erasers"
UnHype = io.Custom("UNHYPE")


def register_folders() -> None:
    """Let ComfyUI find eraser files in models/unhype, extra_model_paths.yaml, output/unhype and the bundled demo."""
    models = os.path.join(folder_paths.models_dir, FOLDER)
    os.makedirs(models, exist_ok=True)
    for path in (models, os.path.join(folder_paths.get_output_directory(), FOLDER), str(BUNDLED)):
        folder_paths.add_model_folder_path(FOLDER, path)
    # Added by path alone, a folder of this name would list every file in it.
    folder_paths.folder_names_and_paths[FOLDER][1].add(".safetensors")


def find_file(name: str) -> str:
    """The path of an eraser file. Raises FileNotFoundError that names every folder searched."""
    path = folder_paths.get_full_path(FOLDER, name)
    if path is None:
        searched = ", ".join(folder_paths.get_folder_paths(FOLDER))
        raise FileNotFoundError(
            f"UnHype eraser {name!r} was not found; searched {searched}. Put the .safetensors file into one of these and press R"
        )
    return path


class UnHypeLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="UnHypeLoader",
            display_name="Load UnHype Eraser",
            category="unhype",
            description="Loads an eraser: a hypernetwork that makes a model forget the concepts it was trained on.",
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folder_paths.get_filename_list(FOLDER),
                    tooltip="A .safetensors file from models/unhype or output/unhype, made by trainer/train.py.",
                ),
            ],
            outputs=[UnHype.Output(display_name="UNHYPE", tooltip="The eraser, for the UnHype Eraser node.")],
        )

    @classmethod
    def validate_inputs(cls, file):
        try:
            find_file(file)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, file):
        status = os.stat(find_file(file))
        return f"{status.st_mtime_ns}:{status.st_size}"

    @classmethod
    def execute(cls, file) -> io.NodeOutput:
        return io.NodeOutput(load_eraser(find_file(file)))
