"""Which token states a conditioning's attention_mask leaves to the denoiser."""

import torch

HIDDEN = -1e4  # added to an attention score, nothing is left of it


def seen(attention_mask: torch.Tensor, tokens: torch.Tensor, where: str) -> torch.Tensor:
    """ComfyUI's attention_mask of token states (N, T, D) as (N, T) bool, True where a state is seen.

    It is (N or 1, T), with ones between or not: whole numbers or truth values, 1 where a token is real; or a bias of floats,
    which hides what it puts below HIDDEN. Nothing is hidden that the denoiser attends to: not what lies beyond a mask's end
    (ConditioningConcat keeps the first prompt's mask for both), nor a row of which nothing would be left. Raises ValueError,
    naming `where`, for a mask of another kind.
    """
    count, length, _ = tokens.shape
    found = tuple(attention_mask.shape)
    wrong = ""
    if len(found) < 2 or any(size != 1 for size in found[1:-1]) or found[0] not in (1, count) or found[-1] > length:
        wrong = f"of shape {found} for token states of shape {tuple(tokens.shape)}, expected {(count, length)}"
    elif not attention_mask.is_floating_point() and (odd := set(attention_mask.unique().tolist()) - {0, 1}):
        wrong = f"that holds {min(odd)}, expected 1 where a token is real and 0 where it is padding"
    if wrong:
        raise ValueError(
            f"{where} has an attention_mask {wrong}: "
            "use the conditioning of a text encoder node (CLIPTextEncode), or take out the node that changes its mask"
        )
    mask = ~(attention_mask <= HIDDEN) if attention_mask.is_floating_point() else attention_mask.bool()
    mask = mask.reshape(found[0], found[-1]).to(tokens.device).expand(count, -1)
    mask = torch.nn.functional.pad(mask, (0, length - found[-1]), value=True)
    return mask | ~mask.any(1, keepdim=True)
