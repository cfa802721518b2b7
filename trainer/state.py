"""All of a training that a resumed one needs: weights, optimizer, random state, step. Safetensors, written atomically."""

import hashlib
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from unhype.checkpoint import write_atomically

from .config import Config, ConfigError

FREE = ("out", "preview_every", "save_every", "iterations")  # settings that a resumed training may change


def fingerprint(config: Config) -> str:
    return hashlib.sha256(repr([(k, v) for k, v in sorted(vars(config).items()) if k not in FREE]).encode()).hexdigest()


def state_path(config: Config) -> Path:
    return Path(config.out).with_suffix(".state.safetensors")


def save_state(config: Config, iteration: int, network, optimizer, rng: torch.Generator) -> None:
    parameters = dict(network.named_parameters())
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for name, p in parameters.items():
        tensors |= {f"optimizer.{name}.{k}": v for k, v in optimizer.state.get(p, {}).items()}
    tensors["rng"] = rng.get_state()
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    write_atomically(tensors, state_path(config), {"iteration": str(iteration), "config": fingerprint(config)})


def load_state(config: Config, network, optimizer, rng: torch.Generator) -> int:
    """Restore the training that --resume continues; returns its iteration.

    Raises FileNotFoundError without one, ConfigError where its settings were others.
    """
    path = state_path(config)
    if not path.exists():
        raise FileNotFoundError(f"--resume: there is no {path}; start without --resume, or give the --out of the training that was stopped")
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if metadata["config"] != fingerprint(config):
        raise ConfigError(f"--resume: {path} was made with other settings; give the same ones, or start without --resume")
    tensors = load_file(path)
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for name, p in network.named_parameters():
        prefix = f"optimizer.{name}."
        if found := {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}:
            optimizer.state[p] = {k: v.clone() if k == "step" else v.to(p.device, copy=True) for k, v in found.items()}
    rng.set_state(tensors["rng"])
    return int(metadata["iteration"])
