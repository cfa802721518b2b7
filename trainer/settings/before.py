"""What is checked before a training begins, so that nothing is lost and no hour is spent on what cannot end well."""

import argparse
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from host.backbone import Backbone
from host.files import Base, latent_channels
from host.folders import DEMOS, find_base, find_file
from host.inputs import check_files
from host.start import ROOT
from unhype.checkpoint import Concept, Eraser
from unhype.description import parse_description
from unhype.files import EMPTY, ERASER, what_is
from unhype.fold import width_of
from unhype.header import MAX_BYTES, CheckpointError, read_header
from unhype.hypernetwork import Hypernetwork
from unhype.layers import Family

from .. import dry_run
from ..run.divergence import check_base
from ..run.lock import busy, held
from ..samples import drawn_of
from .fields import Config, ConfigError
from .paths import placed, written

GB = 1e9
SHOWN = 24  # pictures of a preview, at most


def prepare(config: Config, arguments: argparse.Namespace) -> Config:
    """The settings with out where it is written, every file that the training reads or writes checked.

    Raises Busy, ConfigError, ValueError or OSError, in one line, before anything is loaded and with every file left as it was.
    """
    config = replace(config, out=placed(config.out))
    inputs = {"base": base_files(config), "config or a list": arguments.inputs, "add_to": [config.add_to] if config.add_to else []}
    inputs["text_encoders"] = [find_file(f, ("text_encoders",), "text encoder") for f in config.text_encoders]
    inputs["vae"] = [find_file(config.vae, ("vae",), "VAE")] if config.vae else []
    refuse_writing_over(config, inputs)
    if held(config.out) and not arguments.dry_run:
        raise busy(config.out)
    if not arguments.dry_run and not arguments.resume:
        refuse_replacing(config, arguments.overwrite)
    found = check_files(config.base, config.text_encoders, config.vae)
    network = check_reader(config, found.denoiser, found.family) if found.family else None
    if not arguments.dry_run:
        folder = check_folder(config)
        check_space(config, found, network, folder)
    return config


def base_files(config: Config) -> list[Path | str]:
    return sorted((ROOT / "demo").rglob("*.safetensors")) if config.base in DEMOS else [find_base(config.base)]


def refuse_writing_over(config: Config, inputs: dict[str, list]) -> None:
    """Raise ConfigError where a file that is written is one that is read: by the same path, another spelling, or a link."""
    for what, path in written(config).items():
        for name, files in inputs.items():
            for file in files:
                if same(path, file):
                    raise ConfigError(f"out: the {what} {path} would be written over {file}, which is read as {name}: give another out")


