"""A base model by what it holds, whatever its file is called."""

import hashlib

import torch

from host.backbone import Backbone
from host.encode import Text

BLOCK, WORD = 4096, 8  # words that are added up, and bytes of one


def sums(tensor: torch.Tensor) -> torch.Tensor:
    """Of every block of a tensor's bytes a whole number that changes with each of them, (blocks,) on the CPU.

    Worked out where the tensor lies: 24 GB are read in a second by a graphics card, and no more than sums leave it.
    """
    flat = tensor.detach().reshape(-1).contiguous().view(torch.uint8)
    flat = flat if flat.storage_offset() % WORD == 0 else flat.clone()
    whole = len(flat) // WORD * WORD
    words = flat[:whole].view(torch.int64)  # of their own type: sums that also cast are a hundred times slower
    blocks = len(words) // BLOCK * BLOCK
    parts = words[:blocks].view(-1, BLOCK).sum(1), words[blocks:].sum()[None], flat[whole:].sum(dtype=torch.int64)[None]
    return torch.cat(parts).cpu()


def plain(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensor, or those that a quantised one is made of."""
    if hasattr(tensor, "__tensor_flatten__"):
        return [t for name in tensor.__tensor_flatten__()[0] for t in plain(getattr(tensor, name))]
    return [] if tensor.is_meta else [tensor.as_subclass(torch.Tensor)]


def content_of(backbone: Backbone, texts: list[Text], steps: int) -> str:
    """Digest of all that samples are drawn from beside the settings: the denoiser's weights as they are loaded, patches
    included, the noise levels of `steps`, and the prompts as the text encoders read them."""
    digest = hashlib.sha256(repr((backbone.flow, backbone.sigmas(steps).tolist())).encode())
    module = backbone.diffusion_model
    read = [(f"prompts {i}", t) for i, text in enumerate(texts) for t in vars(text).values() if t is not None]
    named = [*module.named_parameters(), *module.named_buffers(), *read]
    for name, tensor in named:
        for part in plain(tensor):
            digest.update(repr((name, str(part.dtype), tuple(part.shape))).encode())
            digest.update(sums(part).numpy())
    return digest.hexdigest()
