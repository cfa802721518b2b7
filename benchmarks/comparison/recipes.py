"""The methods under test on the demo base: their configs, how each is trained, and what that cost."""

import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from demo.captions import NOUNS
from demo.judge import NAMES
from demo.prompts import erased_prompts, other_prompts
from evaluation import baselines, closed_forms, controls, measure, rewriting
from evaluation.methods import Method, edited, rewritten, switched
from trainer.config import DEFAULT, Config, from_mapping, read_yaml
from trainer.data import Data
from trainer.prompts.concepts import retain_prompts, target_prompts
from trainer.run import beside
from trainer.train import train
from unhype.checkpoint import Eraser, load_eraser, save_eraser, write_atomically
from unhype.fold import folded, seen_by_heads
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import family_of, layer_table

from . import emoji
from .meter import Meter
from .settings import key_of

ROOT = Path(__file__).resolve().parents[2]
MAPPING = "forest"
GROWTH = 0.55
PAIRS_REWRITTEN = 40  # prompts of a concept beside another thing that rewriting is fitted on
# Erased at once, in this order; the single ones are the first six, each alone.
ORDER = ("cat", "car", "pizza", "guitar", "horse", "ghost", "bear", "fish", "airplane", "house", "ball", "cake")
ORDER_REST = ("dog", "bus", "book", "apple", "bird", "boat", "clock", "burger")
NARROW = "unhype-narrow"  # the very networks of unhype, folded as they are by default so that files of large models are small
HYPERNETWORKS = {"unhype": "direct", "unhype-trajectory": "trajectory", "unhype-authors": "authors"}
# Behind unhype's switch and without an adapter: the whole conditioning, the states that fire, all of a prompt that fires.
REWRITING = ("rewrite-whole", "rewrite-tokens", "rewrite-prompt")
# The very networks of unhype: no states rewritten; all of it in the weights of each prompt, as a weight patch or a LoRA has it; and states
# rewritten without an adapter, as an instant eraser does, whose switch and maps are the same.
ADAPTER, WEIGHTS, AT_ONCE = "unhype-adapter", "unhype-weights", "unhype-instant"
VARIANTS = (NARROW, ADAPTER, WEIGHTS, AT_ONCE)
CLOSED_FORMS = {"uce": baselines.uce, "speed": closed_forms.speed, "oce": closed_forms.oce}
METHODS = (*HYPERNETWORKS, *VARIANTS, "lora-esd", "lora-switched", "esd-full", *CLOSED_FORMS, *REWRITING, "lora-stack")
BASE = "base"  # the model with no eraser at all, as a method to be attacked
CONTROLS = ("static-switched", "shuffled-switched")


@dataclass
class Cost:
    """Of one training: processor seconds (one thread), rows that went through the denoiser, megabytes of the file."""

    train_seconds: float
    denoiser_evaluations: int
    file_mb: float


def config_for(method: str, nouns: list[str], seed: int, out: Path, settings: dict) -> Config:
    """The demo's recipe for these nouns, every other noun retained."""
    own = {"erase": [f"{n} -> {MAPPING}" for n in nouns], "retain": [n for n in NOUNS if n not in (*nouns, MAPPING)]}
    return demo_recipe(method, nouns, seed, out, settings, own)


def demo_recipe(method: str, nouns: list[str], seed: int, out: Path, settings: dict, own: dict) -> Config:
    """The demo's recipe with a base's own words; iterations grow with a power of the number of nouns."""
    values = read_yaml(ROOT / "trainer/configs/demo_cat.yaml") | {"bottleneck": 0, "sampling_steps": 16} | settings | own
    values |= {"seed": seed, "out": str(out), "preview_every": 0, "objective": HYPERNETWORKS.get(method, "direct")}
    values["iterations"] = round(values["iterations"] * len(nouns) ** GROWTH)
    return from_mapping(values, f"{method} of {', '.join(nouns)}")


EMOJI = measure.Protocol("emoji-sd", NAMES, emoji.prompt_sets, config_for)


@contextmanager
def measured(backbone):
    """Counts what a training costs: yields a list that holds seconds and rows afterwards."""
    meter, cost = Meter(backbone.diffusion_model), []
    try:
        yield cost
    finally:
        meter.handle.remove()
        cost += [meter.seconds, meter.rows]


