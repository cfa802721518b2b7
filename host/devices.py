"""What differs between graphics cards: NVIDIA's (cuda), AMD's (hip, which torch calls cuda too), Apple's (mps), Intel's (xpu), and none."""

import os
import sys
from contextlib import suppress
from typing import Any

import torch

CPU_ONLY = "UNHYPE_CPU"  # set in the environment, no graphics card is used; CUDA_VISIBLE_DEVICES hides only NVIDIA's and AMD's


def kind() -> str:
    """cuda, hip, mps or xpu, whichever this torch finds; cpu where it finds none or none is to be used."""
    if os.environ.get(CPU_ONLY):
        return "cpu"
    if torch.cuda.is_available():
        return "hip" if torch.version.hip else "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "xpu" if hasattr(torch, "xpu") and torch.xpu.is_available() else "cpu"


def module(device: torch.device) -> Any:
    """torch.cuda, torch.mps or torch.xpu; None of a CPU."""
    return None if device.type == "cpu" else getattr(torch, device.type)


def wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if (own := module(device)) is not None:
        own.synchronize()


def forget_peak(device: torch.device) -> None:
    """Memory that is kept for later is given back, and the peak is counted anew."""
    own = module(device)
    if own is not None:
        own.empty_cache()
        if hasattr(own, "reset_peak_memory_stats"):
            own.reset_peak_memory_stats()


def peak(device: torch.device) -> int:
    """Bytes at the highest since `forget_peak`. Apple's tells only what its allocator holds now, which does not fall by itself;
    of a CPU it is the process's largest size so far, 0 where the system does not tell."""
    own = module(device)
    if own is None:
        with suppress(ImportError):
            import resource

            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return 0
    found: int = own.max_memory_reserved() if hasattr(own, "max_memory_reserved") else own.driver_allocated_memory()
    return found


def free(device: torch.device) -> int:
    """Bytes of the device's memory that nobody holds, as ComfyUI counts them."""
    import comfy.model_management

    found: int = comfy.model_management.get_free_memory(device)
    return found


def title(device: torch.device) -> str:
    """The card's name; of Apple's chips and of CPUs what the system calls them."""
    own = module(device)
    if own is not None and hasattr(own, "get_device_name"):
        found: str = own.get_device_name()
        return found
    import platform

    return platform.processor() or platform.machine()


def driver() -> str:
    """CUDA's or ROCm's version of this torch; empty where it has none."""
    return str(torch.version.cuda or torch.version.hip or "")


def stores(device: torch.device, kind: torch.dtype) -> bool:
    """Whether weights of that type can lie on the device and be cast there: Apple's takes none of 8 bits."""
    try:
        torch.zeros(2, device=device).to(kind).to(torch.bfloat16)
    except (RuntimeError, TypeError):
        return False
    return True


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device's memory was too small."""
    return isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error).lower()
