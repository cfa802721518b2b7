"""What a run writes beside its eraser file: how each is called, and what a killed run left of them.

Only the eraser ends in .safetensors, so that ComfyUI's lists show nothing else.
"""

import os
from pathlib import Path

from unhype.leftovers import TEMPORARY, remove, temporary_name


def state_path(out: str | Path) -> Path:
    """All that --resume needs."""
    return Path(out).with_suffix(".state")


def former_state_path(out: str | Path) -> Path:
    """The state saved before that one, for when the newest was cut off."""
    return Path(out).with_suffix(".state.old")


def coming_state_path(out: str | Path) -> Path:
    """The state that is being saved."""
    return Path(out).with_suffix(".state.new")


def cache_path(out: str | Path) -> Path:
    """Samples of the base, for a run with the same pictures."""
    return Path(out).with_suffix(".cache")


def text_path(out: str | Path) -> Path:
    """Written text as the text encoder reads it, for every run in this folder with the same one."""
    return Path(out).parent / "written-text.cache"


def log_path(out: str | Path) -> Path:
    return Path(out).with_suffix(".jsonl")


def previews_path(out: str | Path) -> Path:
    return Path(out).with_suffix(".previews")


def page_path(out: str | Path) -> Path:
    """What is being made, how it goes and the verdict, for a browser."""
    return Path(out).with_suffix(".html")


def lock_path(out: str | Path) -> Path:
    """There while a run writes into `out`."""
    return Path(out).with_suffix(".running")


def remove_leftovers(out: str | Path) -> None:
    """Delete what killed runs into `out` had half written. Only for who holds its lock: nobody else is writing there."""
    written = {Path(out).name, *(name(out).name for name in (state_path, coming_state_path, cache_path, log_path, page_path))}
    previews = previews_path(out)
    for path in (*Path(out).parent.glob(".*.tmp"), *previews.glob(".*.tmp")):
        found = TEMPORARY.fullmatch(path.name)
        if found and (found[1] in written or path.parent == previews):
            remove(path)
    coming_state_path(out).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file beside an eraser, whole or not at all. Raises OSError."""
    temporary = temporary_name(path)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
