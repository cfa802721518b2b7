"""A text encoder's own words: how it splits one, and which it has learnt to hold near another, by their tokens alone."""

from collections.abc import Iterable
from typing import Any

import torch

MARKS = ("</w>", "##", "▁")  # of tokens that end, go on with or begin a word


def whole(tokens: Iterable[str]) -> list[str]:
    """The tokens of a table that are words: BPE marks where one ends, SentencePiece where one begins, WordPiece what goes on."""
    ends, goes_on, begins = MARKS
    tokens = list(tokens)
    words = [t.removesuffix(ends) for t in tokens if t.endswith(ends)] or [t.removeprefix(begins) for t in tokens if t.startswith(begins)]
    words = words or [t for t in tokens if not t.startswith(goes_on)]
    return sorted(w for w in words if w.isascii() and w.isalpha())  # the table's own order differs from run to run


def tokens_of(clip: Any) -> tuple[Any, torch.Tensor]:
    """The first tokenizer of a CLIP that has a table, and its encoder's row for every token, (tokens, D)."""
    tokenizer = next(t for t in vars(clip.tokenizer).values() if hasattr(t, "inv_vocab"))
    encoder = next(m for m in clip.cond_stage_model.children() if hasattr(m, "transformer"))
    return tokenizer, encoder.transformer.get_input_embeddings().weight.detach()


def ids_of(tokenizer: Any, word: str) -> list[int]:
    """A word's tokens without those that begin, end and pad a prompt."""
    special = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}
    return [i for i in tokenizer.tokenizer(word)["input_ids"] if i not in special]


def split(clip: Any, word: str) -> list[str | None]:
    """The pieces that a word is read in, None for what the encoder has no sign for."""
    tokenizer, _ = tokens_of(clip)
    pieces: list[str | None] = []
    for token in ids_of(tokenizer, word):
        piece = tokenizer.inv_vocab[token]
        for mark in MARKS:
            piece = piece.replace(mark, "")
        pieces.append(None if token == getattr(tokenizer.tokenizer, "unk_token_id", None) else piece)
    return pieces


def goes_on(clip: Any, prompts: list[str]) -> list[list[bool]]:
    """Of every token of each prompt, its ends and padding too, whether it goes on with the word that the token before it is of."""
    tokenizer, _ = tokens_of(clip)
    ends, marked, begins = MARKS
    kind = next((mark for mark in MARKS if any(mark in token for token in tokenizer.inv_vocab.values())), None)
    special = {tokenizer.start_token, tokenizer.end_token, tokenizer.pad_token}

    def joined(before: str | None, token: str | None) -> bool:
        if before is None or token is None or kind is None:
            return False
        return {ends: not before.endswith(ends), marked: token.startswith(marked), begins: not token.startswith(begins)}[kind]

    found = []
    for prompt in prompts:
        ids = [token[0] for chunk in next(iter(clip.tokenize(prompt).values())) for token in chunk]
        own = [None if i in special else tokenizer.inv_vocab.get(i, "") for i in ids]
        found.append([joined(a, b) for a, b in zip([None, *own], own)])
    return found


def near(clip: Any, words: list[str], vocabulary: list[str], count: int) -> dict[str, list[str]]:
    """For each of `words` the `count` of the vocabulary whose token has the nearest row to its own tokens', nearest first."""
    tokenizer, rows = tokens_of(clip)
    place = {token: i for i, token in tokenizer.inv_vocab.items()}
    known = rows[[next(place[t] for t in (w + MARKS[0], MARKS[2] + w, w) if t in place) for w in vocabulary]].float().cpu()
    middle = known.mean(0)
    known = torch.nn.functional.normalize(known - middle, dim=1)
    found = {}
    for word in words:
        own = rows[ids_of(tokenizer, word)].float().cpu().mean(0) - middle
        order = (known @ own).topk(min(count + 1, len(known))).indices.tolist()
        found[word] = [vocabulary[i] for i in order if vocabulary[i].lower() != word.lower()][:count]
    return found
