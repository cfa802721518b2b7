"""All of a training that a resumed one needs: weights, optimizer, random state, step. Two files: the newest and the one before."""

import hashlib
import math
import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from unhype.leftovers import flush_folder
from unhype.text import shown

from .config import Config, ConfigError
from .found.course import KEPT, Course
from .run import beside, processes
from .run.progress import say
from .run.sealed import Damaged, read_sealed, write_sealed

# Settings that a resumed training may change.
FREE = ("out", "vae", "preview_every", "save_every", "look_every", "iterations")
FREE += ("least_erased", "most_misses", "most_false_alarms", "most_leaked")


def fingerprint(config: Config) -> str:
    return hashlib.sha256(repr([(k, v) for k, v in sorted(vars(config).items()) if k not in FREE]).encode()).hexdigest()


def state_path(config: Config) -> Path:
    return beside.state_path(config.out)


def save_state(config: Config, iteration: int, network, optimizer, rng: torch.Generator, finder=None) -> None:
    """Save beside the state before this one, which then becomes the former one; of several processes the first one does.

    config: as it was given.
    """
    if not processes.first():
        return
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for name, p in network.named_parameters():
        tensors |= {f"optimizer.{name}.{k}": v for k, v in optimizer.state.get(p, {}).items()}
    tensors["rng"] = rng.get_state()
    found = {}
    if finder:
        kept, found = finder.saved()
        tensors |= kept
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    path, coming = state_path(config), beside.coming_state_path(config.out)
    returns = {"returns": str(n)} if (n := optimizer.param_groups[0].get("returns", 0)) else {}
    write_sealed(
        tensors, coming, {"iteration": str(iteration), "config": fingerprint(config), "erase": "\n".join(config.erase), **returns, **found}
    )
    if path.exists():
        os.replace(path, beside.former_state_path(config.out))
    os.replace(coming, path)
    flush_folder(path.parent)


def saved(config: Config) -> list[Path]:
    """The state files that there are, the newest first. Raises FileNotFoundError where there is none."""
    paths = [path for path in (state_path(config), beside.former_state_path(config.out)) if path.is_file()]
    if not paths:
        raise FileNotFoundError(
            f"--resume: there is no {state_path(config)}; start without --resume, or give the --out of the training that was stopped"
        )
    return paths


def refuse_other_settings(config: Config) -> None:
    """Raise ConfigError where the training that --resume continues was one of other settings: asked before anything is written."""
    for path in saved(config):
        try:
            with safe_open(path, framework="pt") as file:
                judge_settings(path, config, file.metadata() or {})
            return
        except (Damaged, SafetensorError):
            pass  # said when it is loaded


def erased_before(config: Config) -> list[str]:
    """The entries of `erase`, with the words that were found for them, of the training that --resume continues: on a graphics card
    rounding could find others. Nothing where no state says so."""
    for path in saved(config):
        try:
            with safe_open(path, framework="pt") as file:
                return (file.metadata() or {}).get("erase", "").splitlines()
        except SafetensorError:
            continue  # said when it is loaded
    return []


def judge_settings(path: Path, config: Config, metadata: dict[str, str]) -> None:
    if not re.fullmatch("[0-9a-f]{64}", metadata.get("config", "")):
        raise Damaged(f"{path} is damaged: it says nothing of its settings")
    if metadata["config"] != fingerprint(config):
        raise ConfigError(f"--resume: {path} was made with other settings; give the same ones, or start without --resume")


def load_state(config: Config, network, optimizer, rng: torch.Generator, progress=say, finder=None) -> int:
    """Restore the training that --resume continues; returns its iteration.

    Where the newest state is damaged, a line says so and the one before it is taken. Raises FileNotFoundError without
    one, ConfigError where its settings were others, Damaged where none is whole.
    """
    paths = saved(config)
    for path in paths:
        try:
            iteration, metadata, tensors = read_state(path, config, network, optimizer, rng)
            break
        except Damaged as error:
            if path == paths[-1]:
                raise Damaged(f"--resume: {error}; start without --resume") from None
            progress(f"warning: {error}; the state before it is taken")
    progress(f"continuing from {path}, at iteration {iteration}")
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for name, p in network.named_parameters():
        prefix = f"optimizer.{name}."
        if found := {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}:
            optimizer.state[p] = {k: v if k == "step" else v.to(p.device) for k, v in found.items()}
    for group in optimizer.param_groups:
        group["returns"] = int(metadata.get("returns", "0"))
    rng.set_state(tensors["rng"])
    if finder and "found" in metadata:
        finder.load(tensors, Course.read(metadata["found"], path))
    return iteration


def read_state(path: Path, config: Config, network, optimizer, rng: torch.Generator) -> tuple[int, dict, dict[str, torch.Tensor]]:
    """A state file's iteration, its metadata and its tensors, every one checked. Raises as load_state does."""

    def judge(metadata, found):
        judge_settings(path, config, metadata)
        if not re.fullmatch("[1-9][0-9]{0,11}", metadata.get("iteration", "")):
            raise Damaged(f"{path} is damaged: its iteration is no whole number from 1")
        if not re.fullmatch("[0-9]", metadata.get("returns", "0")):
            raise Damaged(f"{path} is damaged: how often its training went back is no number")
        expected = layout(network, optimizer, rng)
        if "found" in metadata and math.isfinite(Course.read(metadata["found"], path).best):
            own = {f"{KEPT}{name}": (p.dtype, tuple(p.shape)) for name, p in network.named_parameters() if p.requires_grad}
            expected |= own
        for name in sorted(expected.keys() | found.keys()):
            if expected.get(name) != found.get(name) and not (name.startswith("optimizer.") and without_moments(name, found)):
                raise Damaged(f"{path} is damaged: its tensor {shown(name)} is missing, not of this training or of another size")

    tensors, metadata = read_sealed(path, judge)
    iteration = int(metadata["iteration"])
    if iteration > (most := config.most_steps()):
        raise ConfigError(
            f"--resume: {path} is at iteration {iteration}, and these settings make at most {most}: "
            "give at least as many iterations, or start without --resume"
        )
    try:
        torch.Generator().set_state(tensors["rng"])
    except RuntimeError as error:
        raise Damaged(f"{path} is damaged: its random state is none ({shown(error)})") from None
    return iteration, metadata, tensors


def layout(network, optimizer, rng: torch.Generator) -> dict[str, tuple]:
    """Type and shape of every tensor of a state: weights, Adam's step and two moments of what is trained, random state."""
    expected = {f"network.{k}": (v.dtype, tuple(v.shape)) for k, v in network.state_dict().items()}
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for name, p in network.named_parameters():
        if id(p) in trained:
            expected[f"optimizer.{name}.step"] = torch.float32, ()
            expected |= {f"optimizer.{name}.{moment}": (p.dtype, tuple(p.shape)) for moment in ("exp_avg", "exp_avg_sq")}
    return expected | {"rng": (torch.uint8, tuple(rng.get_state().shape))}


def without_moments(name: str, found: dict) -> bool:
    """Whether the parameter of an optimizer's tensor has none of them yet: no gradient has reached it."""
    return not any(other.startswith(name.rpartition(".")[0] + ".") for other in found)
