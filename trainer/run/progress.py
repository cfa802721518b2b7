"""What a run says: lines that no console can refuse, and how far it is, as a bar on a terminal and a line a minute in a log file."""

import sys
import time
from contextlib import contextmanager

from tqdm import tqdm

from . import processes

EVERY = 60.0  # seconds between two lines of a log file


def never_refuse() -> None:
    """From now on what the console's character set does not have is printed as \\N escapes (cp1252 and redirected output know no cats)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, error: bool = False) -> None:
    """Print a line, above a bar where there is one. A console that is gone or has no such characters never ends a run."""
    stream = sys.stderr if error else sys.stdout
    if not (processes.first() or error):
        return
    if stream is None:  # a window without a console
        return
    try:
        code = getattr(stream, "encoding", None) or "utf-8"
        tqdm.write(text.encode(code, "backslashreplace").decode(code), file=stream)
        stream.flush()
    except (OSError, ValueError):
        pass  # the terminal was closed, or the pipe behind it


followers: list = []  # asked how far a run is, beside what it says: each has advanced(Progress) and pictured(path)


@contextmanager
def followed_by(follower):
    """Inside, the follower is told of every step of every phase, and of every preview."""
    followers.append(follower)
    try:
        yield
    finally:
        followers.remove(follower)


class Progress:
    """How far a phase is.

    Args:
        what: is being done. total: of the phase, in `unit`s, None where nobody knows; done: as many of them before.
        say: takes the lines of a log file; on a terminal a bar is drawn instead.
    """

    def __init__(self, what: str, total: int | None, done: int = 0, unit: str = "step", say=say):
        self.what, self.total, self.done, self.unit, self.say = what, total, done, unit, say
        terminal = processes.first() and sys.stderr is not None and sys.stderr.isatty()
        self.bar = tqdm(total=total, initial=done, desc=what, unit=unit, leave=False) if terminal else None
        self.started = self.said = time.monotonic()
        self.first = done

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more are done, with these figures at hand."""
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            self.bar.update(count)
        elif (now := time.monotonic()) - self.said >= EVERY:
            self.said = now
            self.say(self.line(now, figures))
        for follower in followers:
            follower.advanced(self)

    def line(self, now: float, figures: dict) -> str:
        text = f"{self.what}: {self.done} {self.unit}s"
        if self.total:
            left = (now - self.started) / (self.done - self.first) * (self.total - self.done)
            text = f"{self.what}: {self.done} of {self.total} {self.unit}s, {left / 60:.0f} minutes left"
        return text + "".join(f", {name} {value:.3f}" for name, value in figures.items())


@contextmanager
def watched(backbone, what: str, total: int | None, say):
    """Inside, the prompts that the backbone encodes are counted, `total` of them."""
    with Progress(what, total, unit="prompt", say=say) as progress:
        former, backbone.watch = getattr(backbone, "watch", None), progress.advance
        try:
            yield
        finally:
            backbone.watch = former