@contextmanager
def alone(path: Path):
    """Wait until no other process is making the same file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        yield


def kept_or_made(backbone, path: Path, work) -> tuple[dict, Cost]:
    """Tensors and their cost from a file, made and written first where it is not there."""
    with alone(path):
        if not path.exists():
            with measured(backbone) as cost:
                tensors = work()
            write_atomically({k: v.contiguous() for k, v in tensors.items()}, path, {"seconds": str(cost[0]), "rows": str(cost[1])})
    with safe_open(path, framework="pt") as file:
        found = file.metadata()
    return load_file(path), Cost(float(found["seconds"]), int(found["rows"]), path.stat().st_size / 1e6)


def hypernetwork(backbone, config: Config, progress):
    """An eraser, trained unless its file is there, and its cost."""
    out = Path(config.out)
    costs = out.with_suffix(".cost.json")  # written last
    with alone(out):
        if not costs.exists():
            with measured(backbone) as cost:
                train(config, backbone, progress=progress, judged=False)
            costs.write_text(json.dumps(cost))
            for left in (beside.state_path, beside.former_state_path, beside.cache_path):
                left(out).unlink(missing_ok=True)
    seconds, rows = json.loads(costs.read_text())
    return load_eraser(out), Cost(seconds, rows, out.stat().st_size / 1e6)


def trained_on(nouns: list[str], folder: Path, settings: dict) -> list[str]:
    """The concepts that the training of the eraser of these nouns, seed 0, retained."""
    return load_eraser(path_of(folder, "unhype", nouns, 0, settings)).training["retain"]


def settings_of(name: str, settings: dict) -> dict:
    """What a method's result depends on: its own settings, and those of the parts that it is made of."""
    parts = {"lora-switched": ("lora-esd", "unhype"), "lora-stack": ("lora-esd",), NARROW: ("unhype",)}
    parts |= dict.fromkeys((*CONTROLS, *REWRITING, ADAPTER, WEIGHTS, AT_ONCE), ("unhype",))
    return {f"{part}.{k}": v for part in parts.get(name, (name,)) for k, v in settings.get(part, {}).items()}


def path_of(folder: Path, name: str, nouns: list[str], seed: int, settings: dict) -> Path:
    """Where a trained method lies: with other settings in another file."""
    words, key = "_".join(nouns) if len(nouns) < 3 else len(nouns), key_of(sorted(settings.get(name, {}).items()))
    return folder / f"{name}-{words}-{seed}-{key}.safetensors"


def lora(backbone, config: Config, progress) -> tuple[dict, Cost]:
    """An ordinary LoRA trained with ESD's loss, its factors by name."""

    def make():
        data = Data(config, backbone, progress, unconditional=True)
        return dict(controls.train_lora(config, backbone, data, shape_of(backbone, config)).state_dict())

    return kept_or_made(backbone, Path(config.out), make)


def as_lora(shape, factors: dict) -> controls.Lora:
    module = controls.Lora(shape)
    module.load_state_dict(factors)
    return module.requires_grad_(False)


def make(
    backbone, name: str, nouns: list[str], seed: int, settings: dict, folder: Path, progress=print, configure=config_for
) -> tuple[Method, Cost]:
    """A method by its name, trained on these nouns, or read from `folder` where it has been."""
    if name == BASE:
        return Method(name, backbone.model), Cost(0.0, 0, 0.0)
    path = lambda which, ns=nouns: path_of(folder, which, ns, seed, settings)
    config = lambda which, ns=nouns: configure(which, ns, seed, path(which, ns), settings.get(which, {}))
    if name == NARROW:
        own = config("unhype")
        eraser, cost = hypernetwork(backbone, own, progress)
        out = Path(own.out).with_suffix(".narrow.safetensors")
        save_eraser(narrowed(backbone, eraser, own), out)
        return switched(name, backbone, load_eraser(out)), replace(cost, file_mb=out.stat().st_size / 1e6)
    if name == ADAPTER:
        eraser, cost = hypernetwork(backbone, config("unhype"), progress)
        return switched(name, backbone, replace(eraser, network=unrewritten(eraser.network))), cost
    if name == AT_ONCE:
        eraser, _ = hypernetwork(backbone, config("unhype"), progress)
        return switched(name, backbone, replace(eraser, network=without_adapter(eraser.network))), Cost(0.0, 0, 0.0)
    if name == WEIGHTS:
        eraser, cost = hypernetwork(backbone, config("unhype"), progress)
        return switched(name, backbone, eraser, controls.InWeights(eraser.network, backbone)), cost
    if name in HYPERNETWORKS:
        eraser, cost = hypernetwork(backbone, config(name), progress)
        return switched(name, backbone, eraser), cost
    if name in CONTROLS:
        eraser, cost = hypernetwork(backbone, config("unhype"), progress)
        return switched(name, backbone, eraser, control(name, backbone, eraser.network, nouns)), cost
    if name in ("lora-esd", "lora-switched"):
        factors, cost = lora(backbone, config("lora-esd"), progress)
        if name == "lora-esd":
            return edited(name, backbone, baselines.lora_weights(as_lora(shape_of(backbone, config("lora-esd")), factors))), cost
        eraser, _ = hypernetwork(backbone, config("unhype"), progress)
        return switched(name, backbone, eraser, as_lora(eraser.network.shape, factors)), cost
    if name == "lora-stack":
        each = [lora(backbone, config("lora-esd", [n]), progress) for n in nouns]
        shape = shape_of(backbone, config("lora-esd"))
        weights = baselines.stack([as_lora(shape, factors) for factors, _ in each])
        total = Cost(*(sum(getattr(c, f) for _, c in each) for f in ("train_seconds", "denoiser_evaluations", "file_mb")))
        return edited(name, backbone, weights), total
    if name == "esd-full":
        own = config(name)
        train_it = lambda: baselines.train_full(own, backbone, Data(own, backbone, progress, unconditional=True))
        weights, cost = kept_or_made(backbone, Path(own.out), train_it)
        return edited(name, backbone, weights), cost
    own = configure("unhype" if name in REWRITING else name, nouns, seed, path(name), {})
    if name in REWRITING:
        eraser, _ = hypernetwork(backbone, config("unhype"), progress)
        return rewriter(backbone, name, eraser, own, path("unhype"))
    targets = target_prompts(own.erased(), own.retain, 0, seed)
    retained = retain_prompts(own.retain, own.erased(), own.templates, [], 0, seed)
    edit = CLOSED_FORMS[name]
    weights, cost = kept_or_made(backbone, path(name), lambda: edit(backbone, targets, retained, **settings.get(name, {})))
    return edited(name, backbone, weights), cost


