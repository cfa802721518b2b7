"""All that the switch is fitted on and calibrated with: the prompts of the training, and text as people write it."""

from dataclasses import dataclass

import torch

from host.backbone import Backbone
from unhype.condition import Condition

from .config import Config
from .prompts.alike import alike
from .prompts.concepts import Erase
from .prompts.neighbours import Apart
from .prompts.rolls import rolls
from .prompts.sentences import HELD_OUT, Sentence, mentions, sentences
from .prompts.written import written
from .run.beside import text_path
from .run.progress import watched
from .states import States, cached, probes_of, read
from .switch import UNKNOWN

# Of written text token states at the most, or as many texts as a training has prompts: CLIP reads 77 of a text, BERT 20.
STATES = 2**18
ROOM = 2**30  # and numbers of theirs: T5's are a million a prompt


@dataclass
class Reading:
    """Token states of prompts, what each means, and which are kept from the fit."""

    texts: list[str]
    states: States
    labels: torch.Tensor  # (N, K) int8: 1 where a prompt means the concept, 0 where not, UNKNOWN
    held_out: torch.Tensor  # (N,) bool

    def and_also(self, states: States, labels: torch.Tensor) -> "Reading":
        """With other prompts, every fifth of a kind held out: of those that mean a concept, and of those that mean none."""
        held_out = torch.zeros(len(labels), dtype=torch.bool)
        for group in [*(labels.T == 1), (labels == 1).sum(1) == 0]:
            rows = group.nonzero().flatten()
            held_out[rows[HELD_OUT - 1 :: HELD_OUT] if len(rows) >= HELD_OUT else rows[-1:]] = True
        together = lambda a, b: torch.cat([a, b.to(a.dtype)])
        return Reading(self.texts, States.together([self.states, states]), together(self.labels, labels), together(self.held_out, held_out))


def labels_of(made: list[Sentence], meant: list[Erase]) -> torch.Tensor:
    """(N, K): what was put in is meant; what a text mentions by itself, or denies, by any word that may mean the concept, it may
    mean or not."""
    labels = torch.zeros(len(made), len(meant), dtype=torch.int8)
    for row, (sentence, mentioned) in enumerate(zip(made, mentions([s.text for s in made], meant))):
        labels[row, sorted(mentioned)] = UNKNOWN
        if sentence.named is not None:
            labels[row, [sentence.named, *sentence.also]] = 1
    return labels


def read_text(config: Config, backbone: Backbone, own: Condition, apart: Apart, progress) -> Reading:
    """Written text without and with the targets: all of it, or evenly as much as there is time and room for.

    Args:
        own: the training's other prompts, of one clip skip. apart: the encoder's words.
    """
    erased = config.erased()
    made = sentences(apart.named, written(), config.retain, config.seed) + rolls(apart.named, written(), apart.others, config.seed)
    made += alike(erased, written(), apart.others, backbone.pieces, config.seed)
    made = [s for s, fits in zip(made, backbone.one_chunk([s.text for s in made])) if fits]
    usual = max(1, int(own.mask.sum()) // len(own.mask))
    most = min(max(STATES // usual, len(own.mask)), max(1, ROOM // (usual * own.tokens.shape[2])))
    step = -(-len(made) // most)
    kept, put = ([s for s in made if (s.named is not None) == named][::step] for named in (False, True))
    texts = [s.text for s in (*kept, *put)]
    with watched(backbone, "encoding written text", len(texts) + len(probes_of(texts[: len(kept)])), progress):
        of_kept = cached(backbone, texts[: len(kept)], config.clip_skips, text_path(config.out), progress)
        states = States.together([of_kept, read(backbone, texts[len(kept) :], config.clip_skips)])
    made = [*kept, *put]
    return Reading(texts, states, labels_of(made, apart.meant), torch.tensor([s.held_out for s in made], dtype=torch.bool))
