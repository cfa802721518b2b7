"""Files of a run that tell when anything in them was changed: safetensors with a digest of all that they hold."""

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unhype.checkpoint import write_atomically
from unhype.text import shown

SEAL = "seal"
DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "U8": torch.uint8,
}  # all that a run writes


class Damaged(ValueError):
    """A file that does not hold what a run wrote."""


def seal_of(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of names, types, shapes and bytes of the tensors, and of the metadata but for the seal itself."""
    digest = hashlib.sha256(repr(sorted((k, v) for k, v in metadata.items() if k != SEAL)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def write_sealed(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write contiguous tensors on the CPU, whole or not at all."""
    write_atomically(tensors, path, {**metadata, SEAL: seal_of(tensors, metadata)})


def read_sealed(path: Path, judge) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The file's tensors, copied, and its metadata.

    Args:
        judge: callable(metadata, {name: (dtype, shape)}) that raises where the header is not as it should be; it is asked
            before memory is taken for a tensor.
    Raises:
        Damaged, naming the file, where it is no such file or anything in it was changed or is not finite.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            entries = {name: file.get_slice(name) for name in file.keys()}
            found = {name: (e.get_dtype(), tuple(e.get_shape())) for name, e in entries.items()}
            if unknown := sorted({kind for kind, _ in found.values()} - DTYPES.keys()):
                raise Damaged(f"{path} is damaged: it holds tensors of type {shown(unknown[0])}")
            judge(metadata, {name: (DTYPES[kind], shape) for name, (kind, shape) in found.items()})
            tensors = {name: file.get_tensor(name).clone() for name in found}
    except SafetensorError as error:
        raise Damaged(f"{path} is damaged or cut off ({shown(error)})") from None
    if seal_of(tensors, metadata) != metadata.get(SEAL):
        raise Damaged(f"{path} is damaged: it does not hold what was written")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise Damaged(f"{path}: {shown(name)} holds NaN or infinite values")
    return tensors, metadata
