"""What the base sees in noise when it is asked for a concept, and for a word: whether it would draw the same.

It is asked where a picture is decided, in noise with hardly a picture in it: later the picture that is there is seen whatever is
asked for. How far its prediction for the word lies from that for the concept is taken as a share of how far that for the mapping concept
or for meaningless letters lies, whichever is nearer. Less that of 1, the word is drawn alike (1), as if it meant nothing (0), or as
another thing (below 0).
"""

import torch

from host.backbone import Backbone
from host.encode import Text

from ..run import processes
from ..settings.fields import Config
from .concepts import Erase
from .templates import fill
from .unfamiliar import meaningless_letters

PROMPTS, STEPS, KEPT = 4, 8, (0, 1)  # templates that are drawn, in how many steps, and those whose latents are looked at
LETTERS = 4  # meaningless words
KNOWN = 0.05  # how far, as a share of the mapping concept's way, letters lie at the least from a concept that the base draws


class Eyes:
    """A concept's noisy latents in some templates, the least noisy first, and what the base predicts on them."""

    @torch.no_grad()
    def __init__(self, config: Config, backbone: Backbone, prompts: list[str], concept: Erase):
        self.config, self.backbone, self.prompts = config, backbone, prompts
        named, mapped, letters = (self.read(names) for names in ([concept.name], [concept.mapping], meaningless_letters(LETTERS)))
        empty = backbone.encode([""]).repeated(len(prompts))
        with self.autocast():
            kept = backbone.sample(
                named.conditioning(), empty.conditioning(), config.size_of(False), config.seed, STEPS, config.cfg, keep=[*KEPT]
            )
        self.kept = kept[::-1]
        rows, levels = len(prompts), len(KEPT)
        self.own = self.predicted(named, rows, levels)[:, 0]
        mapped, letters = (self.apart(text, rows, levels).mean((1, 2)) for text in (mapped, letters))
        drawn = bool(letters.sum() > KNOWN * mapped.sum())
        self.whole = torch.minimum(mapped, letters) if drawn else torch.zeros(levels)  # else every word it does not know is alike

    def read(self, names: list[str], rows: int = PROMPTS) -> Text:
        return self.backbone.encode([fill(p, name) for name in names for p in self.prompts[:rows]])

    def autocast(self):
        return torch.autocast(self.backbone.device.type, torch.bfloat16, enabled=self.config.autocast == "bf16")

    @torch.no_grad()
    def predicted(self, text: Text, rows: int, levels: int) -> torch.Tensor:
        """For prompts name by name, on the first rows of the first noise levels: (levels, names, rows, C, H, W), on the CPU."""
        self.backbone.load()  # the text encoder may have taken its room
        found = []
        for x, sigma in self.kept[:levels]:
            for start in range(0, len(text.tokens), self.config.batch):
                part = text.rows(slice(start, start + self.config.batch)).to(x.device)
                latents = x[[i % rows for i in range(start, start + len(part.tokens))]]
                sigmas = torch.full((len(latents),), sigma, device=x.device)
                with self.autocast():
                    found.append(self.backbone.predict(latents, sigmas, part.tokens, part.pooled, part.mask).float().cpu())
        return torch.cat(found).unflatten(0, (levels, -1, rows))

    def apart(self, text: Text, rows: int, levels: int) -> torch.Tensor:
        """The squared distance from what is predicted for the concept: (levels, names, rows)."""
        return (self.predicted(text, rows, levels) - self.own[:levels, None, :rows]).square().mean((3, 4, 5))

    def shares(self, words: list[str], rows: int, levels: int) -> list[float]:
        return share(self.apart(self.read(words, rows), rows, levels).mean(2), self.whole[:levels])


def share(apart: torch.Tensor, whole: torch.Tensor) -> list[float]:
    """Of how much of the whole way (levels,) words (levels, N) are drawn as the concept: the same in every process, and 0 where there
    is no way."""
    whole = processes.from_first(whole)
    way = bool((whole > 0).all() and whole.isfinite().all())
    shares = (1 - apart / whole[:, None]).mean(0) if way else torch.zeros(apart.shape[1])
    return processes.from_first(shares).tolist()
