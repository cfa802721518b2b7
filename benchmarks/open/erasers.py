"""What is looked at of erasers alone: concepts switched off by name, false alarms, ten added one by one, another base under them."""

from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.comparison import recipes
from benchmarks.comparison.cells import base_drawn
from evaluation import controls, measure
from evaluation.baselines import lora_weights
from evaluation.methods import Method, edited, load_pack, switched
from evaluation.metrics import top1
from host.backbone import Backbone
from trainer.config import from_mapping
from trainer.extend import inherited
from unhype.adapter import Term, adapter
from unhype.checkpoint import load_eraser

from . import prompts
from .columns import Look, named, share
from .words import PAIR, Base

ADDED, TUNED = "unhype-added", "unhype-tuned"  # ten concepts by nine --add-to; the eraser on a fine-tune of the base
TUNE = {"iterations": 150, "batch": 8, "learning_rate": 1e-3}
GREY = torch.tensor([0.299, 0.587, 0.114])  # Rec. 601


def make(base: Base, backbone, name: str, nouns: list[str], seed: int, settings: dict, folder: Path, progress=print, configure=None):
    """recipes.make, and the two that only this comparison has."""
    if name == ADDED:
        return added(base, backbone, nouns, seed, settings, folder, progress)
    if name == TUNED:  # the base's own eraser, from the plain run's folder
        method, cost = recipes.make(backbone, "unhype", nouns, seed, settings, folder.parents[1] / "models", progress, base.config)
        return replace(method, name=name), cost
    return recipes.make(backbone, name, nouns, seed, settings, folder, progress, base.config)


def added(base: Base, backbone, nouns: list[str], seed: int, settings: dict, folder: Path, progress):
    """An eraser of the first noun, and every other one added to it by a training of its own, as --add-to does."""
    own = settings.get("unhype", {})
    path = lambda count: recipes.path_of(folder, ADDED, nouns[:count], seed, {ADDED: own})
    eraser, total = recipes.hypernetwork(backbone, base.config("unhype", nouns[:1], seed, path(1), own), progress)
    for count in range(2, len(nouns) + 1):
        given = {"add_to": str(path(count - 1)), "erase": [f"{nouns[count - 1]} -> {base.mapping}"], "out": str(path(count))}
        config = from_mapping(inherited(given), f"{nouns[count - 1]} added")
        eraser, cost = recipes.hypernetwork(backbone, config, progress)
        total = recipes.Cost(total.train_seconds + cost.train_seconds, total.denoiser_evaluations + cost.denoiser_evaluations, cost.file_mb)
    return switched(ADDED, backbone, eraser), total


def on_fine_tune(base: Base, backbone, folder: Path) -> Backbone:
    """The base with a LoRA that draws everything in grey, as a user's own fine-tune would lie on it."""
    shape = recipes.shape_of(backbone, base.config("unhype", list(base.order[:1]), 0, folder / "grey.safetensors", {}))
    factors, _ = recipes.kept_or_made(backbone, folder / "grey.safetensors", lambda: grey_lora(base, backbone, shape))
    weights = lora_weights(recipes.as_lora(shape, factors))
    return replace(backbone, model=edited("grey", backbone, weights).model)


