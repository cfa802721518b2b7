"""Captions with MiniLM's states of them: drawn and encoded anew all the time, each used a dozen times."""

from collections import deque

import numpy as np
import torch

from .captions import Caption, draw_caption
from .nouns import NOUNS

CHUNK = 64  # captions encoded at once
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


class Pool:
    """Captions of no or one noun, and of two, with their states."""

    def __init__(self, clip, rng: np.random.Generator, size: int):
        self.clip, self.rng = clip, rng
        self.single, self.pair = deque(maxlen=size), deque(maxlen=size)
        self.empty = encode(clip, [""])[0]

    def renew(self, kind: deque, nothing: float) -> None:
        """Add a chunk of captions; the oldest go."""
        two = kind is self.pair
        names = list(NOUNS)
        nouns = [
            () if not two and self.rng.random() < nothing else self.rng.choice(names, 1 + two, replace=False).tolist() for _ in range(CHUNK)
        ]
        captions = [draw_caption(self.rng, *n) for n in nouns]
        captions.sort(key=lambda c: len(c.text))
        kind.extend(zip(captions, encode(self.clip, [c.text for c in captions])))

    def draw(self, kind: deque, count: int, no_caption: float) -> tuple[list[Caption], torch.Tensor]:
        """Captions, and their states padded with zeros (count, tokens, 384); some of them without their text."""
        picked = [kind[i] for i in self.rng.integers(0, len(kind), count)]
        states = [self.empty if self.rng.random() < no_caption else s for _, s in picked]
        return [c for c, _ in picked], torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float()

    def whitening(self) -> torch.Tensor:
        """The symmetric matrix (384, 384) that gives the pool's states a second moment of about one in every direction.

        It is not part of the text encoder: the cross-attention's key and value weights take it in when they are written.
        """
        states = torch.cat([s for kind in (self.single, self.pair) for _, s in kind]).float()
        values, vectors = torch.linalg.eigh(states.T @ states / len(states))
        return vectors @ torch.diag((values + DAMPING * values.mean()).rsqrt()) @ vectors.T
