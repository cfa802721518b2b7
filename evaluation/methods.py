"""A method under test: a MODEL of the host that carries it, so that every benchmark samples all of them alike."""

from dataclasses import dataclass

import torch
from torch import nn

from host.sampling import rewritten_sampling
from unhype.checkpoint import Eraser

PREFIX = "diffusion_model."


@dataclass
class Method:
    name: str
    model: object  # comfy ModelPatcher
    network: nn.Module | None = None  # what decides and writes the adapter: shape, scores, fires, (condition, s) -> factors
    weights: dict | None = None  # where weights are edited instead: name in the diffusion model -> change
    forced: object | None = None  # the MODEL with the switch overridden; None where there is no switch


class Behind(nn.Module):
    """Any adapter behind an eraser's switch, with a hypernetwork's call."""

    def __init__(self, adapter: nn.Module, network: nn.Module):
        super().__init__()
        self.adapter, self.network, self.shape = adapter, network, network.shape
        self.standardise, self.switch = network.standardise, network.switch

    def forward(self, condition, s, *arguments):
        return self.adapter(condition, s, *arguments)

    def scores(self, condition):
        return self.network.scores(condition)

    def fires(self, condition, *arguments):
        return self.network.fires(condition, *arguments)


class Always(Behind):
    """An adapter whose switch is overridden: it is applied to every prompt, whatever its scores are."""

    def __init__(self, network: nn.Module):
        super().__init__(network, network)

    def fires(self, condition, *arguments):
        return torch.ones(len(condition.pooled), dtype=torch.bool)


PACK = "unhype_measured"  # a name of its own: a pack that is loaded already has other classes


def load_pack():
    """The pack's nodes/patching.py, loaded as ComfyUI loads it."""
    import asyncio
    import importlib.util
    import sys
    from pathlib import Path

    root = Path(__file__).resolve().parents[1]
    if PACK not in sys.modules:
        spec = importlib.util.spec_from_file_location(PACK, root / "__init__.py", submodule_search_locations=[str(root)])
        module = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = module
        # The pack's own import of unhype/ would be a second copy of the classes that are in use here.
        import unhype.adapter  # noqa: F401

        for name in [n for n in sys.modules if n.split(".")[0] == "unhype"]:
            sys.modules[f"{PACK}.{name}"] = sys.modules[name]
        spec.loader.exec_module(module)
        asyncio.run(module.comfy_entrypoint())
    return sys.modules[f"{PACK}.nodes.patching"]


def switched(name: str, backbone, eraser: Eraser, network: nn.Module | None = None) -> Method:
    """A method through the Eraser node's own patching: the eraser's hypernetwork, or another adapter behind its switch."""
    patching = load_pack()
    network = eraser.network if network is None else Behind(network, eraser.network)
    as_eraser = lambda n: Eraser(n, eraser.family, eraser.concepts, source=name)
    return Method(
        name,
        patching.erase(backbone.model, as_eraser(network), 1.0),
        network,
        forced=patching.erase(backbone.model, as_eraser(Always(network)), 1.0),
    )


def rewritten(name: str, backbone, network: nn.Module, rewrite) -> Method:
    """A method that changes what the model is conditioned on, behind a network's switch (rewriting.py)."""
    return Method(name, rewritten_sampling(backbone, rewrite), Behind(nn.Module(), network))


def edited(name: str, backbone, weights: dict[str, torch.Tensor]) -> Method:
    """A method that changes weights, on every row and prompt, as ComfyUI's LoRA loader does."""
    model = backbone.model.clone()
    model.add_patches({f"{PREFIX}{key}": ("diff", (change,)) for key, change in weights.items()})
    return Method(name, model, weights=weights)
