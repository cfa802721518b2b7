"""What `python dev.py gpu` runs of a model of random weights: a training step and twenty sampling steps, its weights on the card or not."""

import copy
import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from benchmarks.fullsize import MODELS, SD15, SDXL, WEIGHTS
from evaluation.methods import Always, Method, switched
from host import devices, memory, trials
from host.backbone import Backbone
from host.encode import Text
from trainer import dry_run
from trainer.config import Config
from trainer.optimizer import new_optimizer
from trainer.samples import Batch
from trainer.step import training_step
from unhype.checkpoint import Concept, Eraser
from unhype.condition import Condition
from unhype.hypernetwork import Hypernetwork
from unhype.layers import Family

STEPS, TURNS = 20, 7  # sampling steps; samplings without and with the Eraser, by turns
LATER = 20.0  # seconds of a first training step, and of samplings, from which on there are no more
# A level of Stable Diffusion's and a block of each of Flux's, narrow: every line of this file, and nothing to be measured.
LEVEL = {"channel_mult": (1,), "num_res_blocks": [1], "transformer_depth": [1], "transformer_depth_output": [1, 1]}
LEVELS = {"channel_mult": (1, 2), "num_res_blocks": [1, 1], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1]}
LEVELS |= {"transformer_depth_middle": 1, "adm_in_channels": 32 + 6 * 256}  # SDXL's pooled embedding, and sizes
NARROW_UNET = {"model_channels": 32, "context_dim": 32, "num_heads": 2}
NARROW = {"in_channels": 16, "out_channels": 16, "vec_in_dim": 16, "context_in_dim": 32, "hidden_size": 64, "mlp_ratio": 2.0}
NARROW |= {"num_heads": 2, "depth": 1, "depth_single_blocks": 1, "axes_dim": [8, 12, 12], "theta": 10_000, "patch_size": 2}
SMALL = {
    "sd15": ("SD15", SD15 | LEVEL | NARROW_UNET),
    "sdxl": ("SDXL", SDXL | LEVELS | NARROW_UNET),
    "flux": ("Flux", NARROW | {"qkv_bias": True, "guidance_embed": True}),
}
SMALL_SETTINGS = {"size": "64x64", "batch": 4, "retain_batch": 8, "hidden": 16}


@dataclass
class Bench:
    """A model of random weights, an eraser's network for it, and what they are shown."""

    backbone: Backbone
    family: Family
    config: Config
    network: Hypernetwork
    step: memory.Step
    text: Text
    data: "RandomData"


