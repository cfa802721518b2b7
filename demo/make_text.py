"""Captions as token ids, and the text encoder as it is trained: for make_base.py."""

import math

import torch
from torch.nn import functional as F

from . import captions

FILLER = 0.20  # share of captions with words mixed in that the base never learns
START, END, CHUNK = 49406, 49407, 77


class Captions:
    """Caption text -> token ids as ComfyUI's tokenizer makes them, with words the base never learns mixed in."""

    def __init__(self, tokenizer, rng):
        self.tokenizer, self.rng, self.cache = tokenizer, rng, {}
        vocabulary = tokenizer.get_vocab()
        known = {i for w in captions.NOUN_OF_WORD for i in self.words(w)}
        whole = sorted(i for t, i in vocabulary.items() if t.endswith("</w>") and t[:-4].isalpha() and t[:-4].isascii())
        self.fillers = [i for i in rng.choice(whole, 4000, replace=False).tolist() if i not in known]

    def words(self, text):
        ids = []
        for word in text.split():
            if word not in self.cache:
                self.cache[word] = self.tokenizer(word).input_ids[1:-1]
            ids += self.cache[word]
        return ids

    def filler(self, low, high):
        return self.rng.choice(self.fillers, self.rng.integers(low, high)).tolist()

    def chunk(self, ids):
        ids = ids[: CHUNK - 2]
        return [START, *ids, END] + [END] * (CHUNK - 2 - len(ids))

    def row(self, text):
        ids = self.words(text)
        if text and self.rng.random() < FILLER:
            extra = self.filler(1, 9)
            ids = extra + ids if self.rng.random() < 0.5 else ids + extra
        return self.chunk(ids)


class TextEncoder(torch.nn.Module):
    """ComfyUI's CLIP text model, trained on the few embedding rows that captions use."""

    def __init__(self, model, used):
        super().__init__()
        self.model = model
        self.used = torch.tensor(sorted(used))
        table = model.embeddings.token_embedding.weight
        table.requires_grad_(False)
        self.row_of = torch.full((len(table),), -1)
        self.row_of[self.used] = torch.arange(len(self.used))
        self.rows = torch.nn.Parameter(table[self.used].clone())

    def forward(self, ids):
        """Token ids (N, 77) -> states (N, 77, 128), pooled (N, 128)."""
        rows = self.row_of[ids]
        embedded = F.embedding(rows.clamp(min=0), self.rows)
        frozen = self.model.embeddings.token_embedding.weight[ids]
        x = torch.where((rows >= 0)[..., None], embedded, frozen) + self.model.embeddings.position_embedding.weight
        mask = torch.full((CHUNK, CHUNK), -1e9).triu_(1)
        for layer in self.model.encoder.layers:  # the module's own forward works in place, which autograd refuses
            attention = layer.self_attn
            q, k, v = (
                p(layer.layer_norm1(x)).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
                for p in (attention.q_proj, attention.k_proj, attention.v_proj)
            )
            scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask
            x = x + attention.out_proj((scores.softmax(-1).to(v.dtype) @ v).transpose(1, 2).flatten(2))
            x = x + layer.mlp(layer.layer_norm2(x))
        x = self.model.final_layer_norm(x)
        return x, x[torch.arange(len(ids)), (ids == END).int().argmax(1)]

    def write_back(self):
        with torch.no_grad():
            self.model.embeddings.token_embedding.weight[self.used] = self.rows
