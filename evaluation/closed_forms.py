"""Closed forms that preserve by construction, beside UCE's compromise (baselines.py), on the same prompts' token states.

C and C* are rows of states to be erased and what they are to become, K of states to be kept, W a weight, (out, in).
"""

import torch

from host.backbone import Backbone
from trainer.prompts.concepts import Prompt, Target

from .baselines import KEY_VALUE, each_layer, editing_states, own_layers

NOTHING = 1e-9  # a singular value that is none


def free_directions(kept: torch.Tensor, invariant: torch.Tensor, share: float) -> torch.Tensor:
    """An orthonormal basis, (in, m), of what the kept rows hardly span, `share` of their largest eigenvalue at most, and the
    invariant rows not at all."""
    values, vectors = torch.linalg.eigh(kept.T @ kept)
    free = vectors[:, values <= share * values[-1]]
    _, sizes, across = torch.linalg.svd(invariant @ free)
    return free @ across[int((sizes > NOTHING).sum()) :].T


def null_space(weight, c, c_star, kept, invariant, share: float, ridge: float) -> torch.Tensor:
    """The change D, (out, in), of the least

        || (W + D) C^T - W C*^T ||^2 + r || D ||^2   with D = D P and D C_2^T = 0,

    where P projects onto the directions that kept states K leave free, and C_2 are states that must never move. With B a
    basis of what both leave, D = W (C* - C)^T C B (B^T C^T C B + r I)^-1 B^T.

    SPEED (Li et al. 2025, arXiv 2503.07392), whose null space is approximate too: `share` is its tolerance. Of the kept
    rows only those count that the edit without any constraint would move more than the mean does (its influence-based
    filter), since all of them together leave nothing free. Its augmentation of K by noise is left out: K holds whole prompts.
    """
    weight, c, c_star, kept, invariant = (t.double() for t in (weight, c, c_star, kept, invariant))
    eye = torch.eye(c.shape[1], dtype=c.dtype)
    wanted = weight @ (c_star - c).T
    moved = (kept @ (wanted @ c @ torch.linalg.inv(c.T @ c + ridge * eye)).T).square().sum(1)
    basis = free_directions(kept[moved > moved.mean()] if (moved > 0).any() else kept, invariant, share)
    seen = c @ basis
    return wanted @ seen @ torch.linalg.inv(seen.T @ seen + ridge * torch.eye(basis.shape[1], dtype=c.dtype)) @ basis.T


def procrustes(weight, c, c_star, kept, erase_scale: float, preserve_scale: float, ridge: float) -> torch.Tensor:
    """The change (Q - I) W of the rotation Q, (out, out), of the least

        e || Q W C^T - W C*^T ||^2 + p || Q W K^T - W K^T ||^2 + r || Q W - W ||^2   with Q^T Q = I,

    Q = U V^T of the singular vectors of e W C*^T C W^T + p W K^T K W^T + r W W^T (the orthogonal Procrustes problem).
    A weight's length and the angles in it stay, which is what the paper finds that pictures in general depend on.

    After OCE (Sun et al. 2026, arXiv 2605.28902): its multiplicative update and the closed form, not its subspaces.
    """
    weight, c, c_star, kept = (t.double() for t in (weight, c, c_star, kept))
    here, there, stays = weight @ c.T, weight @ c_star.T, weight @ kept.T
    u, _, vh = torch.linalg.svd(erase_scale * there @ here.T + preserve_scale * stays @ stays.T + ridge * weight @ weight.T)
    return u @ vh @ weight - weight


def speed(backbone: Backbone, targets: list[Target], retain: list[Prompt], share=1e-3, ridge=1e-3, padding=77) -> dict[str, torch.Tensor]:
    """`null_space` for every cross-attention key and value; what never moves: the start token's state and the empty prompt's."""
    states = editing_states(backbone, targets, retain, padding)
    layers = own_layers(backbone, KEY_VALUE)
    weights = torch.cat([layer.weight.cpu() for layer in layers.values()])
    return each_layer(layers, null_space(weights, *states, backbone.encode([""]).tokens[0, :2].cpu(), share, ridge))


def oce(
    backbone: Backbone, targets: list[Target], retain: list[Prompt], erase_scale=1.0, preserve_scale=0.1, ridge=0.01, padding=77
) -> dict[str, torch.Tensor]:
    """`procrustes` for every cross-attention key and value, each of which turns by itself."""
    states = editing_states(backbone, targets, retain, padding)
    layers = own_layers(backbone, KEY_VALUE)
    changes = (procrustes(layer.weight.cpu(), *states, erase_scale, preserve_scale, ridge) for layer in layers.values())
    return {f"{name}.weight": change.float() for name, change in zip(layers, changes)}
