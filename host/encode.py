"""Prompts through a base's own text encoder: what the denoiser attends to, and what the hypernetwork reads."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from unhype.condition import Condition, read_condition

Conditioning = list[list[Any]]  # ComfyUI's: token states and a dict with what else there is, in each entry
Tokens = dict[str, list[list[tuple[Any, float]]]]  # encoder -> chunks of tokens and their weights
Pair = tuple[torch.Tensor, torch.Tensor]  # token states, pooled
Watch = Callable[[int], object]  # told how many more prompts are done

TOGETHER = 32  # prompts in one forward of the text encoder


@dataclass
class Text:
    """Prompts encoded: what the denoiser attends to, and what the hypernetwork reads."""

    tokens: torch.Tensor  # (N, T, D)
    pooled: torch.Tensor  # (N, P)

    def condition(self) -> Condition:
        return read_condition(self.tokens, self.pooled)

    def conditioning(self) -> Conditioning:
        """As a ComfyUI CONDITIONING of N rows."""
        return [[self.tokens, {"pooled_output": self.pooled}]]

    def repeated(self, count: int) -> "Text":
        """The only row, `count` times."""
        return Text(self.tokens.expand(count, -1, -1), self.pooled.expand(count, -1))

    def rows(self, index: torch.Tensor | slice | list[int]) -> "Text":
        return Text(self.tokens[index], self.pooled[index])

    def to(self, device: torch.device | str) -> "Text":
        return Text(self.tokens.to(device), self.pooled.to(device))


def tokenize(clip: Any, prompts: list[str]) -> list[Tokens]:
    """The prompts' tokens, by encoder; an open-ended encoder's (T5) padded to the longest prompt's length."""
    tokens = [clip.tokenize(p) for p in prompts]
    lengths = {key: {len(t[key][0]) for t in tokens} for key in tokens[0]}
    options = {f"{key}_min_length": max(found) for key, found in lengths.items() if len(found) > 1}
    return [clip.tokenize(p, tokenizer_options=options) for p in prompts] if options else tokens


def whole_words(tokens: Iterable[str]) -> list[str]:
    """The tokens of a tokenizer's table that are words: CLIP's BPE marks where one ends, WordPiece what only goes on with one."""
    tokens = list(tokens)
    words = [t.removesuffix("</w>") for t in tokens if t.endswith("</w>")] or [t for t in tokens if not t.startswith("##")]
    return sorted(w for w in words if w.isascii() and w.isalpha())  # the table's own order differs from run to run


def encode_alone(clip: Any, tokens: Tokens, watch: Watch | None = None) -> Pair:
    """(states, pooled) of one prompt."""
    pair: Pair = clip.encode_from_tokens(tokens, return_pooled=True)
    if watch:
        watch(1)
    return pair


def encode_together(clip: Any, tokens: list[Tokens], watch: Watch | None = None) -> list[Pair] | None:
    """(states, pooled) of every prompt, many to a forward, as encode_from_tokens makes them one by one.

    `watch` is told how many more are done. None where that is not so simple: more than one text encoder, chunk or weight.
    """
    encoder = getattr(clip.cond_stage_model, getattr(clip.cond_stage_model, "clip", ""), None)
    if encoder is None or any(len(t) != 1 for t in tokens):
        return None
    chunks = [c for t in tokens for c in next(iter(t.values()))]
    if len(chunks) != len(tokens) or any(weight != 1 for c in chunks for _, weight in c):
        return None
    clip.encode_from_tokens(tokens[0])  # loads the encoder and sets its layer
    pairs = []
    for start in range(0, len(chunks), TOGETHER):
        states, pooled = encoder.encode([[token for token, _ in c] for c in chunks[start : start + TOGETHER]])[:2]
        pairs += [(s[None].cpu(), p[None].cpu()) for s, p in zip(states, pooled)]
        if watch:
            watch(len(states))
    return pairs
