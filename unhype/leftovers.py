"""What belongs to taking a file's place whole: the name it is written under, its permissions, and what a killed writer left."""

import os
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

DAY = 86_400.0  # seconds after which nobody is still writing
TEMPORARY = re.compile(r"\.(.+)\.(\d+)\.tmp")  # the name of a file that is being written: its own, the process


def temporary_name(path: Path) -> Path:
    """Beside the file, with the number of this process, free to be written or to be made a folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    remove(temporary)
    return temporary


def remove(temporary: Path) -> None:
    """Delete a temporary file or folder, where it is there."""
    if temporary.is_dir() and not temporary.is_symlink():
        shutil.rmtree(temporary)
    else:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Delete what writers that are no more left beside `path`: of .safetensors files, and of `path` itself."""
    with suppress(OSError):
        for name in os.listdir(path.parent):
            found = TEMPORARY.fullmatch(name)
            if found and (found[1] == path.name or found[1].endswith(".safetensors")):
                file = path.with_name(name)
                if not is_running(int(found[2])) or time.time() - file.stat().st_mtime > DAY:
                    remove(file)


def is_running(process: int) -> bool:
    """Whether a process of this number lives; on Windows, where asking would end it, always."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def permissions(path: Path) -> int:
    """Who may read and write a file."""
    return path.stat().st_mode & 0o777


def flush_folder(folder: Path) -> None:
    """Let a new name outlive a power cut too; where folders cannot be flushed (Windows, some network drives) the system sees to it."""
    with suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
