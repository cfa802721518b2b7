"""The run's log: a JSON object a line, one per iteration and one for the verdict; and the memory that it took."""

import json
import os
import sys
from pathlib import Path

from . import processes
from .beside import write_text


def whole_lines(path: Path, done: int) -> list[dict]:
    """The first lines of a log that are whole and of iterations up to `done`."""
    lines = []
    if path.exists():
        for text in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                break  # the process was killed while it wrote
            if not isinstance(line, dict) or not all(type(line.get(name)) in (int, float) for name in ("iteration", "seconds")):
                break
            if not (lines[-1]["iteration"] if lines else 0) < line["iteration"] <= done:
                break
            lines.append(line)
    return lines


class Log:
    """The log of a run that goes on after `done` iterations: what a killed run wrote beyond them is cut off.

    `seconds` are those that the iterations before took.
    """

    def __init__(self, path: Path, done: int):
        kept = whole_lines(path, done) if done else []
        self.seconds = float(kept[-1].get("seconds", 0)) if kept else 0.0
        if processes.first():
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self.file = open(path if processes.first() else os.devnull, "a", encoding="utf-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def write(self, **line) -> None:
        self.file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        self.file.flush()


def peak_mb() -> int | None:
    """The process's largest resident size so far; None where the system does not tell."""
    try:
        import resource
    except ImportError:
        return None
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(largest / (1e6 if sys.platform == "darwin" else 1e3))
