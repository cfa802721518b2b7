"""What the adapted layers are to make of a prompt, where all that they read is its token states: the task without the denoiser.

On Stable Diffusion the adapter acts on keys and values of the cross-attention, which are linear in the token states. Where "a cat
and a dog" gives the keys and values of "a forest and a dog", the picture is the mapped prompt's, the dog included. This costs no
prediction, so that it is asked of far more pairs than pictures could be drawn of, and of words that no picture holds:

    L_text = E_c mean_l  sum_i || (W_l + theta_l(c, s)) x_i - (W_l x_i + (s / S) W_l (y_i - x_i)) ||^2 / sum_i || W_l (y_i - x_i) ||^2

x_i are the token states of a target prompt and y_i those in the answering places of its mapped prompt.
"""

import torch

from host.backbone import Backbone
from unhype.adapter import low_rank
from unhype.hypernetwork import Factors
from unhype.layers import Layer

from .encoding import encode
from .prompts.answering import answering, token_ids
from .prompts.concepts import Target, among_words
from .samples import Labels

MOST, EACH = 1024, 256  # pairs that are read, of all concepts and of one
ROOM = 2**26  # numbers of token states that are kept of them
AMONG = 3  # every third pair stands among other words as well
WEIGHT = 3.0  # of L_text beside the task's loss
LAYERS = 24  # that a step looks at: of large models some, drawn by lot


def room_for(concepts: int, width: int) -> int:
    """How many pairs of each concept are read, of prompts whose token states are `width` numbers."""
    return max(1, min(EACH, min(MOST, ROOM // width) // concepts))


class TextTask:
    """Target prompts of an erased thing beside another one, read with the answering states of their mapped prompts."""

    def __init__(self, backbone: Backbone, targets: list[Target], labels: Labels, words: list[str], most: int, seed: int):
        """words: that some prompts stand among, `most` of them at most."""
        here, there = [t.prompt.text for t in targets], [t.mapped for t in targets]
        mixed = among_words(here, words, most, seed)
        here, there = zip(*((m, m.replace(a, b, 1)) if i % AMONG == 0 else (a, b) for i, (a, b, m) in enumerate(zip(here, there, mixed))))
        read = encode(backbone, [*here, *there])
        self.text, mapped = read.rows(slice(len(here))), read.rows(slice(len(here), None))
        self.labels, width = labels, read.tokens.shape[1]
        self.answered, places = torch.zeros(len(here), width, dtype=torch.bool), torch.arange(width).repeat(len(here), 1)
        for row, (a, b) in enumerate(zip(here, there)):
            own, its = answering(token_ids(backbone, a), token_ids(backbone, b), width)
            self.answered[row, own], places[row, own] = True, its
        self.wanted = mapped.tokens.gather(1, places[..., None].expand_as(mapped.tokens))

    def loss(
        self, network, backbone: Backbone, rows: torch.Tensor, s: torch.Tensor, off: torch.Tensor, layers: torch.Tensor
    ) -> torch.Tensor:
        """L_text of some prompts (n,), steps s (n,), concepts that are off (n, K), and layers by their numbers."""
        device, text = backbone.device, self.text.rows(rows).to(backbone.device)
        factors = network(text.condition(), s.to(device), off.to(device))
        x, y, answered = text.tokens, self.wanted[rows].to(device), self.answered[rows].to(device)
        each = [
            missing(network.shape.layers[i], backbone, factors[i], x, y, answered, s.to(device) / network.shape.steps)
            for i in layers.tolist()
        ]
        return torch.stack(each).mean()

    def drawn(self, count: int, rng: torch.Generator) -> torch.Tensor:
        """Random rows."""
        return torch.randint(len(self.wanted), (count,), generator=rng)


def missing(layer: Layer, backbone: Backbone, own: Factors, x, y, answered, strength) -> torch.Tensor:
    """How much of a layer's wanted change is missing, a mean over prompts: 1 before training, 0 when done.

    Args:
        x, y: (N, T, D) token states and what they are to be read as. answered: (N, T) bool, places that have an answer.
        strength: s / S, (N,).
    """
    module = backbone.diffusion_model.get_submodule(layer.name)
    with torch.no_grad():
        read = lambda t: module(t.to(backbone.compute_type)).float().narrow(-1, layer.start, layer.outputs)
        wanted = (read(y) - read(x)) * answered[..., None]
        whole = wanted.square().sum((1, 2)).clamp_min(1e-12)
    change = low_rank(x, own) * answered[..., None]
    return ((change - strength[:, None, None] * wanted).square().sum((1, 2)) / whole).mean()
