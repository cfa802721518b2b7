"""Asking a training to stop: Ctrl+C, SIGTERM, and a terminal that is closed."""

import signal
import time

from . import processes

NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")  # the third on Linux and macOS, the last on Windows: Ctrl+Break, a closed window
AGAIN = 5.0  # seconds


def signals() -> list[int]:
    """The signals that ask to stop, as far as the system has them; under nohup a closed terminal is none."""
    known = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    return [number for number in known if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN]


def raise_when_asked() -> None:
    """From now on each of them raises KeyboardInterrupt, as Ctrl+C does."""
    for number in signals():
        signal.signal(number, signal.default_int_handler)


class StopRequest:
    """Inside, the first of these signals asks to stop after the step at hand, so that what is saved is whole; a later one raises.

    torchrun passes a signal on that its processes may have had already: what comes within AGAIN is the same request.
    `kinds` are exceptions by which a host stops a step in its middle; `then` is what to do to go on.
    """

    then = "continue with --resume"
    kinds: tuple[type[BaseException], ...] = ()

    def __enter__(self):
        self.asked, self.when = False, 0.0
        self.former = {number: signal.signal(number, self.ask) for number in signals()}
        return self

    def ask(self, *_):
        if self.asked and not (processes.count() > 1 and time.monotonic() - self.when < AGAIN):
            raise KeyboardInterrupt
        if not self.asked:
            self.asked, self.when = True, time.monotonic()

    def __exit__(self, *_):
        for number, handler in self.former.items():
            signal.signal(number, handler)
