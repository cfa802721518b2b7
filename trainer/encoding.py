"""Prompts encoded for a training: by every process of it a share."""

from host.backbone import Backbone
from host.encode import Text

from .run import processes


def encode(backbone: Backbone, prompts: list[str], clip_skip: int = 1) -> Text:
    """As Backbone.encode encodes them together."""
    if processes.count() == 1:
        return backbone.encode(prompts, clip_skip)
    # All shares are padded to the length that all prompts would be padded to together.
    longest = max(prompts, key=lambda p: sum(len(chunk) for chunks in backbone.clip.tokenize(p).values() for chunk in chunks))
    rows = processes.mine(len(prompts))
    share = backbone.encode([longest, *(prompts[i] for i in rows.tolist())], clip_skip).rows(slice(1, None))
    return share.each(lambda t: processes.whole(t, rows, len(prompts)))
