"""Everything that the training steps read: prompts encoded, which concepts they name, samples drawn."""

import dataclasses
from pathlib import Path

import torch

from unhype.condition import Condition, stack_conditions

from . import concepts, samples
from .backbone import Backbone
from .config import Config
from .samples import Labels


class Data:
    """Target and retain prompts, their conditions and labels, and the samples of the targets.

    With `unconditional` the targets are ESD's: prompts of one concept each, which become the empty prompt.
    """

    def __init__(self, config: Config, backbone: Backbone, progress=print, unconditional: bool = False):
        backbone.load()
        erased = config.erased()
        self.targets = concepts.target_prompts(erased, config.retain, max(16, config.pictures // 2), config.seed)
        if unconditional:
            self.targets = [dataclasses.replace(t, mapped="") for t in self.targets if not t.prompt.pair]
        self.retain = concepts.retain_prompts(
            config.retain, erased, config.templates, config.retain_prompts, 2 * len(config.retain), config.seed
        )
        self.labels = Labels(*(torch.zeros(len(self.targets), len(erased), dtype=torch.bool) for _ in range(2)))
        for row, target in enumerate(self.targets):
            self.labels.named[row, list(target.named)] = True
            self.labels.off[row, list(target.off)] = True
        texts = [t.prompt.text for t in self.targets]
        kept = [p.text for p in self.retain] + [""]
        # For the switch alone: prompts among other words, the safe ones as many as the targets.
        mixed = concepts.among_words([*texts, *kept[:: max(1, len(kept) // len(texts))]], config.retain or [""], config.seed)
        self.mixed_named = torch.zeros(len(mixed), len(erased), dtype=torch.bool)
        self.mixed_named[: len(texts)] = self.labels.named
        progress(f"encoding {2 * len(texts) + len(kept) + len(mixed)} prompts")
        self.text = backbone.encode(texts)
        mapped = backbone.encode([t.mapped for t in self.targets])
        self.conditions, self.retain_conditions, self.mixed_conditions = [], [], []
        for skip in config.clip_skips:
            self.conditions.append((self.text if skip == 1 else backbone.encode(texts, skip)).condition())
            self.retain_conditions.append(backbone.encode(kept, skip).condition())
            self.mixed_conditions.append(backbone.encode(mixed, skip).condition())
        cache = Path(config.out).with_suffix(".cache.safetensors")
        self.samples = samples.cached_samples(backbone, config, self.targets, self.text, mapped, cache, progress)

    def retained(self, iteration: int, count: int, rng: torch.Generator) -> tuple[Condition, torch.Tensor]:
        """Conditions whose adapter is to be zero, and the concepts that are off, (N, K): retain prompts; with several
        concepts also, for a quarter of them, target prompts whose concepts are off."""
        which = iteration % len(self.conditions)
        concepts = self.labels.named.shape[1]
        kept, targets = self.retain_conditions[which], count // 4 if concepts > 1 else 0
        pick = torch.randint(len(kept.pooled), (count - targets,), generator=rng)
        nothing = torch.zeros(len(pick), concepts, dtype=torch.bool)
        off = Labels(nothing, nothing).some_off(rng)
        if not targets:
            return kept.rows(pick), off
        rows = torch.randint(len(self.targets), (targets,), generator=rng)
        named = self.labels.named[rows]
        both = stack_conditions([kept.rows(pick), self.conditions[which].rows(rows)])
        return both, torch.cat([off, Labels(named, named).some_off(rng)])
