"""What a training runs on: versions, the card and its free memory, main memory, and the disk that is written to."""

import os
import platform
import shutil
from pathlib import Path

import safetensors
import torch

from host import devices, memory
from host.folders import eraser_folders
from host.start import ROOT, comfy_folder, comfy_version

GB = memory.GB


def machine() -> list[str]:
    """A line on each. The host has been started."""
    device, total = memory.device_memory()
    driver = f" (of {devices.kind()} {devices.driver()})" if devices.driver() else ""
    lines = [
        f"Python {platform.python_version()}, torch {torch.__version__}{driver}, safetensors {safetensors.__version__}, "
        f"{platform.system()} {platform.release()}",
        f"ComfyUI {comfy_version()} in {comfy_folder()}; this pack in {ROOT}",
    ]
    if device.type == "cpu":
        lines.append("graphics card: none that this torch can use; everything is computed on the CPU, which suits the demo models only")
        lines.append(f"main memory: {devices.free(device) / GB:.1f} of {total / GB:.1f} GB free, {os.cpu_count()} processors")
    else:
        free = devices.free(device)
        lines.append(f"graphics card: {devices.title(device)} ({devices.kind()}), {free / GB:.1f} of {total / GB:.1f} GB free")
    return [*lines, disk(eraser_folders()[0], "erasers")]


def disk(folder: str | Path, what: str) -> str:
    """How much room there is where something is written; the folder itself may not be there yet."""
    place = Path(folder).absolute()
    there = next(p for p in (place, *place.parents) if p.is_dir())
    return f"disk: {shutil.disk_usage(there).free / GB:.1f} GB free for {what} in {place}"
