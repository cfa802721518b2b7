"""A text encoder's own words: how it splits one, and which it has learnt to hold near another, by their tokens alone."""

import json
from collections.abc import Iterable
from pathlib import Path
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


def common() -> list[str]:
    """The words of CLIP's vocabulary, which every ComfyUI carries: what people write under pictures, of three letters and more."""
    import comfy.sd1_clip

    path = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer" / "vocab.json"
    if not path.is_file():
        return []
    return [word for word in whole(json.loads(path.read_text(encoding="utf-8"))) if len(word) > 2]


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


def meant(tokenizer: Any, rows: torch.Tensor, words: list[str]) -> torch.Tensor:
    """The encoder's row for every word, of one in several tokens their mean: (N, D)."""
    place = {token: i for i, token in tokenizer.inv_vocab.items()}
    single = ([place[t] for t in (w + MARKS[0], MARKS[2] + w, w) if t in place][:1] for w in words)
    ids = [own or ids_of(tokenizer, w) for own, w in zip(single, words)]
    counts = torch.tensor([len(own) for own in ids])
    of = torch.repeat_interleave(torch.arange(len(ids)), counts)
    every = rows[[i for own in ids for i in own]].float().cpu()
    return torch.zeros(len(ids), rows.shape[1]).index_add_(0, of, every) / counts.clamp_min(1)[:, None]


def near(clip: Any, words: list[str], vocabulary: list[str], count: int) -> dict[str, list[str]]:
    """For each of `words` the `count` of the vocabulary whose tokens have the nearest rows to its own tokens', nearest first."""
    tokenizer, rows = tokens_of(clip)
    known = meant(tokenizer, rows, vocabulary)
    middle = known.mean(0)
    known = torch.nn.functional.normalize(known - middle, dim=1)
    found = {}
    for word in words:
        own = rows[ids_of(tokenizer, word)].float().cpu().mean(0) - middle
        order = (known @ own).topk(min(count + 1, len(known))).indices.tolist()
        found[word] = [vocabulary[i] for i in order if vocabulary[i].lower() != word.lower()][:count]
    return found
