"""Finding a ComfyUI install and making its modules importable."""

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
_kept_alive: list[torch.library.Library] = []


def find_comfy(given: str | None) -> Path:
    """The folder of a ComfyUI install: as given, or COMFYUI_PATH, or the one that this pack lies in."""
    # A pack that is linked into custom_nodes lies there only by the path that the command was given.
    packs = [folder for folder in (ROOT, *Path(os.path.abspath(sys.argv[0])).parents) if folder.parent.name == "custom_nodes"]
    places: list[str | Path | None] = [given] if given else [os.environ.get("COMFYUI_PATH"), *(pack.parents[1] for pack in packs)]
    candidates = [Path(c).expanduser().resolve() for c in places if c]
    for folder in candidates:
        if (folder / "comfy" / "sd.py").is_file():
            return folder
    looked = ", ".join(map(str, candidates)) or "nowhere: --comfyui and COMFYUI_PATH are empty, and the pack does not lie in custom_nodes"
    raise FileNotFoundError(f"no ComfyUI found (looked in {looked}): pass --comfyui FOLDER, the one that holds main.py")


def start_comfy(folder: Path) -> None:
    """Make `comfy` importable from that install, on the CPU where there is no GPU."""
    from . import devices  # the prestart script that dev.py writes loads this file alone

    place = str(Path(folder).resolve())
    if place in sys.path:
        return
    sys.path.insert(0, place)
    declare_torchvision_operators()
    argv, sys.argv = sys.argv, [sys.argv[0]] + (["--cpu"] if devices.kind() == "cpu" else [])
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401  reads sys.argv once
    finally:
        sys.argv = argv
    import comfy.sample  # noqa: F401  the bulk of its import, here and not at the first use
    import comfy.sd  # noqa: F401


def version_of(given: str | None) -> str:
    """The version of a ComfyUI install that need not have been started."""
    text = (find_comfy(given) / "comfyui_version.py").read_text(encoding="utf-8")
    return text.rpartition("=")[2].strip().strip("\"'")


def comfy_version() -> str:
    import comfyui_version

    version: str = comfyui_version.__version__
    return version


def comfy_folder() -> Path:
    """The folder of the ComfyUI that has been started."""
    import comfyui_version

    return Path(str(comfyui_version.__file__)).resolve().parent


def core_node(name: str) -> Any:
    """A node of ComfyUI's own, ready to be called."""
    import nodes  # ComfyUI's own module of that name

    return getattr(nodes, name)()


def declare_torchvision_operators() -> None:
    """Let a torchvision built for CUDA be imported beside a CPU torch: it asks for two operators that are not there."""
    try:
        found = importlib.util.find_spec("torchvision") is not None
        if found:
            import torchvision  # noqa: F401
    except RuntimeError:
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _kept_alive.append(library)
