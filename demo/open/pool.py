"""Captions with MiniLM's states of them: drawn and encoded anew all the time, each used a dozen times."""

from collections import deque

import numpy as np
import torch

from .captions import Caption, draw_caption
from .nouns import NOUNS

CHUNK = 64  # captions encoded at once
LONG, NOTHING, NO_CAPTION = 0.10, 0.03, 0.10  # shares of long captions, of captions of nothing, of rows without their text
PADDED = 0.15  # share of batches with padding that no caption of theirs needs
DAMPING = 0.02  # of the whitening, in mean eigenvalues


@torch.no_grad()
def encode(clip, texts: list[str]) -> list[torch.Tensor]:
    """MiniLM's states of each text, without padding, in fp16: (tokens, 384) each."""
    encoder = clip.cond_stage_model.minilm
    rows = [[int(t[0]) for t in clip.tokenizer.minilm.tokenize_with_weights(text)[0]] for text in texts]
    longest = max(map(len, rows))
    mask = torch.tensor([[1] * len(r) + [0] * (longest - len(r)) for r in rows])
    tokens = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
    with torch.autocast("cpu", torch.bfloat16):
        states = encoder.transformer(tokens, attention_mask=mask)[0]
    return [s[: len(r)].half() for s, r in zip(states, rows)]


def whitening(states: torch.Tensor) -> torch.Tensor:
    """The symmetric matrix (384, 384) that gives states (N, 384) a second moment of about one in every direction.

    It is not part of the text encoder: the cross-attention's key and value weights take it in when they are written.
    """
    states = states.float()
    values, vectors = torch.linalg.eigh(states.T @ states / len(states))
    return vectors @ torch.diag((values + DAMPING * values.mean()).rsqrt()) @ vectors.T


class Pool:
    """Captions with their states, of four kinds: of one noun (rarely none) or two, short or long."""

    def __init__(self, clip, rng: np.random.Generator, size: int, first: int, plain: bool):
        self.clip, self.rng, self.plain = clip, rng, plain
        self.kinds = {(two, long): deque(maxlen=size) for two in (False, True) for long in (False, True)}
        self.empty, self.first = encode(clip, [""])[0], first
        self.fill()

    def renew(self) -> None:
        """Add a chunk of captions of one noun and one of two; the oldest go."""
        for two in (False, True):
            self.add((two, bool(self.rng.random() < LONG)))

    def start_over(self, plain: bool) -> None:
        """Captions of another kind from now on: plain ones name their nouns by words, in templates."""
        self.plain = plain
        for kind in self.kinds.values():
            kind.clear()
        self.fill()

    def fill(self) -> None:
        for _ in range(self.first):
            self.renew()
        for kind in self.kinds:
            self.add(kind)

    def add(self, kind: tuple[bool, bool]) -> None:
        two, long = kind
        names = list(NOUNS)
        count = lambda: 2 if two else int(self.rng.random() >= NOTHING)
        draw = lambda: draw_caption(self.rng, *self.rng.choice(names, count(), replace=False).tolist(), long=long, plain=self.plain)
        captions = [draw() for _ in range(CHUNK)]
        captions.sort(key=lambda c: len(c.text))
        self.kinds[kind].extend(zip(captions, encode(self.clip, [c.text for c in captions])))

    def draw(self, two: bool, count: int) -> tuple[list[Caption], np.ndarray, torch.Tensor]:
        """Captions, whether each keeps its text or has the empty prompt's, and the states padded with zeros (count, tokens, 384).

        Mostly they are padded to the longest of their kind; at times to many more tokens, as beside a longer prompt.
        """
        kind = self.kinds[two, bool(self.rng.random() < LONG)]
        picked = [kind[i] for i in self.rng.integers(0, len(kind), count)]
        told = self.rng.random(count) >= NO_CAPTION
        states = [s if t else self.empty for (_, s), t in zip(picked, told)]
        padded = torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()
        if self.rng.random() < PADDED:
            padded = torch.nn.functional.pad(padded, (0, 0, 0, int(self.rng.integers(10, 70))))
        return [c for c, _ in picked], told, padded

    def whitening(self) -> torch.Tensor:
        return whitening(torch.cat([s for kind in self.kinds.values() for _, s in kind]))
