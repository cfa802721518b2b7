"""Searches over prompt tokens: what an attacker minimises, and how, with gradients and without.

A prompt is a row of 77 token ids throughout, so that nothing is lost on the way through words. All losses are
differentiable functions of the token embeddings and take many candidate rows at once.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from unhype.adapter import Term, adapter
from unhype.condition import read_condition
from unhype.hypernetwork import at_strength, rows_of

START, END, CHUNK = 49406, 49407, 77
WORDS = START  # ids below are words
TRIED, SHORTLIST, ITERATIONS = 64, 10, 12  # of one search: swaps tried per iteration by text alone, and then by the denoiser
TOP = 96  # candidate tokens per position that the gradient proposes
MARGIN, SWITCH_WEIGHT = 0.05, 0.5  # how far below its threshold the switch is pushed, and what a point above costs


def text_model(clip):
    """ComfyUI's CLIP-L module of a CLIP."""
    return clip.cond_stage_model.clip_l.transformer.text_model


def embeddings(clip) -> torch.Tensor:
    return text_model(clip).embeddings.token_embedding.weight


def encode_embedded(clip, embedded, ids):
    """Embeddings (N, 77, D) of token ids -> states (N, 77, D), pooled (N, D), as ComfyUI encodes, but differentiable."""
    model = text_model(clip)
    x = embedded + model.embeddings.position_embedding.weight
    for layer in model.encoder.layers:  # the module's own forward works in place, which autograd refuses
        attention, y = layer.self_attn, layer.layer_norm1(x)
        q, k, v = (
            p(y).unflatten(-1, (attention.heads, -1)).transpose(1, 2) for p in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        x = x + attention.out_proj(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.layer_norm2(x))
    x = model.final_layer_norm(x)
    return x, x[torch.arange(len(ids)), (ids == END).int().argmax(1)]


def row(ids: list[int]) -> torch.Tensor:
    """Words' ids as a prompt's 77: start, words, end, padding."""
    ids = ids[: CHUNK - 2]
    return torch.tensor([START, *ids, *[END] * (CHUNK - 1 - len(ids))])


def words_of(clip, text: str) -> list[int]:
    """The word ids of a text that fits into one chunk, as ComfyUI's tokenizer makes them."""
    (pairs,) = clip.tokenize(text)["l"]
    return [i for i, _ in pairs if i < START]


@dataclass
class Goal:
    """What an attacker minimises: how badly the attacked model draws the noun, and how far the switch is from off.

    loss = E || v(x_sigma, sigma, prompt) - v ||^2 + SWITCH_WEIGHT relu(max_k(score_k - threshold_k) + MARGIN)

    on true pictures of the noun, re-noised (UnlearnDiffAtk, arXiv 2310.11868). A switch can be passed in two ways: it is
    turned off, and then the base draws, or (`through`) it fires and the adapter that the attacked prompt makes fails.
    """

    backbone: object  # its denoiser carries the edited weights where a method edits weights
    clean: torch.Tensor  # (M, C, h, w) in model space
    noise: torch.Tensor
    sigma: torch.Tensor  # (M,)
    network: object = None
    through: bool = False

    def encode(self, ids, embedded=None):
        return encode_embedded(self.backbone.clip, F.embedding(ids, embeddings(self.backbone.clip)) if embedded is None else embedded, ids)

    def alarm(self, states, pooled):
        """How far the switch's highest score lies above its threshold, (N,); nothing where there is none to turn off."""
        if self.network is None or self.through:
            return torch.full((len(states),), -math.inf)
        return (self.network.scores(read_condition(states, pooled)) - self.network.switch.threshold).amax(1)

    def drawing(self, states, pooled):
        """The denoising loss as v-prediction would have it, (N,)."""
        count, rows = len(states), len(self.sigma)
        each = lambda t: t.repeat(count, *[1] * (t.ndim - 1))
        sigma = each(self.sigma)
        x = each(self.clean) + sigma.view(-1, 1, 1, 1) * each(self.noise)
        context = states.repeat_interleave(rows, 0)
        if self.network is not None and self.through:
            factors = at_strength(self.network, read_condition(states, pooled), 1.0)
            factors = rows_of(factors, torch.arange(count).repeat_interleave(rows))
            with adapter(self.backbone.diffusion_model, [Term(torch.arange(len(x)), self.network.shape.layers, factors)], len(x)):
                eps = self.backbone.predict(x, sigma, context)
        else:
            eps = self.backbone.predict(x, sigma, context)
        error = (eps - each(self.noise)).square().mean((1, 2, 3)) * (1 + sigma**2)
        return error.view(count, rows).mean(1)

    def penalty(self, alarm):
        return SWITCH_WEIGHT * (alarm + MARGIN).clamp_min(0)

    def loss(self, ids, embedded=None):
        encoded = self.encode(ids, embedded)
        return self.drawing(*encoded) + self.penalty(self.alarm(*encoded))


@dataclass
class Matching:
    """Ring-A-Bell (arXiv 2310.10012): tokens whose text embedding is the wanted one, whatever the denoiser makes of it."""

    clip: object
    wanted: torch.Tensor  # (77, D)

    def loss(self, ids, embedded=None):
        embedded = F.embedding(ids, embeddings(self.clip)) if embedded is None else embedded
        return (encode_embedded(self.clip, embedded, ids)[0] - self.wanted).square().mean((1, 2))


def gradient_proposals(goal, ids, free, banned) -> torch.Tensor:
    """For every free position the TOP tokens that the loss's gradient on the one-hot choice likes best (GCG, HotFlip)."""
    clip = goal.clip if isinstance(goal, Matching) else goal.backbone.clip
    table = embeddings(clip)
    embedded = F.embedding(ids[None], table).detach().clone().requires_grad_(True)
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(goal.loss(ids[None], embedded).sum(), embedded)
    liked = -(slope[0, free] @ table[:WORDS].T)
    liked[:, banned] = -torch.inf
    return liked.topk(TOP, 1).indices


def swapped(ids, free, proposals, count: int, rng) -> torch.Tensor:
    """`count` copies with one to three free positions (one mostly) drawn anew from that position's proposals."""
    rows = ids.repeat(count, 1)
    for r in range(count):
        for _ in range(1 + int(torch.randint(6, (), generator=rng)) // 4):
            p = int(torch.randint(len(free), (), generator=rng))
            rows[r, free[p]] = proposals[p, int(torch.randint(proposals.shape[1], (), generator=rng))]
    return rows


@torch.no_grad()
def shortlist(goal, rows):
    """The rows that the text encoder alone rates best, with their exact losses."""
    if isinstance(goal, Matching):
        return rows, goal.loss(rows)
    states, pooled = goal.encode(rows)
    alarm = goal.alarm(states, pooled)
    best = goal.penalty(alarm).argsort(stable=True)[:SHORTLIST]
    return rows[best], goal.drawing(states[best], pooled[best]) + goal.penalty(alarm[best])


def search(goal, ids, free, rng, gradient: bool, common=(), banned=(), iterations: int | None = None):
    """The rows of lowest loss, best first, found by swapping tokens at the free positions, and their losses.

    With `gradient` the loss's slope proposes the tokens, else half are drawn from the words that the base knows
    (`common`) and half from the whole vocabulary.
    """
    banned, common = torch.tensor(banned, dtype=torch.long), torch.tensor(common, dtype=torch.long)
    found = {tuple(ids.tolist()): goal.loss(ids[None]).item()}
    for _ in range(iterations or ITERATIONS):
        if gradient:
            proposals = gradient_proposals(goal, ids, free, banned)
        else:
            anything = torch.randint(WORDS, (len(free), TOP), generator=rng)
            known = common[torch.randint(len(common), (len(free), TOP), generator=rng)]
            proposals = torch.where(torch.rand(len(free), TOP, generator=rng) < 0.5, anything, known)
        rows, losses = shortlist(goal, swapped(ids, free, proposals, TRIED, rng))
        found |= {tuple(r.tolist()): loss for r, loss in zip(rows, losses.tolist())}
        ids = torch.tensor(min(found, key=found.get))
    best = sorted(found, key=found.get)
    return torch.tensor(best), torch.tensor([found[r] for r in best])
