"""What a run says: lines that no console can refuse, and how far it is, as a bar on a terminal and a line a minute in a log file."""

import sys
import time
from contextlib import contextmanager

from tqdm import tqdm

from . import processes

WARNING = "warning: "
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


def noting_warnings(say):
    """A list that fills with the warnings that are said, and what to say them by."""
    warnings: list[str] = []

    def noting(text: str) -> None:
        if text.startswith(WARNING):
            warnings.append(text.removeprefix(WARNING))
        say(text)

    return warnings, noting


followers: list = []  # asked how far a run is, beside what it says: each has advanced(Progress) and pictured(path)


@contextmanager
def followed_by(follower):
    """Inside, the follower is told of every step of every phase, and of every preview."""
    followers.append(follower)
    try:
        yield
    finally:
        followers.remove(follower)


plans: list = []  # of a training, the innermost last: later(what, seconds of all of it) tells the seconds of what comes behind it


@contextmanager
def looking_ahead(plan):
    """Inside, the time that is said to be left is that of all phases of the plan."""
    plans.append(plan)
    try:
        yield plan
    finally:
        plans.remove(plan)


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

    def expects(self, total: int) -> None:
        self.total = total
        if self.bar is not None:
            self.bar.total = total

    def advance(self, count: int = 1, **figures: float) -> None:
        """`count` more are done, with these figures at hand."""
        self.done += count
        if self.bar is not None:
            self.bar.set_postfix({name: f"{value:.3f}" for name, value in figures.items()}, refresh=False)
            self.bar.update(count)
        elif (now := time.monotonic()) - self.said >= EVERY:
            self.said = now
            self.say(self.line(figures))
        for follower in followers:
            follower.advanced(self)

    def left(self) -> tuple[float | None, float]:
        """Seconds that this phase will still take, as far as anybody can tell, and those that are planned behind it."""
        done = self.done - self.first
        each = (time.monotonic() - self.started) / done if self.total and done else None
        later = sum(plan.later(self.what, None if each is None else each * self.total) for plan in plans[-1:])
        return None if each is None else each * (self.total - self.done), later

    def line(self, figures: dict) -> str:
        own, later = self.left()
        text = f"{self.what}: {self.done}{f' of {self.total}' if self.total else ''} {self.unit}s"
        if own is not None or later:
            text += f", {((own or 0) + later) / 60:.0f} minutes left{' in all' * bool(later)}"
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
