"""Folding: a trained hypernetwork's heads as products of two thin matrices, so that a large model's file stays small.

Heads are trained whole. What they make of the prompts they were trained on spans few directions (of twelve concepts on
the demo base all but 0.03 % of their energy lies in eight), and a bottleneck trained from the start finds these badly.
"""

from dataclasses import replace

import torch

from .condition import Condition, parts
from .hypernetwork import Hypernetwork, whole

FLOOR = 1e-4  # of the largest variance of h, which every direction is taken to have at the least


@torch.no_grad()
def seen_by_heads(network: Hypernetwork, condition: Condition) -> torch.Tensor:
    """What the heads see of these prompts, at a quarter, a half, three quarters and all of S in turn: (N, hidden)."""
    device = network.least.device
    quarters = network.shape.steps / 4 * (1 + torch.arange(len(condition.pooled), device=device) % 4)
    return torch.cat([network.hidden(condition.rows(part).to(device), quarters[part], None)[1] for part in parts(condition)])


def width_of(network: Hypernetwork, bottleneck: int) -> int:
    """The bottleneck that folding gives the heads; 0, whole, where there is none or it would be no narrower than they are."""
    return bottleneck if bottleneck < network.shape.hidden else 0


@torch.no_grad()
def folded(network: Hypernetwork, seen: torch.Tensor, width: int) -> tuple[Hypernetwork, float]:
    """The network on the CPU with heads of rank `width`, and how far its adapters lie off: RMS over `seen`, relative.

    Of all matrices of that rank each head becomes the one whose outputs lie nearest to its own on the prompts seen: with
    C = E[h h^T], the truncated singular value decomposition of W C^(1/2), times C^(-1/2).

    Args:
        seen: what the heads see of these prompts, (N, hidden).
    """
    network = network.cpu()
    if network.shape.bottleneck or not width_of(network, width):
        return network, 0.0
    seen = seen.cpu().double()
    c = seen.T @ seen / len(seen)
    root, inverse = roots(c)
    small = all_but_heads(network, width)
    total = lost = 0.0
    for head, thin in zip(network.heads, small.heads):
        w = whole(head).double()
        kept = torch.linalg.eigh(root @ w.T @ w @ root)[1][:, -width:]
        q, r = torch.linalg.qr(inverse @ kept)  # orthonormal, so that fp16 is enough
        first, last = thin.parameters()
        first.copy_(q.T)
        last.copy_(w @ root @ kept @ r.T)
        off = whole(thin).double() - w
        total, lost = total + (w @ c * w).sum().item(), lost + (off @ c * off).sum().item()
    return small, (lost / total) ** 0.5 if total else 0.0


def all_but_heads(network: Hypernetwork, bottleneck: int) -> Hypernetwork:
    """A frozen network of another bottleneck with the same weights but for the heads', which are still to be set."""
    other = Hypernetwork(replace(network.shape, bottleneck=bottleneck)).requires_grad_(False)
    other.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("heads.")}, strict=False)
    return other


def roots(c: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """C^(1/2) and C^(-1/2) of a symmetric matrix."""
    values, vectors = torch.linalg.eigh(c)
    values = values.clamp_min(FLOOR * values[-1])
    return vectors * values.sqrt() @ vectors.T, vectors * values.rsqrt() @ vectors.T


@torch.no_grad()
def unfold(network: Hypernetwork) -> Hypernetwork:
    """The same network with whole heads, to go on training from; itself where it has these."""
    if not network.shape.bottleneck:
        return network
    large = all_but_heads(network, 0)
    for head, thin in zip(large.heads, network.heads):
        next(head.parameters()).copy_(whole(thin))
    return large
