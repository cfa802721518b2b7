"""Prompts through a base's own text encoder: what the denoiser attends to, and what the hypernetwork reads."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from unhype.condition import Condition, read_condition

Conditioning = list[list[Any]]  # ComfyUI's: token states and a dict with what else there is, in each entry
Tokens = dict[str, list[list[tuple[Any, float]]]]  # encoder -> chunks of tokens and their weights
Encoded = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]  # token states, pooled embedding, attention_mask
Watch = Callable[[int], object]  # told how many more prompts are done

TOGETHER = 32  # prompts in one forward of the text encoder


@dataclass
class Text:
    """Prompts encoded: what the denoiser attends to, and what the hypernetwork reads."""

    tokens: torch.Tensor  # (N, T, D)
    pooled: torch.Tensor  # (N, P), (N, 0) of a family that reads none
    mask: torch.Tensor | None = None  # (N, T), 1 where a token is real, of a family whose denoiser heeds it

    def condition(self) -> Condition:
        return read_condition(self.tokens, self.pooled, attention_mask=self.mask, reads_pooled=self.pooled.shape[1] > 0)

    def conditioning(self) -> Conditioning:
        """As a ComfyUI CONDITIONING of N rows."""
        extra = {"pooled_output": self.pooled if self.pooled.shape[1] else None}
        return [[self.tokens, extra if self.mask is None else extra | {"attention_mask": self.mask}]]

    def meaning(self) -> torch.Tensor:
        """One embedding of each prompt, (N, P or D): the pooled one, or where there is none the mean of the token states that are seen."""
        if self.pooled.shape[1]:
            return self.pooled
        c = self.condition()
        return (c.tokens.float() * c.mask[..., None]).sum(1) / c.mask.sum(1, keepdim=True).clamp_min(1)

    def repeated(self, count: int) -> "Text":
        """The only row, `count` times."""
        return self.each(lambda t: t.expand(count, *t.shape[1:]))

    def rows(self, index: torch.Tensor | slice | list[int]) -> "Text":
        return self.each(lambda t: t[index])

    def beside(self, other: "Text") -> "Text":
        """The rows of both in one batch, as the host puts them there: tokens are repeated up to a length that both divide."""
        length = math.lcm(self.tokens.shape[1], other.tokens.shape[1])
        one, two = self.lengthened(length), other.lengthened(length)
        mask = None if one.mask is None or two.mask is None else torch.cat([one.mask, two.mask])
        return Text(torch.cat([one.tokens, two.tokens]), torch.cat([one.pooled, two.pooled]), mask)

    def lengthened(self, length: int) -> "Text":
        """Every row's tokens repeated up to a length that theirs divides."""
        times = length // self.tokens.shape[1]
        return Text(self.tokens.repeat(1, times, 1), self.pooled, None if self.mask is None else self.mask.repeat(1, times))

    def to(self, device: torch.device | str) -> "Text":
        return self.each(lambda t: t.to(device))

    def each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Text":
        return Text(change(self.tokens), change(self.pooled), None if self.mask is None else change(self.mask))


def tokenize(clip: Any, prompts: list[str]) -> list[Tokens]:
    """The prompts' tokens, by encoder; an open-ended encoder's (T5) padded to the longest prompt's length."""
    tokens = [clip.tokenize(p) for p in prompts]
    lengths = {key: {len(t[key][0]) for t in tokens} for key in tokens[0]}
    options = {f"{key}_min_length": max(found) for key, found in lengths.items() if len(found) > 1}
    return [clip.tokenize(p, tokenizer_options=options) for p in prompts] if options else tokens


def encode_alone(clip: Any, tokens: Tokens, watch: Watch | None = None) -> Encoded:
    """One prompt, as CLIPTextEncode encodes it."""
    found = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
    if watch:
        watch(1)
    return found["cond"], found["pooled_output"], found.get("attention_mask")


def row(values: torch.Tensor, i: int) -> torch.Tensor:
    return values[i : i + 1].cpu()


def encode_together(clip: Any, tokens: list[Tokens], watch: Watch | None = None) -> list[Encoded] | None:
    """Every prompt, many to a forward, as encode_from_tokens makes them one by one.

    `watch` is told how many more are done. None where that is not so simple: more than one text encoder, chunk or weight, or
    an encoder that works on after its states.
    """
    from comfy.sd1_clip import SD1ClipModel

    model = clip.cond_stage_model
    encoder = getattr(model, getattr(model, "clip", ""), None)
    if encoder is None or any(len(t) != 1 for t in tokens) or type(model).encode_token_weights is not SD1ClipModel.encode_token_weights:
        return None
    chunks = [c for t in tokens for c in next(iter(t.values()))]
    if len(chunks) != len(tokens) or any(weight != 1 for c in chunks for _, weight in c):
        return None
    clip.encode_from_tokens(tokens[0])  # loads the encoder and sets its layer
    ids = [[token for token, _ in c] for c in chunks]
    lengths = [read_of(encoder, own) for own in ids]
    order = sorted(range(len(ids)), key=lengths.__getitem__)  # the short ones together
    found: dict[int, Encoded] = {}
    for start in range(0, len(order), TOGETHER):
        part = order[start : start + TOGETHER]
        length = max(lengths[i] for i in part)
        states, pooled, *extra = encoder.encode([ids[i][:length] for i in part])
        mask = extra[0].get("attention_mask") if extra else None
        states = torch.nn.functional.pad(states, (0, 0, 0, len(ids[0]) - length))
        mask = None if mask is None else torch.nn.functional.pad(mask, (0, len(ids[0]) - length))
        for i, number in enumerate(part):
            found[number] = row(states, i), None if pooled is None else row(pooled, i), None if mask is None else row(mask, i)
        if watch:
            watch(len(states))
    return [found[i] for i in range(len(ids))]


def read_of(encoder: Any, ids: list[Any]) -> int:
    """How many of a chunk's tokens have to be read: without the padding at its end, where that is hidden and its states are zeros."""
    if not (getattr(encoder, "enable_attention_masks", False) and getattr(encoder, "zero_out_masked", False)):
        return len(ids)
    padding = encoder.special_tokens.get("pad")
    return next((i for i in range(len(ids), 0, -1) if ids[i - 1] != padding), len(ids))