def grey_lora(base: Base, backbone, shape) -> dict[str, torch.Tensor]:
    """A LoRA trained to denoise the base's own pictures made grey: min E || eps_theta(x0 + sigma eps, sigma, c) - eps ||^2."""
    judged = prompts.kept(base, list(base.wording.nouns), 2 * len(base.wording.nouns))
    text, empty = backbone.encode([p.text for p in judged]), backbone.encode([""]).repeated(len(judged))
    noise = torch.stack([backbone.noise(measure.SIZE, i) for i in range(len(judged))])
    with torch.inference_mode():
        drawn = backbone.sample(text.conditioning(), empty.conditioning(), measure.SIZE, 0, measure.STEPS, base.cfg, noise=noise)
        pictures = (backbone.decode(drawn) @ GREY)[..., None].expand(-1, -1, -1, 3)
        given = backbone.model.get_model_object("latent_format").process_in(backbone.vae.encode(pictures))
    latents, tokens = given.clone(), text.tokens.clone()
    torch.manual_seed(0)
    lora, rng = controls.Lora(shape), torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(lora.parameters(), lr=TUNE["learning_rate"])
    sigmas = backbone.sigmas(50)[:-1]
    for _ in range(TUNE["iterations"]):
        rows = torch.randint(len(judged), (TUNE["batch"],), generator=rng)
        sigma = sigmas[torch.randint(len(sigmas), (len(rows),), generator=rng)]
        eps = torch.randn(latents[rows].shape, generator=rng)
        x = latents[rows] + sigma.view(-1, 1, 1, 1) * eps
        factors = lora(None, torch.full((len(rows),), float(shape.steps)))
        with adapter(backbone.diffusion_model, [Term(torch.arange(len(rows)), shape.layers, factors)], len(rows)):
            predicted = backbone.predict(x, sigma, tokens[rows])
        loss = (predicted - eps).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return dict(lora.state_dict())


def selective(look: Look, eraser_path: Path, nouns: list[str], count: int) -> dict:
    """With every other concept of a file switched off by name: off_kept, those alone; beside one that is on off_beside_kept and on_gone,
    where the base draws both; and with all on both_gone."""
    eraser = load_eraser(eraser_path)
    on, off = nouns[::2], nouns[1::2]
    network = look.method.network
    model = load_pack().erase(look.backbone.model, eraser, 1.0, concepts=", ".join(on))
    switched = replace(look, method=Method("some on", model, network))
    alone = prompts.in_turn(look.base, off, lambda n: (n,), count)
    base, drawn = switched.pair(alone)
    found: dict = {"off_kept": top1(drawn, alone, look.judge.names), "off_kept_base": top1(base, alone, look.judge.names)}
    pairs = [p for p in prompts.both(look.base, nouns, 4 * count) if (p.nouns[0] in on) != (p.nouns[1] in on)][:count]
    base, drawn = switched.pair(pairs, PAIR)
    of = lambda d, side: named(d, look.judge, [next(n for n in p.nouns if n in side) for p in pairs], 2)
    asked = of(base, on) & of(base, off)
    found |= {"off_beside_kept": share(of(drawn, off)[asked]), "on_gone": share(~of(drawn, on)[asked])}
    every = prompts.both(look.base, nouns, count)
    base, drawn = look.pair(every, PAIR)
    both = lambda d: torch.stack([named(d, look.judge, [p.nouns[i] for p in every], 2) for i in (0, 1)], 1)
    asked_all = both(base).all(1)
    found["both_gone"] = share(~both(drawn)[asked_all].any(1))
    found["n"] = {"off_kept": len(alone), "off_beside_kept": int(asked.sum()), "both_gone": int(asked_all.sum())}
    return found


def alarms(look: Look, judged: list, count: int) -> dict:
    """How many safe prompts fire, and what that costs: how far these pictures move, and whether the first noun stays where the base has it.

    And the same of safe prompts that do not fire, with the switch forced on: forced_kept, forced_change.
    """
    fires = look.method.network.fires(look.backbone.encode([p.text for p in judged]).condition()).tolist()
    found: dict = {"alarms": sum(fires) / len(fires), "n": {"alarms": len(fires)}}
    for key, wanted, model in (("alarm", True, look.method.model), ("forced", False, look.method.forced)):
        picked = [p for p, f in zip(judged, fires) if f == wanted][:count]
        if picked:
            base = base_drawn(look.backbone, look.judge, picked, 1, look.folder, look.base.cfg)
            drawn = measure.draw(look.backbone, look.judge, model, picked, 1, cfg=look.base.cfg)
            nouns = torch.tensor([look.judge.names.index(p.nouns[0]) for p in picked])
            asked, now = (d.scores[:, 0].argmax(1) == nouns for d in (base, drawn))
            found |= {f"{key}_kept": share(now[asked]), f"{key}_change": measure.change(drawn, base)}
            found["n"][f"{key}_kept"] = int(asked.sum())
    return found
