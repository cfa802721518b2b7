"""A text encoder without a denoiser, and texts encoded once: in batches of one length, kept by their content and the encoder's."""

import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from host.backbone import Backbone
from host.encode import Text
from unhype.condition import Condition, read_condition
from unhype.layers import FAMILIES

BATCH = 32  # prompts that are encoded together
ROWS = 512  # that are scored together


class TextOnly(Backbone):
    """A backbone that only encodes: its prompts need not be of one length, since the encoder's padding is zeros."""

    def __init__(self, clip):
        super().__init__(None, clip, None)

    @property
    def family(self):
        return next(iter(FAMILIES.values()))  # reads states and pooled embedding and nothing else

    def load(self, model=None) -> None:
        pass

    def encode(self, prompts: list[str], clip_skip: int = 1) -> Text:
        """As a Backbone's, shorter prompts padded with zeros; many times faster where the lengths differ."""
        length, rows = 0, []
        for batch in self.batches(prompts):
            text = super().encode([prompts[i] for i in batch], clip_skip)
            length = max(length, text.tokens.shape[1])
            rows += [(i, tokens, pooled) for i, tokens, pooled in zip(batch, text.tokens, text.pooled)]
        rows.sort(key=lambda row: row[0])
        states = torch.stack([torch.nn.functional.pad(t, (0, 0, 0, length - len(t))) for _, t, _ in rows])
        return Text(states, torch.stack([p for *_, p in rows]))

    def batches(self, prompts: list[str]) -> list[list[int]]:
        """Rows that are encoded together: of a like length, weighted prompts apart, since these go one by one."""
        kinds = []
        for prompt in prompts:
            (chunks,) = self.clip.tokenize(prompt).values()
            kinds.append((len(chunks), any(weight != 1 for c in chunks for _, weight in c), len(chunks[0])))
        order = sorted(range(len(prompts)), key=lambda i: kinds[i])
        batches: list[list[int]] = []
        for i in order:
            if not batches or len(batches[-1]) == BATCH or kinds[batches[-1][0]][:2] != kinds[i][:2]:
                batches.append([])
            batches[-1].append(i)
        return batches


def key_of(clip) -> str:
    """A hash of an encoder's weights."""
    digest = hashlib.sha256()
    for name, tensor in clip.cond_stage_model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Encoded:
    """Texts with the states of their real tokens, in half precision."""

    def __init__(self, texts: list[str], tensors: dict[str, torch.Tensor]):
        self.texts, self.states, self.pooled = texts, tensors["states"], tensors["pooled"]
        self.lengths = tensors["lengths"]
        self.starts = self.lengths.cumsum(0) - self.lengths

    def condition(self, rows: torch.Tensor) -> Condition:
        states = [self.states[self.starts[i] : self.starts[i] + self.lengths[i]] for i in rows.tolist()]
        return read_condition(torch.nn.utils.rnn.pad_sequence(states, batch_first=True).float(), self.pooled[rows].float())

    @torch.no_grad()
    def margins(self, network) -> torch.Tensor:
        """How far every concept's score lies above its threshold, (N, K): it fires above 0."""
        margins = torch.empty(len(self.texts), network.shape.concepts)
        for rows in self.lengths.argsort().split(ROWS):
            margins[rows] = network.scores(self.condition(rows)) - network.switch.threshold
        return margins


def encoded(backbone: TextOnly, texts: list[str], folder: Path, encoder_key: str, progress) -> Encoded:
    """The texts encoded, read from a file of an earlier run where there is one."""
    key = hashlib.sha256("\n".join([encoder_key, *texts]).encode()).hexdigest()[:16]
    path = folder / f"{key}.safetensors"
    if not path.exists():
        progress(f"encoding {len(texts)} texts, once")
        parts = []
        for batch in backbone.batches(texts):
            text = Backbone.encode(backbone, [texts[i] for i in batch])
            for row, i in enumerate(batch):
                real = text.tokens[row, text.condition().mask[row]].half()
                parts.append((i, real, text.pooled[row].half()))
        parts.sort(key=lambda part: part[0])
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp")
        save_file(
            {
                "states": torch.cat([states for _, states, _ in parts]),
                "lengths": torch.tensor([len(states) for _, states, _ in parts]),
                "pooled": torch.stack([pooled for *_, pooled in parts]),
            },
            unfinished,
        )
        unfinished.replace(path)
    return Encoded(texts, load_file(path))
