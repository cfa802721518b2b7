"""A node for the test server: what it is given, broken in the way that its `how` names. Installed into custom_nodes by test_messages.py."""

import copy
import dataclasses
import shutil
import sys
from types import SimpleNamespace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP

import nodes

KINDS = {"model": "MODEL", "clip": "CLIP", "vae": "VAE", "conditioning": "CONDITIONING", "unhype": "UNHYPE"}
FREE, STEP = shutil.disk_usage, torch.optim.Adam.step


def ours(name):
    """A module of the pack's trainer, as the Train node has it."""
    package = nodes.NODE_CLASS_MAPPINGS["UnHypeTrain"].__module__.rpartition(".")[0]
    return sys.modules[f"{package}.inside"].trainer_module(name)


def own(model):
    """The MODEL with weights of its own."""
    made = ModelPatcher(copy.deepcopy(model.model), model.load_device, model.offload_device)
    made.attachments = dict(model.attachments)
    return made


def layer(model, name="middle_block.1.transformer_blocks.0.attn2"):
    return model.model.diffusion_model.get_submodule(name)


class Replaced(torch.nn.Module):
    """A layer of another loader's: its shape is known, its weight is not."""

    def __init__(self, linear):
        super().__init__()
        self.in_features, self.out_features, self.inner = linear.in_features, linear.out_features, [linear]

    def forward(self, x):
        return self.inner[0](x)


def quantised(model):
    layer(model).to_v.weight = torch.nn.Parameter(layer(model).to_v.weight.to(torch.uint8), requires_grad=False)


def compiled(model):
    """What `compile()` sets, without loading a compiler."""
    model.model.diffusion_model._compiled_call_impl = model.model.diffusion_model._call_impl


def inpainting(model):
    model.model.diffusion_model.input_blocks[0][0].weight.data = torch.zeros(96, 33, 3, 3)


def other_clip(model):
    """A model whose layers read wider token states than its CLIP makes."""
    for name, module in list(model.model.diffusion_model.named_modules()):
        if name.endswith(("attn2.to_k", "attn2.to_v")):
            parent = model.model.diffusion_model.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], torch.nn.Linear(192, module.out_features, bias=False).requires_grad_(False))


def nan(model):
    layer(model).to_out[0].weight.data[0, 0] = torch.nan


def other_size(model):
    old = layer(model).to_v
    layer(model).to_v = torch.nn.Linear(old.in_features, old.out_features + 8, bias=False).requires_grad_(False)


def other_loader(model):
    layer(model).to_v = Replaced(layer(model).to_v)


def skipping(model):
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "test", lambda executor, x, *args, **kwargs: x)


def prompting(model):
    model.set_model_attn2_patch(lambda q, k, v, extra: (q, torch.randn_like(k), torch.randn_like(v)))


def small_card(model):
    """The check that is made on a graphics card, before the first picture is drawn, and it finds no room."""
    train = ours("trainer.train")
    data, plan = train.Data, train.memory.plan

    def check(config, backbone, progress, **given):
        train.Data, train.memory.plan = data, lambda *_: None
        try:
            train.make_room(config, backbone, progress)
        finally:
            train.memory.plan = plan

    train.Data = check


def full_disk(model):
    shutil.disk_usage = lambda _: SimpleNamespace(free=10)


def diverging(model):
    def step(self, *args, **kwargs):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.fill_(torch.nan)

    torch.optim.Adam.step = step


def renamed(unhype, start):
    made = copy.deepcopy(unhype)
    shape = made.network.shape
    made.network.shape = dataclasses.replace(
        shape, layers=tuple(dataclasses.replace(one, name=f"odd.{one.name}", start=start) for one in shape.layers)
    )
    return made


CONDITIONINGS = {
    "no pooled": lambda tokens, extra: [tokens, {}],
    "gligen": lambda tokens, extra: [tokens, extra | {"gligen": ("position", None, [])}],
    "narrow": lambda tokens, extra: [tokens[..., :24], extra],
}


class Broken:
    INPUT_TYPES = classmethod(
        lambda cls: {
            "required": {"how": ("STRING",)},
            "optional": {"settings": ("STRING",)} | {name: (kind,) for name, kind in KINDS.items()},
        }
    )
    RETURN_TYPES, FUNCTION, CATEGORY = tuple(KINDS.values()), "broken", "test"
    IS_CHANGED = classmethod(lambda cls, **_: float("nan"))

    def broken(self, how, settings="", model=None, clip=None, vae=None, conditioning=None, unhype=None):
        shutil.disk_usage, torch.optim.Adam.step = FREE, STEP
        if model is not None:
            model = own(model)
            if settings:
                model.set_attachments("unhype_settings", settings)
        if how in CONDITIONINGS:
            conditioning = [CONDITIONINGS[how](*entry) for entry in conditioning]
        elif how == "odd":
            unhype = renamed(unhype, 0)
        elif how == "fused":
            unhype = renamed(unhype, 1)
        elif how == "no clip":
            clip = None
        elif how == "small vae":
            vae = SimpleNamespace(latent_channels=4)
        elif how:
            globals()[how](model)
        return model, clip, vae, conditioning, unhype


class Taken:
    """Takes a LoRA, as core's SaveLoRA does, which the lowest host does not have yet."""

    INPUT_TYPES = classmethod(lambda cls: {"required": {"lora": ("LORA_MODEL",)}})
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "taken", "test", True

    def taken(self, lora):
        return {}


NODE_CLASS_MAPPINGS = {"Broken": Broken, "Taken": Taken}
