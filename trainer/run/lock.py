"""One run at a time into one eraser file. The system lets go of the lock when its process ends, in whatever way."""

import os
from contextlib import contextmanager
from pathlib import Path

from .beside import lock_path, remove_leftovers

if os.name == "nt":
    import msvcrt

    def take(file: int) -> None:
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def take(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def held(out: str | Path) -> bool:
    """Whether a run is writing into `out`; its lock is left as it is."""
    try:
        file = os.open(lock_path(out), os.O_RDWR)
    except OSError:
        return False
    try:
        take(file)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(file)
    return False


class Busy(RuntimeError):
    """Another run writes into the same eraser file."""


def busy(out: str | Path) -> Busy:
    return Busy(f"{out} is being trained by another run: wait until it has ended, or give this one another --out")


@contextmanager
def only_run(out: str | Path):
    """Hold the lock of the eraser file `out`, its folder made and what killed runs left there removed.

    Raises Busy at once where another process has it. A file of that name which nobody holds is no hindrance.
    """
    path = lock_path(out)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = locked(path, out)
    try:
        remove_leftovers(out)
        yield
    finally:
        if os.name == "nt":  # where a file that is open cannot be deleted
            os.close(file)
        try:
            path.unlink(missing_ok=True)
        except PermissionError:
            pass  # Windows: the next run has it open already
        if os.name != "nt":
            os.close(file)


def locked(path: Path, out: str | Path) -> int:
    """The lock file, open and locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            take(file)
            if os.name == "nt" or same_file(file, path):
                return file
        except (BlockingIOError, PermissionError):
            os.close(file)
            raise busy(out) from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its holder deleted it between our opening and our locking it


def same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
