"""What is counted of a training: rows that its denoiser is asked for, and seconds."""

import time
from contextlib import contextmanager

import torch


class Meter:
    """Rows that go through a denoiser, and the processor's seconds, but for what is done while it is paused."""

    def __init__(self, module: torch.nn.Module):
        self.rows, self.running, self.before, self.since = 0, True, 0.0, time.process_time()
        self.handle = module.register_forward_pre_hook(self.count)

    def count(self, module, arguments) -> None:
        self.rows += self.running * len(arguments[0])

    @property
    def seconds(self) -> float:
        return self.before + (time.process_time() - self.since if self.running else 0.0)

    @contextmanager
    def paused(self):
        self.before, self.running = self.seconds, False
        try:
            yield
        finally:
            self.running, self.since = True, time.process_time()

    def anew(self) -> None:
        self.rows, self.before, self.since = 0, 0.0, time.process_time()