def rewriter(backbone, name: str, eraser: Eraser, config: Config, path: Path) -> tuple[Method, Cost]:
    """Rewriting behind the switch of the eraser at `path`; what it costs is what is fitted beside the switch."""
    network = eraser.network
    if name == "rewrite-whole":
        return rewritten(name, backbone, network, rewriting.whole(network, backbone, config.erased())), Cost(0.0, 0, 0.0)
    targets = target_prompts(config.erased(), config.retain, PAIRS_REWRITTEN, config.seed)
    everywhere = name == "rewrite-prompt"
    work = lambda: rewriting.fit(network, backbone, targets, config.retain, everywhere)._asdict()
    maps, cost = kept_or_made(backbone, path.with_stem(f"{path.stem}-maps{'-everywhere' * everywhere}"), work)
    rewrite = rewriting.Tokens(network, rewriting.Maps(**maps), everywhere)
    return rewritten(name, backbone, network, rewrite), cost


def unrewritten(network: Hypernetwork) -> Hypernetwork:
    """The same network that leaves token states as they are."""
    other = Hypernetwork(replace(network.shape, rewrite=0)).requires_grad_(False)
    other.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("rewriting.")})
    return other


def without_adapter(network: Hypernetwork) -> Hypernetwork:
    """The same switch and maps, and no adapter."""
    other = Hypernetwork(replace(network.shape, rank=0, hidden=1, queries=1, bottleneck=0)).requires_grad_(False)
    own = {k: v for k, v in network.state_dict().items() if k.startswith(("switch.", "standardise.", "rewriting."))}
    other.load_state_dict(own, strict=False)
    return other


def narrowed(backbone, eraser: Eraser, config: Config) -> Eraser:
    """The eraser folded to the default bottleneck, by its plain target prompts."""
    texts = [t.prompt.text for t in target_prompts(config.erased(), config.retain, 0, config.seed)]
    seen = seen_by_heads(eraser.network, backbone.encode(texts).condition())
    return replace(eraser, network=folded(eraser.network, seen, DEFAULT.bottleneck)[0])


def control(name: str, backbone, network, nouns: list[str]) -> nn.Module:
    """The network's mean adapter over prompts of the erased nouns, or its adapters of other nouns' prompts."""
    judged = other_prompts(*nouns) if name == "shuffled-switched" else [p for n in nouns for p in erased_prompts(n)]
    conditions = backbone.encode([p.text for p in judged]).condition()
    return Elsewhere(network, conditions) if name == "shuffled-switched" else controls.static_mean(network, conditions)


class Elsewhere(nn.Module):
    """The adapters of other prompts than the ones at hand."""

    def __init__(self, network, conditions):
        super().__init__()
        self.network, self.conditions = network, conditions

    def forward(self, condition, s, off=None):
        return self.network(self.conditions.rows(torch.arange(len(s)) % len(self.conditions.pooled)), s)


def shape_of(backbone, config: Config) -> Shape:
    """The sizes of a LoRA for this backbone; what only a hypernetwork has is 1."""
    layers = layer_table(backbone.diffusion_model, family_of(backbone.diffusion_model))
    return Shape(layers, config.rank, config.steps, 1, 1, 1, 1, 1)
