"""Everything that the training steps read: prompts encoded, which concepts they name, samples drawn."""

import dataclasses
import random

import torch

from host.backbone import Backbone
from unhype.condition import Condition, stack_conditions

from . import room, samples
from .config import Config
from .encoding import encode
from .prompts import concepts, wordings
from .prompts.answering import answers
from .prompts.neighbours import told_apart
from .reading import read_text
from .run.beside import cache_path
from .run.progress import watched
from .samples import Asked, Batch, Labels, Samples
from .text_task import TextTask, room_for

FEWEST_PAIRS = 16  # target prompts of a concept beside another thing
BARE = 16  # prompts of a word that no template makes
ANCHORS = 96  # retain prompts that are kept under the targets' adapters, at most
VOCABULARY = 800  # words of the text encoder's that prompts are mixed with
# Words that a prompt stands among at most: more names of other things would bury the concept, any words do not.
NAMES, ANY = 8, 50
AMONG = torch.tensor([2, 3, 4])  # the wordings of a target prompt that are the prompt among words


class Texts:
    """Target and retain prompts in several wordings, their conditions and labels: all that the switch is fitted on."""

    def __init__(self, config: Config, backbone: Backbone, progress=print, unconditional: bool = False):
        erased, seed = config.erased(), config.seed
        self.targets = concepts.target_prompts(erased, config.retain, max(FEWEST_PAIRS, config.pair_prompts // len(erased)), seed)
        if unconditional:
            self.targets = [dataclasses.replace(t, mapped="") for t in self.targets if not t.prompt.pair]
        self.retain = concepts.retain_prompts(config.retain, erased, config.templates, config.retain_prompts, 2 * len(config.retain), seed)
        share = self.fit_into(room.most_prompts(backbone, len(erased)), config)
        texts, kept = [t.prompt.text for t in self.targets], [""] + [p.text for p in self.retain]
        words = config.retain or [erased[0].mapping]
        bare = [concepts.bare_prompts(list(e.words), words, max(2, round(share * BARE)), seed + k) for k, e in enumerate(erased)]
        safe_names = random.Random(seed).sample(words, min(len(words), max(BARE, 2 * len(erased))))
        with watched(backbone, "encoding the text encoder's own words", None, progress):
            apart = told_apart(backbone, erased, config.retain, VOCABULARY, seed)
        self.words = known = apart.drawn
        among = lambda prompts, s: [
            text
            for i, (pool, most) in enumerate(((words, NAMES), (known, ANY), (known, ANY)))
            for text in concepts.among_words(prompts, pool, most, s + 1000 * i)
        ]
        self.target_texts = [*texts, *among(texts, seed), *(b for bs in bare for b in bs)]
        self.safe_texts = [
            *kept,
            *among(kept[:: max(1, len(kept) // len(texts))], seed + 1),
            *concepts.bare_prompts(safe_names, words, BARE // 2, seed),
        ]
        self.labels = labels_of(self.targets, len(erased))
        self.wording = self.wordings_of(bare)
        bare_named = torch.cat([torch.eye(len(erased), dtype=torch.bool)[k].expand(len(b), -1) for k, b in enumerate(bare)])
        self.named = torch.cat([*[self.labels.named] * 4, bare_named])  # of target_texts
        prompts = [*self.target_texts, *self.safe_texts]
        count = len(config.clip_skips) * len(prompts)
        progress(f"encoding {count} prompts")
        with watched(backbone, "encoding", count, progress):
            every = [encode(backbone, prompts, skip).condition() for skip in config.clip_skips]
        count = len(self.target_texts)
        self.conditions = every  # targets, then safe prompts; the others are parts of them
        self.text_read = read_text(config, backbone, every[0], apart, progress)
        self.target_conditions, self.safe_conditions = [c.rows(slice(count)) for c in every], [c.rows(slice(count, None)) for c in every]

    def seen(self) -> set[str]:
        """Every prompt that the training reads."""
        return {*self.target_texts, *self.safe_texts, *self.text_read.texts}

    def fit_into(self, most: int, config: Config) -> float:
        """Give up target and retain prompts until so many are read at most, in all their wordings; returns the share that is kept.

        Of retain prompts as many stay as target prompts, and all that users gave.
        """
        targets, kept, bare = len(self.targets), len(self.retain), BARE * sum(len(e.words) for e in config.erased())

        def read(share: float) -> float:
            here, stay = share * targets, min(kept, share * max(kept, targets))
            among = 3 * (here + min(here, stay))
            return len(config.clip_skips) * (here + share * bare + stay + among) + 3 * here  # there, mapped, answering

        share, rng, given = 1.0, random.Random(config.seed), len(config.retain_prompts)
        while read(share) > most:
            share *= 0.98
        self.targets = room.thinned_targets(self.targets, share, rng)
        stay = share * max(1, targets / max(1, kept))
        self.retain = self.retain[:given] + room.thinned(self.retain[given:], stay, rng)
        return share

    def wordings_of(self, bare: list[list[str]]) -> torch.Tensor:
        """For every target prompt rows of target_texts that mean the same, (targets, wordings): itself, itself among
        words, and where it names one concept a prompt that no template makes."""
        count, start, firsts = len(self.targets), 4 * len(self.targets), []
        for prompts in bare:
            firsts.append(start)
            start += len(prompts)
        rows = []
        for row, target in enumerate(self.targets):
            concept = target.concept
            other = row + count if target.prompt.pair else firsts[concept] + row % len(bare[concept])
            rows.append([row, row, row + count, row + 2 * count, row + 3 * count, other])
        return torch.tensor(rows)


class Data(Texts):
    """Beside the texts what the pictures need: the targets as the denoiser attends to them, and samples of them.

    With `unconditional` the targets are ESD's: prompts of one concept each, which become the empty prompt, with their own latents.
    `phase` is told when it is sampled.
    """

    def __init__(self, config: Config, backbone: Backbone, progress=print, unconditional: bool = False, phase=lambda name: None):
        backbone.load()
        super().__init__(config, backbone, progress, unconditional)
        # What is blended or put among others later has to be encoded together, for one length.
        anchored = backbone.family.anchors and config.objective == "direct" and not unconditional
        anchors = [p for p in self.retain if anchored and not p.pair]
        anchors = [concepts.Target(p, p.text, (0,)) for p in random.Random(config.seed).sample(anchors, min(ANCHORS, len(anchors)))]
        texts = [t.prompt.text for t in self.targets]
        together = [*texts, *(t.mapped for t in self.targets), *(a.mapped for a in anchors), ""]
        with watched(backbone, "encoding", len(together), progress):
            shown = encode(backbone, together)
        self.text, mapped, self.empty = shown.rows(slice(len(texts))), shown.rows(slice(len(texts), 2 * len(texts))), shown.tokens[-1:]
        self.anchor_text = shown.rows(slice(2 * len(texts), -1))
        nothing = backbone.encode([""])
        self.asked = asked = Asked(self.targets, self.text, mapped, nothing)
        kept = Asked(anchors, self.anchor_text, self.anchor_text, nothing) if anchors else None
        read_alone = config.rewrites(backbone.family) and not unconditional
        self.answers = answers(backbone, texts, [t.mapped for t in self.targets], self.text, mapped) if read_alone else None
        self.text_task = self.read_pairs(config, backbone) if read_alone else None
        self.samples: list[Samples] = []
        self.anchors: Samples | None = None
        if not config.trains():
            return
        phase("sampling")
        self.samples = samples.cached_samples(backbone, config, asked, kept, cache_path(config.out), progress, unconditional)
        self.anchors = self.samples.pop() if anchors else None

    def read_pairs(self, config: Config, backbone: Backbone) -> TextTask | None:
        """More pairs than pictures are drawn of, beside what is retained and beside any word; None where there is nothing beside."""
        erased, others = config.erased(), [*config.retain, *self.words]
        count = room_for(len(erased), self.text.tokens[0].numel())
        pairs = [t for t in concepts.target_prompts(erased, others, count, config.seed + 1) if t.prompt.pair]
        if not pairs:
            return None
        beyond = torch.tensor([samples.guidance_of(t, config) for t in pairs])
        return TextTask(backbone, pairs, labels_of(pairs, len(erased)), beyond, self.words, config.seed)

    def turn(self, iteration: int, size: int, total_steps: int, rng: torch.Generator) -> tuple[str, Batch]:
        """A training step's batch, of the kinds in turn: pictures, half as many of pairs, anchors; and what its loss is called."""
        kinds = len(self.samples)
        kind = iteration % (kinds + (self.anchors is not None))
        if kind == kinds:
            return "anchor", self.anchor_batch(size, total_steps, rng)
        return "task", self.batch(self.samples[kind], max(1, size // (1 + kind)), total_steps, rng)

    def batch(self, kind: Samples, size: int, total_steps: int, rng: torch.Generator) -> Batch:
        """A random batch of latents of one picture size, every concept as likely as any other.

        The hypernetwork reads each row's prompt in any of its wordings, of any clip skip; in some batches the denoiser
        attends to that wording too, weighted or among words, where the picture asked for is still the prompt's.
        """
        rows = kind.balanced(size, rng)
        prompts = kind.prompt[rows]
        s = steps(size, total_steps, rng)
        which = int(torch.randint(len(self.target_conditions), (), generator=rng))
        text = self.text.rows(prompts)
        context, pooled, mask = text.tokens, text.pooled, text.mask
        drawn = torch.rand((), generator=rng).item()
        if drawn < wordings.SHARE_WEIGHTED:
            context = wordings.weighted(context, self.empty, rng)
            condition = dataclasses.replace(text, tokens=context).condition()
        elif drawn < wordings.SHARE_WEIGHTED + wordings.SHARE_AMONG:
            condition = self.target_conditions[0].rows(self.wording[prompts, AMONG[torch.randint(len(AMONG), (size,), generator=rng)]])
            context, pooled, mask = condition.tokens, condition.pooled, mask if mask is None else condition.mask.long()
        else:
            wording = self.wording[prompts, torch.randint(self.wording.shape[1], (size,), generator=rng)]
            condition = wordings.joined(self.target_conditions[which].rows(wording), self.safe_conditions[which], rng)
        return Batch(
            kind.x[rows],
            kind.sigma[rows],
            context,
            pooled,
            condition,
            self.labels.rows(prompts).some_off(rng),
            s,
            kind.eps[rows],
            kind.eps_star[rows],
            kind.scale[rows],
            mask,
        )

    def anchor_batch(self, size: int, total_steps: int, rng: torch.Generator) -> Batch:
        """A random batch of anchors, each under the adapter of any target prompt in any of its wordings."""
        rows = torch.randint(len(self.anchors.x), (size,), generator=rng)
        targets = torch.randint(len(self.targets), (size,), generator=rng)
        wording = self.wording[targets, torch.randint(self.wording.shape[1], (size,), generator=rng)]
        which = int(torch.randint(len(self.target_conditions), (), generator=rng))
        text = self.anchor_text.rows(self.anchors.prompt[rows])
        return Batch(
            self.anchors.x[rows],
            self.anchors.sigma[rows],
            text.tokens,
            text.pooled,
            self.target_conditions[which].rows(wording),
            self.labels.rows(targets).some_off(rng),
            steps(size, total_steps, rng),
            self.anchors.eps[rows],
            self.anchors.eps_star[rows],
            self.anchors.scale[rows],
            text.mask,
        )

    def retained(self, iteration: int, count: int, rng: torch.Generator) -> tuple[Condition, torch.Tensor]:
        """Conditions whose adapter is to be zero, and the concepts that are off, (N, K): safe prompts; with several
        concepts also, for a quarter of them, target prompts whose concepts are off."""
        which = iteration % len(self.safe_conditions)
        safe, concepts = self.safe_conditions[which], self.named.shape[1]
        targets = count // 4 if concepts > 1 else 0
        picked = safe.rows(torch.randint(len(safe.pooled), (count - targets,), generator=rng))
        nothing = torch.zeros(count - targets, concepts, dtype=torch.bool)
        off = Labels(nothing, nothing).some_off(rng)
        if targets:
            rows = torch.randint(len(self.named), (targets,), generator=rng)
            picked = stack_conditions([picked, self.target_conditions[which].rows(rows)])
            off = torch.cat([off, Labels(self.named[rows], self.named[rows]).some_off(rng)])
        if torch.rand((), generator=rng) < wordings.SHARE_WEIGHTED:
            return picked._replace(tokens=wordings.weighted(picked.tokens, safe.tokens[:1], rng)), off
        return wordings.joined(picked, safe, rng), off


def steps(size: int, total_steps: int, rng: torch.Generator) -> torch.Tensor:
    """s of `size` rows: half of them S, the others anywhere below."""
    s = torch.rand(size, generator=rng) * total_steps
    s[torch.rand(size, generator=rng) < 0.5] = total_steps
    return s


def labels_of(targets: list[concepts.Target], count: int) -> Labels:
    """Which of so many concepts target prompts name, and which of those are off."""
    labels = Labels(*(torch.zeros(len(targets), count, dtype=torch.bool) for _ in range(2)))
    for row, target in enumerate(targets):
        labels.named[row, list(target.named)] = True
        labels.off[row, list(target.off)] = True
    return labels
