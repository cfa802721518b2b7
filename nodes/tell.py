"""What an eraser did in a sampling, in a line or two: on its node and in the log."""

import logging
import math
from typing import NamedTuple

import torch

from ..unhype.checkpoint import Eraser
from ..unhype.text import shown

LONGEST_NAME, LONGEST_LIST = 40, 120
log = logging.getLogger("unhype")


def account(names: list[str], scores: torch.Tensor, threshold: torch.Tensor, off: torch.Tensor, taken: torch.Tensor) -> str:
    """One or two lines on which concepts fired and how surely.

    Args:
        scores: of N prompts and K concepts, (N, K). threshold: (K,).
        off: concepts that are switched off, (K,) bool. taken: those that another node erases from a prompt, (N, K) bool.
    """
    above = (scores > threshold) & ~off
    counts, left = (above & ~taken).sum(0).tolist(), (above & taken).any(0).tolist()
    best, bar, count = scores.amax(0).tolist(), threshold.tolist(), len(scores)
    names = [shown(name, LONGEST_NAME) for name in names]
    order = sorted(range(len(names)), key=lambda k: bar[k] - best[k])
    firing = [k for k in order if counts[k]]
    lines = [
        f"{names[k]}: fired on {counts[k]} of {count} prompt{'s' * (count > 1)} ({best[k]:.1f}, threshold {bar[k]:.1f})" for k in firing
    ]
    if any(left):
        last = f"left to another UnHype Eraser: {shown(', '.join(names[k] for k in order if left[k]), LONGEST_LIST)}"
        return "\n".join([*lines[:1], last])
    if not firing:
        is_off = off.tolist()
        near = next(k for k in order if not is_off[k])
        if not math.isfinite(best[near]):
            return "nothing fired: the prompt is empty"
        return f"nothing fired; nearest: {names[near]} at {best[near]:.1f} (threshold {bar[near]:.1f})"
    if len(firing) > 2:
        others = ", ".join(f"{names[k]} on {counts[k]}" for k in firing[1:])
        return f"{lines[0]}\nalso fired: {shown(others, LONGEST_LIST)}"
    return "\n".join(lines)


class Seen(NamedTuple):
    """What an eraser with K concepts found in N prompts."""

    eraser: Eraser
    scores: torch.Tensor  # (N, K)
    off: torch.Tensor  # (K,) bool
    taken: torch.Tensor  # (N, K) bool: left to another node


def account_of(seen: list[Seen]) -> str:
    """The account of one node's erasers, as if they were one."""
    names = [c.name for s in seen for c in s.eraser.concepts]
    threshold, off = torch.cat([s.eraser.network.switch.threshold for s in seen]), torch.cat([s.off for s in seen])
    return account(names, torch.cat([s.scores for s in seen], 1), threshold, off, torch.cat([s.taken for s in seen], 1))


def sources(seen: list[Seen]) -> str:
    return " and ".join(s.eraser.source for s in seen)


def harmless(text: str) -> str:
    """A text for a node, which front ends put into the page as HTML: without a tag, whatever a stranger's file calls its concepts."""
    return text.replace("<", "‹")


def tell(node: str | None, source: str, text: str) -> None:
    """Show a text on the node with the id `node`, where a server shows nodes, and log it."""
    log.info("%s: %s", source, text.replace("\n", "; "))
    show(node, text)


def show(node: str | None, text: str) -> None:
    """Show a text on the node with that id, in place of the one before."""
    if node is None:
        return
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.send_progress_text(harmless(text), node, server.client_id)
