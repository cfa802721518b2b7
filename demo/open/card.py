"""What the emoji-open base is trained on, laid out on a graphics card: captions with their states, and latents.

A batch is drawn there by lot, without a word from the CPU, so that a whole step can be one CUDA graph.
"""

import numpy as np
import torch
from torch.nn import functional as F

from ..captions import BACKGROUNDS
from . import drawings
from .captions import STYLES, draw_caption
from .nouns import NOUNS
from .pool import NO_CAPTION, NOTHING, whitening

WIDTHS, WIDE = (16, 24, 32, 48, 96, 128), 64  # tokens of a batch; from WIDE on half of its captions are long ones
SHORT_CAPTIONS, LONG_CAPTIONS = 100_000, 20_000  # of one noun, and as many of two
DRAWN, ENCODED = 5_000, 2048  # captions that a process draws at once, and that are encoded at once


def caption_rows(job: tuple[list[int], int, bool, bool, bool]) -> tuple[list[str], np.ndarray]:
    """Captions, and of each (first noun, second, style, background) as indices, -1 for none or any: for a process of its own."""
    seed, count, two, long, plain = job
    rng, names = np.random.default_rng(seed), list(NOUNS)
    texts, rows = [], np.full((count, 4), -1)
    for row in rows:
        nouns = rng.choice(len(names), 2 if two else int(rng.random() >= NOTHING), replace=False)
        caption = draw_caption(rng, *(names[n] for n in nouns), long=long, plain=plain)
        row[: len(nouns)] = nouns
        row[2] = STYLES.index(caption.style) if caption.style else -1
        row[3] = list(BACKGROUNDS).index(caption.background) if caption.background else -1
        texts.append(caption.text)
    return texts, rows


class Encoder:
    """MiniLM on the card: captions to states."""

    def __init__(self, clip, device):
        self.tokenizer = clip.tokenizer.minilm.tokenizer
        self.transformer = clip.cond_stage_model.minilm.transformer.to(device)
        self.device = device

    @torch.no_grad()
    def fill(self, texts: list[str], states: torch.Tensor) -> tuple[torch.Tensor, np.ndarray]:
        """Writes the texts' states into `states` (texts, tokens, 384) in order of length, zeros behind; lengths, and that order.

        Raises ValueError where a text is longer than that.
        """
        tokens = self.tokenizer(texts)["input_ids"]
        lengths = np.array([len(t) for t in tokens])
        if lengths.max() > states.shape[1]:
            raise ValueError(f"a caption has {lengths.max()} tokens, {states.shape[1]} are the most: {texts[lengths.argmax()]!r}")
        order = lengths.argsort(kind="stable")
        states.zero_()
        for start in range(0, len(order), ENCODED):
            part = order[start : start + ENCODED]
            longest = lengths[part[-1]]
            ids = torch.tensor([tokens[i] + [0] * (longest - lengths[i]) for i in part], device=self.device)
            mask = torch.arange(longest, device=self.device) < torch.tensor(lengths[part], device=self.device)[:, None]
            found = self.transformer(ids, attention_mask=mask.long())[0]
            states[start : start + len(part), :longest] = (found * mask[..., None]).half()
        return torch.tensor(lengths[order], device=self.device), order


class Captions:
    """Captions of one length class with their states, in order of length, drawn anew in place."""

    def __init__(self, encoder: Encoder, count: int, tokens: int):
        self.encoder, device = encoder, encoder.device
        self.states = torch.zeros(count, tokens, 384, dtype=torch.float16, device=device)
        self.rows = torch.zeros(count, 4, dtype=torch.long, device=device)
        self.fitting = torch.zeros(tokens + 1, device=device)  # how many captions have at most so many tokens

    def fill(self, texts: list[str], rows: np.ndarray) -> None:
        lengths, order = self.encoder.fill(texts, self.states)
        self.rows.copy_(torch.tensor(rows[order]))
        self.fitting.copy_((lengths[:, None] <= torch.arange(len(self.fitting), device=lengths.device)).sum(0))

    def draw(self, count: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """States (count, tokens, 384) and rows (count, 4) of captions that have at most so many tokens."""
        most = min(tokens, self.states.shape[1])
        picked = (torch.rand(count, device=self.rows.device) * self.fitting[most]).long()
        return F.pad(self.states[picked, :most], (0, 0, 0, tokens - most)), self.rows[picked]


class Data:
    """Batches of pictures of one noun or two, with their captions' states."""

    def __init__(self, encoder: Encoder, sheet: dict, autoencoder):
        self.device = encoder.device
        self.kinds = {
            (two, long): Captions(encoder, LONG_CAPTIONS if long else SHORT_CAPTIONS, WIDTHS[-1] if long else WIDE)
            for two in (False, True)
            for long in (False, True)
        }
        self.empty = torch.zeros(1, WIDTHS[-1], 384, dtype=torch.float16, device=self.device)
        encoder.fill([""], self.empty)
        autoencoder = autoencoder.to(self.device)
        encode = lambda pictures: autoencoder.encode(drawings.as_images(pictures).to(self.device)).half()
        nothing = [None] * drawings.VARIANTS
        cells = lambda noun: [(cell, b) for s in STYLES for b in BACKGROUNDS for cell in (sheet[noun, s] if noun else nothing)]
        # The last entry is the background alone: where a row's noun is -1.
        self.cells = torch.stack([encode([drawings.on_background(*c) for c in cells(noun)]) for noun in [*NOUNS, None]])
        self.cells = self.cells.unflatten(1, (len(STYLES), len(BACKGROUNDS), drawings.VARIANTS))

    def jobs(self, seed: int, plain: bool) -> list[tuple]:
        """What `caption_rows` is given for captions of every kind."""
        kinds = [(kind, start) for kind, captions in self.kinds.items() for start in range(0, len(captions.rows), DRAWN)]
        return [([seed, i], DRAWN, *kind, plain) for i, (kind, _) in enumerate(kinds)]

    def fill(self, drawn: list[tuple[list[str], np.ndarray]]) -> None:
        """New captions of every kind, as `jobs` asked for them."""
        drawn = list(drawn)
        for captions in self.kinds.values():
            parts = [drawn.pop(0) for _ in range(0, len(captions.rows), DRAWN)]
            captions.fill([text for texts, _ in parts for text in texts], np.concatenate([rows for _, rows in parts]))

    def whitening(self) -> torch.Tensor:
        states = torch.cat([captions.states.flatten(0, 1) for captions in self.kinds.values()])
        return whitening(states[states.any(1)])

    def draw(self, two: bool, count: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents (count, 32, 8, 8 or 16), states (count, tokens, 384), and which nouns the text names (count, 1 or 2), -1 for none."""
        long = count // 2 if tokens > WIDE else 0
        parts = [self.kinds[two, False].draw(count - long, tokens)] + ([self.kinds[two, True].draw(long, tokens)] if long else [])
        states, rows = (torch.cat(each) for each in zip(*parts))
        chance = lambda: torch.rand(count, device=self.device)
        told = chance() >= NO_CAPTION
        states = torch.where(told[:, None, None], states, self.empty[:, :tokens])
        any_of = lambda given, many: torch.where(given < 0, (chance() * many).long(), given)
        nouns, style, background = rows[:, : 1 + two], any_of(rows[:, 2], len(STYLES)), any_of(rows[:, 3], len(BACKGROUNDS))
        of = lambda noun: self.cells[noun, style, background, (chance() * drawings.VARIANTS).long()]
        latents = torch.cat([of(noun) for noun in nouns.unbind(1)], -1).float()
        return latents, states.float(), torch.where(told[:, None], nouns, -1)