class RandomData:
    """A training step's batch and its safe prompts, of numbers drawn by lot; the base's own predictions are what it is led away from."""

    def __init__(self, backbone: Backbone, config: Config, text: Text, network: Hypernetwork):
        rows = config.batch
        rng = torch.Generator().manual_seed(1)
        width, height = config.size_of(False)
        channels = backbone.model.get_model_object("latent_format").latent_channels
        self.text_task = None
        self.x = torch.randn(rows, channels, height // 8, width // 8, generator=rng)
        self.sigma = torch.full((rows,), 0.5)
        self.text, self.rows, self.off = text, rows, torch.zeros(rows, 1, dtype=torch.bool)
        with torch.no_grad():
            one = [self.one(backbone, i).cpu() for i in range(rows)]
        self.eps = torch.cat(one)
        self.eps_star = self.eps + self.eps.std() * torch.randn(self.eps.shape, generator=rng)
        self.scale = (self.eps_star - self.eps).square().mean((1, 2, 3))
        self.s = torch.full((rows,), float(network.shape.steps))

    def one(self, backbone: Backbone, row: int) -> torch.Tensor:
        text = self.text.rows([row]).to(backbone.device)
        x, sigma = self.x[row : row + 1].to(backbone.device), self.sigma[:1].to(backbone.device)
        return backbone.predict(x, sigma, text.tokens, text.pooled).float()

    def turn(self, iteration: int, size: int, total_steps: int, rng: torch.Generator) -> tuple[str, Batch]:
        text, condition = self.text, self.text.condition()
        return "task", Batch(self.x, self.sigma, text.tokens, text.pooled, condition, self.off, self.s, self.eps, self.eps_star, self.scale)

    def retained(self, iteration: int, count: int, rng: torch.Generator) -> tuple[Condition, torch.Tensor]:
        picked = torch.arange(count) % self.rows
        return self.text.rows(picked).condition(), torch.zeros(count, 1, dtype=torch.bool)


def shapes(name: str, small: bool) -> tuple[str, dict[str, Any]]:
    return (SMALL if small else MODELS)[name]


def settings(name: str, small: bool) -> dict[str, Any]:
    return {"base": name, "erase": ["cat -> forest"], "out": "x.safetensors"} | (SMALL_SETTINGS if small else {})


def counted(name: str, weights: str, small: bool, compute: torch.dtype) -> tuple[Config, Family, Hypernetwork, memory.Step]:
    """What a training step takes, before anything is made."""
    from host.load import new_model

    kind, sizes = shapes(name, small)
    model = new_model(kind, sizes, WEIGHTS[weights], compute, torch.device("meta"))
    return dry_run.measure(Config(**settings(name, small)), model, compute, 0)


def make(name: str, weights: str, small: bool, compute: torch.dtype) -> Bench:
    """The model with its weights in main memory, frozen, gradients passing through it."""
    from host.load import ready

    config, family, _, step = counted(name, weights, small, compute)
    config = replace(config, iterations=300, learning_rate=5e-4)  # a step of them is timed, none is found
    kind, sizes = shapes(name, small)
    backbone = ready(Backbone(trials.random_model(kind, sizes, WEIGHTS[weights], compute, on_device=True), None, None))
    torch.manual_seed(0)
    network = dry_run.new_network(backbone.diffusion_model, family, config, "cpu")
    width, pooled, _ = dry_run.widths(backbone.diffusion_model, family)
    text = Text(torch.randn(config.batch, family.tokens, width), torch.randn(config.batch, pooled or 1280))
    network.standardise.fit(text.condition())
    network.to(backbone.device)
    return Bench(backbone, family, config, network, step, text, RandomData(backbone, config, text, network))


def load(bench: Bench, offload: bool) -> None:
    """All weights on the card, or as few as ComfyUI can do with, also where the card has room for them."""
    bench.backbone.load_again(memory.device_memory()[1] if offload else None)


def train(bench: Bench, plan: memory.Plan) -> tuple[dict, torch.Tensor]:
    """Seconds and peak of a training step as it is planned, and the hypernetwork's gradient as one row of numbers."""
    backbone, device = bench.backbone, bench.backbone.device
    load(bench, plan.offload)
    backbone.rows = plan.rows
    devices.forget_peak(device)
    for _ in range(2):  # the first one finds kernels and memory
        network = copy.deepcopy(bench.network)
        optimizer = new_optimizer(network, bench.config)
        devices.wait(device)
        started = time.perf_counter()
        training_step(network, backbone, bench.config, bench.data, optimizer, torch.Generator().manual_seed(2), 0)
        devices.wait(device)
        seconds = time.perf_counter() - started
        if seconds > LATER:
            break
    gradient = torch.cat([p.grad.flatten().float().cpu() for p in network.parameters() if p.grad is not None])
    return {"step_seconds": seconds, "step_peak_gb": devices.peak(device) / memory.GB, "rows_at_a_time": plan.rows}, gradient


def eraser_of(bench: Bench) -> Method:
    """The Eraser node's own patching, its switch on whatever the prompt."""
    network = copy.deepcopy(bench.network).cpu().requires_grad_(False).eval()  # as a loaded file is
    eraser = Eraser(Always(network), bench.family.name, [Concept("cat", "forest")], source=f"{bench.family.name}.safetensors")
    return switched(bench.family.name, bench.backbone, eraser)


@torch.inference_mode()
def sample(bench: Bench, offload: bool) -> dict:
    """Seconds of twenty sampling steps of one picture without and with the Eraser, by turns after a first one of each (medians), and
    the peaks."""
    backbone, config, device = bench.backbone, bench.config, bench.backbone.device
    load(bench, offload)
    positive, negative = (bench.text.rows([i]).conditioning() for i in (0, 1))
    models = {"sampling": backbone.model, "with_eraser": eraser_of(bench).model}
    draw = lambda model, steps: backbone.sample(positive, negative, config.size_of(False), 3, steps, config.cfg, model)
    found, seconds, started = {}, {name: [] for name in models}, time.perf_counter()
    for model in models.values():
        draw(model, 1)
    while len(seconds["with_eraser"]) < TURNS and not (seconds["with_eraser"] and time.perf_counter() - started > LATER):
        for name, model in models.items():
            devices.forget_peak(device)
            devices.wait(device)
            began = time.perf_counter()
            draw(model, STEPS)
            devices.wait(device)
            seconds[name].append(time.perf_counter() - began)
            found[f"peak_{name}_gb"] = devices.peak(device) / memory.GB
    found |= {f"{name}_seconds": statistics.median(each) for name, each in seconds.items()}
    found["turns"] = len(seconds["sampling"])
    found["eraser_overhead"] = statistics.median(b / a for a, b in zip(seconds["sampling"], seconds["with_eraser"])) - 1
    return found
