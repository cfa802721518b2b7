"""What the adapted layers are to make of a prompt, where all that they read is its token states: the task without the denoiser.

On Stable Diffusion the adapter acts on keys and values of the cross-attention, which are linear in the token states. Where "a cat
and a dog" gives the keys and values of "a forest and a dog", the picture is the mapped prompt's, the dog included. This costs no
prediction, so that it is asked of far more pairs than pictures could be drawn of, and of words that no picture holds. Of half of
them the layers read the states rewritten, x'_i, of the others x'_i = x_i:

    L_text = E_c mean_l  sum_i n_i || (W_l + theta_l(c, s)) x'_i - (W_l x_i + (s / S) W_l (y_i - x_i)) ||^2  /  m
    m = sum_i || W_l (y_i - x_i) ||^2 but of words that stay

x_i are the token states of a target prompt and y_i those in the answering places of its mapped prompt, or as far beyond them as the
denoiser's target lies beyond the mapping concept's: where two erased things stand in a prompt, else one of them is left over.
n_i is STAYS for words that stay, those that are the same in both prompts, and 1 for those that are exchanged and for padding. An
encoder puts some of a noun's meaning into every state. Where the words that stay do not lose it, or lose more than that, the mapping
concept is drawn in the place of the thing beside as well.
"""

from dataclasses import replace

import torch

from host.backbone import Backbone
from unhype.adapter import low_rank
from unhype.hypernetwork import Factors
from unhype.layers import Layer

from .encoding import encode
from .prompts.answering import answers
from .prompts.concepts import Target, among_words
from .rewriting import on_some
from .samples import Labels

MOST, EACH = 1024, 256  # pairs that are read, of all concepts and of one
ROOM = 2**26  # numbers of token states that are kept of them
AMONG, LONGEST = 3, 50  # every third pair stands among other words as well, so many at most
WEIGHT, STAYS = 3.0, 3.0  # of L_text beside the task's loss, and in it of the words that stay
ROWS = 2  # of a step, as a multiple of the batch
LAYERS = 24  # that a step looks at: of large models some, drawn by lot


def room_for(concepts: int, width: int) -> int:
    """How many pairs of each concept are read, of prompts whose token states are `width` numbers."""
    return max(1, min(EACH, min(MOST, ROOM // width) // concepts))


class TextTask:
    """Target prompts of an erased thing beside another one, read with the answering states of their mapped prompts."""

    def __init__(self, backbone: Backbone, targets: list[Target], labels: Labels, beyond: torch.Tensor, words: list[str], seed: int):
        """beyond: of every target how far past the mapped prompt it is led, (N,). words: that some prompts stand among."""
        here, there = [t.prompt.text for t in targets], [t.mapped for t in targets]
        mixed = [(m, m.replace(a, b, 1)) for m, a, b in zip(among_words(here, words, LONGEST, seed), here, there)]
        fits = backbone.one_chunk([mapped for _, mapped in mixed])  # a mapping concept may be longer than what it stands for
        here, there = zip(*(mixed[i] if i % AMONG == 0 and fits[i] else plain for i, plain in enumerate(zip(here, there))))
        read = encode(backbone, [*here, *there])
        self.text, mapped = read.rows(slice(len(here))), read.rows(slice(len(here), None))
        self.labels, self.beyond, self.answers = labels, beyond, answers(backbone, list(here), list(there), self.text, mapped)

    def loss(
        self, network, backbone: Backbone, rows: torch.Tensor, s: torch.Tensor, off: torch.Tensor, layers: torch.Tensor
    ) -> torch.Tensor:
        """L_text of some prompts (n,), steps s (n,), concepts that are off (n, K), and layers by their numbers."""
        device, text = backbone.device, self.text.rows(rows)
        seen = int(text.condition().mask.any(0).nonzero().max()) + 1  # behind that there is nothing in any of them
        text = replace(text, tokens=text.tokens[:, :seen], mask=None if text.mask is None else text.mask[:, :seen]).to(device)
        factors = network(text.condition(), s.to(device), off.to(device))
        change, answered, stays = (t[rows, :seen].to(device) for t in self.answers)
        y = text.tokens + (1 + self.beyond[rows].to(device))[:, None, None] * change
        rewrite = on_some(factors, torch.arange(len(rows), device=device) % 2 == 0)[0].rewrite
        x = rewrite(text.tokens) if rewrite else text.tokens
        counts = torch.where(stays, STAYS, answered.float())
        own = (text.tokens, x, y, answered & ~stays, counts, s.to(device) / network.shape.steps)
        each = [missing(network.shape.layers[i], backbone, factors[i], *own) for i in layers.tolist()]
        return torch.stack(each).mean()

    def drawn(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Random rows."""
        return torch.randint(len(self.beyond), (count,), generator=rng)


def missing(layer: Layer, backbone: Backbone, own: Factors, given, x, y, exchanged, counts, strength) -> torch.Tensor:
    """L_text of a layer, a mean over prompts: 0 when done.

    Args:
        given, x, y: (N, T, D) token states, as they are rewritten, and what they are to be read as. strength: s / S, (N,).
        exchanged: (N, T) bool, places of words that are. counts: (N, T) what each place counts.
    """
    module = backbone.diffusion_model.get_submodule(layer.name)
    with torch.no_grad():
        read = lambda t: module(t.to(backbone.compute_type)).float().narrow(-1, layer.start, layer.outputs)
        before = read(given)
        wanted, moved = read(y) - before, read(x) - before
        m = (wanted.square().sum(2) * exchanged).sum(1).clamp_min(1e-12)
    left = (low_rank(x, own) + moved - strength[:, None, None] * wanted).square().sum(2)
    return ((left * counts).sum(1) / m).mean()