def same(a: str | Path, b: str | Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one of them is not there
        return os.path.realpath(a) == os.path.realpath(b)


def refuse_replacing(config: Config, overwrite: bool) -> None:
    """Raise ConfigError where a former training's files lie, unless they may be replaced; what is no eraser never is."""
    files = written(config)
    out = files["eraser"]
    if overwrite:
        if os.path.isfile(out) and (kind := what_is(out)) not in (ERASER, EMPTY):
            raise ConfigError(f"out: {out} is {kind.what}, and --overwrite replaces erasers only: give another out")
        return
    state = next((files[name].name for name in ("state", "state before") if os.path.exists(files[name])), None)
    if state and not judged(out):
        raise ConfigError(f"out: a training of {out} was stopped ({state} lies there): go on with --resume, or start over with --overwrite")
    for what in ("eraser", "log", "page", "previews"):
        if os.path.exists(files[what]) and not (os.path.isdir(files[what]) and not os.listdir(files[what])):
            raise ConfigError(f"out: the {what} {files[what]} is there already: give another out, or replace it with --overwrite")


def judged(out: Path) -> bool:
    """Whether the training of what lies at `out` came to its end, which is the verdict; so it is where no eraser tells."""
    if not os.path.exists(out):
        return False
    try:
        return "verdict" in read_header(out)[0].get("metrics", {})
    except (CheckpointError, OSError):
        return True


def check_folder(config: Config) -> Path:
    """The folder of out, made where it is not there, with every file's name tried in it. Raises OSError."""
    files = written(config)
    for what, path in files.items():
        if os.path.isdir(path) != (what == "previews") and os.path.exists(path):
            raise OSError(
                f"out: {path}, where the {what} is written, is {'a folder' if os.path.isdir(path) else 'a file'}: give another out"
            )
    folder = files["eraser"].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        longest = max((path.name for path in files.values()), key=len)
        handle, probe = tempfile.mkstemp(prefix=f".{longest}.", suffix=".tmp", dir=folder)
        os.close(handle)
        os.unlink(probe)
    except OSError as error:
        where = files["eraser"]
        raise OSError(f"out: {where} cannot be written ({error.strerror}): give an out in a folder that you may write to") from None
    return folder


def check_reader(config: Config, denoiser, family: Family) -> Hypernetwork:
    """The hypernetwork of the settings for a denoiser (a model, or its Shapes), on the meta device; its file is one that the
    reader takes.

    Raises ConfigError with the reader's own words where it would refuse what is written.
    """
    config = config.for_family(family)
    if not config.trains() and not config.rewrites(family):
        raise ConfigError(
            f"an eraser without training (objective {config.objective}) rewrites what layers read that read the prompt alone, "
            f"and those of {family.title} do not: choose objective direct, or a preset that trains"
        )
    network = dry_run.new_network(denoiser, family, config)
    shape = replace(network.shape, bottleneck=width_of(network, config.bottleneck))
    with torch.device("meta"):
        written = Hypernetwork(shape)
    names = [Concept(e.name, e.mapping) for e in config.erased()]
    try:
        parse_description(Path(config.out), json.loads(json.dumps(Eraser(written, family.name, names, asdict(config)).describe())))
    except ValueError as error:
        raise ConfigError(f"what would be trained could not be read: {error}") from None
    if (size := dry_run.file_bytes(network, config, len(names))) > MAX_BYTES:
        raise ConfigError(
            f"the eraser of {config.base} would take {size / GB:.1f} GB, expected at most {MAX_BYTES / GB:.1f}: "
            f"make rank ({config.rank}), hidden ({config.hidden}) or bottleneck ({config.bottleneck}) smaller"
        )
    return network


def check_space(config: Config, base: Base, network: Hypernetwork | None, folder: Path) -> None:
    """Raise OSError where the disk has less room than the training's files take."""
    if network is None:
        return
    needed, free = bytes_written(config, base, network), shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"out: {folder} has {free / GB:.2f} GB of free space, this training writes about {needed / GB:.2f}: "
            "free some, or give an out on another disk"
        )


def bytes_written(config: Config, base: Base, network: Hypernetwork) -> int:
    """About what a training writes: the eraser, its state twice while one replaces the other, samples and previews."""
    config = config.for_family(base.family)
    weights = 4 * sum(p.numel() for p in network.parameters())
    per_picture = lambda pair: latent_channels(base.denoiser, base.family)[1] * config.size_of(pair)[0] * config.size_of(pair)[1] // 64
    pictures = drawn_of(config.pictures, len(config.erase))
    numbers = pictures * config.kept_steps * (2 * per_picture(False) + per_picture(True))
    shown = SHOWN * 3 * config.size_of(False)[0] * config.size_of(False)[1] // 2
    previews = shown * (1 + config.most_steps() // config.preview_every) if config.preview_every else 0
    copies = 3 if config.iterations else 4  # the optimizer's two moments, and the best weights
    return dry_run.file_bytes(network, config, len(config.erase)) + 2 * copies * weights + 3 * 4 * numbers + previews


def check_loaded(config: Config, backbone: Backbone) -> float:
    """What only a loaded base tells: whether the reader takes its eraser, and whether it works at all. Returns the seconds that a
    prediction took. Raises ValueError."""
    check_reader(config, backbone.diffusion_model, backbone.family)
    return check_answers(config, backbone)


@torch.no_grad()
def check_answers(config: Config, backbone: Backbone) -> float:
    """Raise ValueError where the base's prediction for an empty prompt is not finite: it says so before an hour is spent. Returns the
    seconds that it took."""
    config = config.for_family(backbone.family)
    text = backbone.encode([""]).to(backbone.device)
    sigma = backbone.sigmas(config.sampling_steps)[:1].to(backbone.device)
    with torch.random.fork_rng(devices=[]):
        x = backbone.noise(config.size_of(False), config.seed)[None].to(backbone.device) * sigma
    started = time.perf_counter()
    check_base(backbone, config, x, sigma, text.tokens, text.pooled, text.mask, "for an empty prompt")
    return time.perf_counter() - started
