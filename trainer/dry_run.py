"""What a training would take, said from the checkpoint's header alone: layers, file, memory, work, and whether it fits."""

import re
import time
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from host import devices, memory
from host.folders import DEMOS, find_base
from host.load import load_backbone, prefix_of, shapes_of
from host.memory import device_memory
from unhype import fold
from unhype.checkpoint import HALF
from unhype.hypernetwork import Hypernetwork
from unhype.layers import Family, family_of, layer_table, matrices

from .config import Config
from .settings.machine import machine
from .work import BACKWARD, work

CARDS = (8, 12, 16, 24, 48)  # GB, looked at where there is no GPU
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
DTYPES |= {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "U8": torch.uint8, "I8": torch.int8, "I64": torch.int64}
TIMED = 0.3  # seconds
PHASES = {
    "drawing": "the base's own pictures",
    "training": "training",
    "strengths": "how late a strength below 1 begins",
    "verdict": "the verdict",
    "previews": "previews",
}


def header(path: str) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file on the meta device: shapes and types, no data is read."""
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"{path}: a dry run reads the header of a .safetensors file; this is another kind of file")
    try:
        with safe_open(path, framework="pt") as file:
            entries = {name: file.get_slice(name) for name in file.keys()}
            found = {name: (e.get_dtype(), e.get_shape()) for name, e in entries.items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}. The file is damaged: download it again") from None
    unknown = {dtype for dtype, _ in found.values()} - DTYPES.keys()
    if unknown:
        raise ValueError(f"{path} holds tensors of type {', '.join(sorted(unknown))}, which a dry run cannot judge")
    return {name: torch.empty(shape, dtype=DTYPES[dtype], device="meta") for name, (dtype, shape) in found.items()}


def meta_model(base: str, compute: torch.dtype):
    """The base's diffusion model on the meta device, the type that it computes in, and the bytes of its weights as stored."""
    if base in DEMOS:
        return load_backbone(base).shapes()
    tensors = header(find_base(base))
    prefix = prefix_of(tensors)
    stored = sum(t.numel() * t.element_size() for name, t in tensors.items() if name.startswith(prefix))
    return shapes_of(tensors, base, compute), compute, stored


def widths(diffusion_model, family: Family) -> tuple[int, int, int]:
    """(token states, pooled embedding, the denoiser's vector input) of a model, as far as its own weights say."""
    columns = {name: inputs for name, (_, inputs) in matrices(diffusion_model).items()}
    text = next(width for name, width in columns.items() if re.fullmatch(family.text, name))
    vector = columns.get(family.vector, 0)
    return text, min(vector or text, text, 1280) if family.pooled else 0, vector  # SDXL's vector is its pooled embedding and sizes


