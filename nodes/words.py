"""Which words a conditioning's tokens stand for: found again by encoding the texts of the graph with the CLIP that made it."""

from typing import Any

import torch

MOST = 16  # texts of a graph that are tried
ENDS, BEGINS = "</w>", "▁"  # CLIP marks where a word ends, T5 where one begins
OUTSIDE = ("<start>", "<end>")  # how a tokenizer's own marks before and behind a text are called; the last one fills it up
Clip = Any  # ComfyUI's classes have no types


def texts_before(prompt: dict[str, Any], node: str, name: str) -> list[str]:
    """The texts written into nodes from which an input of a node is made, the nearest first."""
    waiting, seen, texts = [prompt.get(node, {}).get("inputs", {}).get(name)], set[str](), list[str]()
    while waiting:
        link = waiting.pop(0)
        if not isinstance(link, list) or not link or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = prompt.get(link[0], {}).get("inputs", {}).values()
        texts += [value for value in inputs if isinstance(value, str)]
        waiting += inputs
    return texts[:MOST]


def words(clip: Clip, texts: list[str], states: torch.Tensor) -> list[str] | None:
    """The word of each of a prompt's token states (T, D), where one of the texts gives exactly these; None where none does."""
    for text in texts:
        tokens = clip.tokenize(text)
        own = clip.encode_from_tokens_scheduled(tokens)[0][0][0]
        if own.shape != states.shape or not torch.allclose(own.float().cpu(), states.float().cpu(), atol=1e-3, rtol=1e-3):
            continue
        for key, chunks in tokens.items():
            flat = [pair[0] for chunk in chunks for pair in chunk]
            tokenizer: Any = getattr(clip.tokenizer, key, None) or getattr(clip.tokenizer, f"clip_{key}", None)
            if len(flat) == len(states) and hasattr(tokenizer, "inv_vocab"):
                return whole_words([tokenizer.inv_vocab.get(i, "") if isinstance(i, int) else "embedding" for i in flat])
    return None


def whole_words(pieces: list[str]) -> list[str]:
    """Each piece's whole word: "kit", "ty</w>" -> "kitty" twice. What a tokenizer puts at the ends is called by OUTSIDE."""
    grouped: list[list[str]] = []
    for i, piece in enumerate(pieces):
        special = piece.startswith("<") and piece.endswith(">") and not piece.endswith(ENDS)
        before = pieces[i - 1] if i else ""
        apart = special or before.endswith((ENDS, ">")) or piece.startswith(BEGINS)
        if apart or not grouped:
            grouped.append([])
        grouped[-1].append(piece)
    named = []
    for group in grouped:
        word = "".join(group).replace(ENDS, "").replace(BEGINS, "")
        if word.startswith("<") and word.endswith(">") and not group[-1].endswith(ENDS):
            word = OUTSIDE["start" not in word and word != "<s>"]
        named += [word] * len(group)
    return named
