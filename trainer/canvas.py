"""A training that is asked for on a canvas: settings from a few widgets, a file name that is nobody's, and what was made before
with the same settings of the same model found again."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from host.backbone import Backbone
from host.files import Base, Shapes
from unhype.checkpoint import Eraser, load_eraser
from unhype.text import shown

from . import state
from .config import from_mapping
from .prompts.neighbours import resolve
from .run.content import content_of
from .run.lock import held, only_run
from .settings.before import bytes_written, check_folder, check_reader
from .settings.checks import check
from .settings.fields import REWRITING, Config, ConfigError
from .settings.strict_yaml import read_yaml
from .train import RECIPE, train

WHO = "UnHype Train"
INSTANT = "instant"
PRESETS = {INSTANT: 0.0, "quick": 1 / 3, "normal": 1.0, "thorough": 3.0}  # share of the settings' iterations
STEPS, RATE = 300, 5e-4  # where the settings give none
CONFIGS = Path(__file__).with_name("configs")
ITS_OWN = ("base", "erase", "out")  # settings of a config file that are not taken from it
FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LONGEST = 80  # of a name
NAMED = 3  # concepts that a name is made from
TRIED = 1000  # numbered names
GB = 1e9


@dataclass
class Wish:
    """What the widgets say."""

    erase: str  # an entry a line
    name: str = ""
    preset: str = "normal"
    retain: str = ""  # separated by commas or lines
    seed: int = 0
    base: str = "the graph's model"  # where it comes from, for the file
    settings: str = ""  # of trainer/configs, where the base has its own


def lines_of(text: str, separators: str = "\n") -> list[str]:
    return [part.strip() for part in re.split(f"[{separators}]", text) if part.strip()]


def config_of(wish: Wish) -> Config:
    """The checked settings of a wish, its file's name without a folder. Raises ConfigError."""
    if wish.preset not in PRESETS:
        raise ConfigError(f"{WHO}: preset is {wish.preset!r}, expected one of {', '.join(PRESETS)}: choose it again")
    entries = lines_of(wish.erase)
    if not entries:
        raise ConfigError(f'{WHO}: erase is empty. Write what is to be forgotten, a concept a line, like "cat, kitty -> forest"')
    own = read_yaml(CONFIGS / wish.settings) if wish.settings else {}
    values = {name: value for name, value in own.items() if name not in ITS_OWN}
    values |= {"base": wish.base, "erase": entries, "seed": wish.seed, "out": "unnamed.safetensors"}
    config = from_mapping(values, WHO)
    iterations = max(1, round(PRESETS[wish.preset] * (config.iterations or STEPS)))
    every = max(1, iterations // 10)
    retain = list(dict.fromkeys([*config.retain, *lines_of(wish.retain, ",\n")]))
    config = replace(config, iterations=iterations, save_every=every, preview_every=5 * every, retain=retain)
    config.learning_rate = config.learning_rate or RATE
    if wish.preset == INSTANT:
        config = replace(config, objective=REWRITING, preview_every=0)
    return check(replace(config, out=f"{file_name(wish.name, config)}.safetensors"), WHO)


def file_name(name: str, config: Config) -> str:
    """The name that was typed, or one of the first concepts. Raises ConfigError for what cannot be a file's name."""
    name = name.strip().removesuffix(".safetensors").rstrip()
    if not name:
        names = [re.sub(r"\s+", "-", FORBIDDEN.sub(" ", e.name).strip(". ")) for e in config.erased()[:NAMED]]
        name = "_".join(filter(None, names))[:LONGEST] or "eraser"
        return f"{name}_" if RESERVED.fullmatch(name) else name
    if found := FORBIDDEN.search(name):
        what = "a name without a folder: erasers are saved in models/unhype" if found[0] in "/\\" else f"one without {found[0]!r}"
        raise ConfigError(f"{WHO}: name is {shown(name)!r}, expected {what}")
    if name.startswith(".") or name.endswith(".") or RESERVED.fullmatch(name) or len(name) > LONGEST or not name.isprintable():
        raise ConfigError(f"{WHO}: name is {shown(name)!r}, which is no file's name on every system: choose another, like cat")
    return name


def places(folder: str | Path, name: str) -> Iterator[Path]:
    """cat.safetensors, cat_2.safetensors and so on."""
    stem = name.removesuffix(".safetensors")
    for number in range(1, TRIED):
        yield Path(folder) / (f"{stem}.safetensors" if number == 1 else f"{stem}_{number}.safetensors")


def made_before(config: Config) -> Eraser | None:
    """The eraser at `out` that these settings would make again, its verdict still to come or not; None where there is none."""
    try:
        eraser = load_eraser(config.out)
    except (OSError, ValueError):
        return None
    known = {f.name for f in fields(Config)}
    former = Config(**{name: value for name, value in eraser.training.items() if name in known})
    same = state.fingerprint(former) == state.fingerprint(config) and former.iterations == config.iterations
    return eraser if same and eraser.metrics.get("recipe") == RECIPE else None


def stopped_before(config: Config) -> bool:
    """Whether a training with these settings was stopped at `out`."""
    try:
        with safe_open(state.state_path(config), framework="pt") as file:
            metadata = file.metadata() or {}
        return metadata.get("config") == state.fingerprint(config) and int(metadata.get("iteration", "")) <= config.iterations
    except (OSError, ValueError, SafetensorError):
        return False


def check_room(config: Config, backbone: Backbone) -> None:
    """Raise OSError or ValueError where the eraser's folder cannot be written, or its disk is full."""
    module = backbone.diffusion_model
    base = Base({}, Shapes({name: tuple(p.shape) for name, p in module.named_parameters()}), backbone.family)
    needed = bytes_written(config, base, check_reader(config, module, backbone.family))
    folder = check_folder(config)
    if (free := shutil.disk_usage(folder).free) < needed:
        raise OSError(f"{WHO}: {folder} has {free / GB:.2f} GB of free space, this training writes about {needed / GB:.2f}: free some")


def trained(wish: Wish, backbone: Backbone, folder: str | Path, say, stop) -> tuple[Path, dict]:
    """The path of the eraser that a wish makes of a base, and its verdict: trained, gone on with where it was stopped, or
    found as it was made before. A file that was made otherwise keeps its name, and this one gets a number.

    Raises ValueError, OSError and Diverged as a training does, KeyboardInterrupt where `stop` was asked to.
    """
    config = config_of(wish)
    name = config.out
    read = backbone.encode([w for e in config.erased() for w in e.words])
    backbone.load()  # the text encoder may have taken its room, and LoRAs are on what is loaded only
    content = content_of(backbone, [read], config.sampling_steps)
    config = replace(config, base=f"{config.base} #{content[:12]}").for_family(backbone.family)
    config = replace(resolve(config, backbone, say, draws=True), neighbours=0, find_words=0)  # they are in retain and erase now
    for out in places(folder, name):
        config = replace(config, out=str(out))
        eraser, there = made_before(config), os.path.lexists(out)
        if eraser and "verdict" in eraser.metrics:
            say(f"{out.name} was made with these settings before: it is taken as it is")
            return out, eraser.metrics["verdict"]
        resume = stopped_before(config) and (eraser is not None or not there)
        if held(out) or not resume and (there or os.path.lexists(state.state_path(config))):
            continue
        if out.name != name:
            say(f"{name} is another eraser, which is kept: this one is saved as {out.name}")
        check_room(config, backbone)
        with only_run(out):
            eraser = train(config, backbone, resume, progress=say, stop=stop)
        return out, eraser.metrics["verdict"]
    raise ConfigError(f"{WHO}: {folder} holds {TRIED - 1} erasers of the name {name}: choose another name")


def in_words(verdict: dict, config: Config) -> str:
    """A verdict for whoever reads it on a node: whether it passed, what was measured, and what to do."""
    lines, failed = [], []
    for name, found in verdict["concepts"].items():
        lines.append(
            f"{name}: {found['erased']:.0%} of the wanted change; of {found['prompts']} prompts that name it {found['misses']:.1%} are "
            f"missed, of the others {found['false_alarms']:.1%} are taken for it"
        )
        if config.least_erased and not found["erased"] >= config.least_erased:
            failed.append(f"{name} is still drawn: choose a longer preset, or replace it by something that the model draws clearly")
        if found["misses"] > config.most_misses:
            failed.append(f'{name} is not recognised in every prompt: name it by more words, like "cat, kitty -> forest"')
        if found["false_alarms"] > config.most_false_alarms:
            failed.append(f"other prompts are taken for {name}: write what should stay into retain")
    if not failed and not verdict["passed"]:
        failed.append("nothing was learned: choose a longer preset")
    head = ["FAILED: do not rely on this eraser", *failed] if failed else ["passed"]
    return "\n".join([*head, *lines, f"{verdict['left_alone']:.1%} of the other prompts are left exactly alone"])