def inputs_of(diffusion_model, family: Family, size: tuple[int, int], tokens: int, dtype, device) -> dict[str, torch.Tensor]:
    """One row of everything that the denoiser takes."""
    text, _, vector = widths(diffusion_model, family)
    channels = diffusion_model.out_channels
    channels = channels // diffusion_model.patch_size**2 if hasattr(diffusion_model, "patch_size") else channels
    make = lambda *shape: torch.zeros(*shape, dtype=dtype, device=device)
    given = {"x": make(1, channels, size[1] // 8, size[0] // 8), "context": make(1, tokens, text), "guidance": make(1)}
    return given | ({"y": make(1, vector)} if vector else {})


def new_network(diffusion_model, family: Family, config: Config, device="meta") -> Hypernetwork:
    """The config's hypernetwork for this model."""
    text, pooled, _ = widths(diffusion_model, family)
    with torch.device(device):
        return Hypernetwork(config.shape(layer_table(diffusion_model, family), pooled, text, family))


def file_bytes(network: Hypernetwork, config: Config, concepts: int = 1) -> int:
    """The eraser file's tensors, its heads folded."""
    with torch.device("meta"):
        tensors = Hypernetwork(replace(network.shape, bottleneck=fold.width_of(network, config.bottleneck), concepts=concepts)).state_dict()
    return sum(t.numel() * (2 if name.startswith(HALF) else 4) for name, t in tensors.items())


def measure(config: Config, diffusion_model, compute: torch.dtype, stored: int) -> tuple[Config, Family, Hypernetwork, memory.Step]:
    """Of a model on the meta device, its weights of `stored` bytes: the config with its family's settings, the family, the
    hypernetwork and what a step takes."""
    family = family_of(diffusion_model)
    config = config.for_family(family)
    network = new_network(diffusion_model, family, config)
    inputs = inputs_of(diffusion_model, family, config.size_of(False), family.tokens, compute, "meta")
    return config, family, network, memory.measure(diffusion_model, family, network, inputs, config.retain_batch, stored)


def speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating point operations per second of a large matrix product on this device."""
    size = 1024 if device.type == "cpu" else 4096
    a = torch.randn(size, size, device=device, dtype=dtype)
    a @ a, devices.wait(device)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < TIMED:
        a @ a, devices.wait(device)
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - started)


def report(config: Config) -> str:
    """The dry run's words: what there is, and what the training takes of it. More is said by trainer/doctor.py."""
    return "\n".join([*machine(), *takes(config)])


def takes(config: Config) -> list[str]:
    """Layers, file, memory and work of a training."""
    device, own = device_memory()
    on_card = device.type != "cpu"
    model, compute, stored = meta_model(config.base, torch.bfloat16 if on_card else torch.float32)
    config, family, network, step = measure(config, model, compute, stored)
    recompute = False
    count = sum(p.numel() for p in network.parameters())
    lines = [
        f"{config.base}: {family.title}, {len(network.shape.layers)} layers, weights of {step.weights / 1e9:.2f} GB",
        f"hypernetwork: {count / 1e6:.1f} million parameters, "
        f"file of {file_bytes(network, config, len(config.erase)) / 1e6:.1f} MB for {len(config.erase)} concepts",
        f"a step of {config.batch} rows at {config.size}, {str(compute).removeprefix('torch.')}:",
    ]
    memories = [own] if on_card else [gb * memory.GB for gb in CARDS]
    for total in memories:
        plan = memory.plan(step, config.batch, total)
        recompute = on_card and plan is not None and plan.recompute
        where = f"this card of {total / memory.GB:.0f} GB" if on_card else f"a card of {total / memory.GB:.0f} GB"
        lines.append(f"  {where}: " + (f"{plan.peak / memory.GB:.1f} GB at the peak, {plan}" if plan else "does not fit"))
    if not on_card:
        peak = step.peak(config.batch, False, False)
        lines.append(f"  here, on the CPU: {peak / memory.GB:.1f} GB at the peak of {own / memory.GB:.0f} GB")
    return lines + expected(config, family, step, speed(device, compute), recompute)


def expected(config: Config, family: Family, step: memory.Step, rate: float, recompute: bool) -> list[str]:
    """How often the denoiser is asked, and how long that takes at least at `rate` floating point operations a second."""
    found = work(config, family)
    per_row = step.flops / (1 + BACKWARD)
    rows = {name: getattr(found, name) for name in PHASES}
    cost = rows | {"training": (1 + BACKWARD + recompute) * found.training}
    minutes = {name: per_row * forwards / rate / 60 for name, forwards in cost.items()}
    parts = [f"{PHASES[name]} {count} ({minutes[name]:.1f} min)" for name, count in rows.items() if count]
    return [
        f"work: the denoiser is asked {'' if config.iterations else 'at most '}{found.evaluations} times: {', '.join(parts)}",
        f"  at least {sum(minutes.values()):.1f} minutes where a matrix product runs at {rate / 1e12:.2g} TFLOPS, as here; "
        f"encoding the prompts comes on top{', and so do looks at held-out prompts' if config.finds() else ''}",
    ]
