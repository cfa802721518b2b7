"""A strength below 1 as a late start: the whole adapter, but only from some noise level of the sampling on.

A scaled adapter is no slider: the first steps decide what is drawn, so that it draws the one thing or the other. Begun later
the whole adapter changes what is left to change, and the later the less. How late a strength begins is measured where an
eraser is trained, so that the picture changes by about as much as the strength says; it stands in the file.
"""

from collections.abc import Sequence

import torch

from .hypernetwork import Factors

STRENGTHS = tuple(i / 10 for i in range(1, 10))  # of which a file says the levels
# For files that say none: between what was measured on a small Stable Diffusion and a small Flux.
USUAL = (0.33, 0.5, 0.61, 0.69, 0.75, 0.79, 0.83, 0.87, 0.92)


def level(sigma: torch.Tensor, flow: bool) -> torch.Tensor:
    """How much of a noisy latent is noise, 0 to 1: sigma of a flow model, sigma / (1 + sigma) of the others."""
    return sigma if flow else sigma / (1 + sigma)


def onset(strength: float, levels: Sequence[float] = ()) -> float:
    """The noise level at which the adapter begins at a strength from 0 (never) to 1 (at once), linear between a file's levels."""
    known = (0.0, *(levels or USUAL), 1.0)
    at = min(max(strength, 0.0), 1.0) * (len(known) - 1)
    before = min(int(at), len(known) - 2)
    return known[before] + (at - before) * (known[before + 1] - known[before])


def acting(sigma: torch.Tensor, schedule: torch.Tensor | None, begin: float, flow: bool) -> torch.Tensor:
    """How much of a sampler's step lies below the noise level `begin`, 0 to 1 for each row.

    A step goes from `sigma` (N,) to the next lower one of the sampler's `schedule` (S,). Without a schedule it is all or nothing.
    """
    high = level(sigma, flow)
    if schedule is None:
        return (high <= begin).to(sigma.dtype)
    schedule = schedule.to(sigma)
    below = schedule[None] < sigma[:, None] * (1 - 1e-4)  # as rounded by the host
    low = level(torch.where(below, schedule[None], 0).amax(1), flow)
    return ((begin - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def scaled(factors: list[Factors], share: torch.Tensor) -> list[Factors]:
    """Factors whose n-th pair acts by share[n]."""
    rewrite = factors[0].rewrite.scaled(share) if factors and factors[0].rewrite else None
    return [Factors(f.down, f.up * share.to(f.up)[:, None, None], rewrite) for f in factors]


def even(levels: Sequence[float], changes: Sequence[float]) -> tuple[float, ...]:
    """The levels of STRENGTHS, at which a picture changes by the strength.

    Args:
        levels: at which an adapter was begun, rising. changes: of the picture, as a share of that of an adapter from the start.
    """
    xs, ys, found = [0.0, *levels, 1.0], [0.0], []
    for change in (*changes, 1.0):
        ys.append(min(max(change, ys[-1]), 1.0))
    for strength in STRENGTHS:
        i = next(i for i in range(1, len(ys)) if ys[i] >= strength)
        found.append(xs[i - 1] + (strength - ys[i - 1]) / (ys[i] - ys[i - 1]) * (xs[i] - xs[i - 1]))
    return tuple(round(x, 4) for x in found)
