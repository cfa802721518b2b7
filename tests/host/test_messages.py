"""Every error that a help page lists, provoked in a running server, and what the page then shows."""

import dataclasses
import json
import re
import struct
from pathlib import Path

import pytest
import server as client
from test_help import NODES, PAGES, ROOT
from test_server import ERASED, SAFE
from test_train_node import TINY

from unhype.checkpoint import load_eraser, save_eraser
from unhype.hypernetwork import Hypernetwork

HERE = Path(__file__).parent
GRAPH = {
    "base": ("UnHypeDemoModel", {"base": "emoji-sd"}),
    "file": ("UnHypeLoader", {"file": "demo_cat.safetensors"}),
    "other": ("UnHypeLoader", {"file": "demo_four.safetensors"}),
    "text": ("CLIPTextEncode", {"clip": ["base", 1], "text": ERASED}),
    "safe": ("CLIPTextEncode", {"clip": ["base", 1], "text": SAFE}),
    "both": ("ConditioningCombine", {"conditioning_1": ["text", 0], "conditioning_2": ["safe", 0]}),
    "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
    "eraser": ("UnHypeEraser", {"model": ["base", 0], "unhype": ["file", 0], "strength": 1.0}),
    "inspect": ("UnHypeInspect", {"unhype": ["file", 0], "conditioning": ["text", 0]}),
    "merge": ("UnHypeMerge", {"unhype": ["file", 0], "unhype_2": ["other", 0]}),
    "merged": ("UnHypeInspect", {"unhype": ["merge", 0], "conditioning": ["text", 0]}),
    "lora": ("UnHypeToLora", {"unhype": ["file", 0], "conditioning": ["text", 0], "strength": 1.0, "concepts": "", "keys": "kohya"}),
    "taken": ("Taken", {"lora": ["lora", 0]}),
    "sampler": (
        "KSampler",
        {"model": ["eraser", 0], "positive": ["text", 0], "negative": ["safe", 0], "latent_image": ["latent", 0]}
        | {"seed": 1, "steps": 2, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0},
    ),
    "drawn": ("VAEDecode", {"samples": ["sampler", 0], "vae": ["base", 2]}),
    "picture": ("PreviewImage", {"images": ["drawn", 0]}),
    "train": (
        "UnHypeTrain",
        {
            "model": ["base", 0],
            "clip": ["base", 1],
            "vae": ["base", 2],
            "erase": "pizza -> forest",
            "name": "",
            "preset": "normal",
            "seed": 0,
        },
    ),
    "broken": ("Broken", {"how": ""}),
    "string": ("PrimitiveString", {"value": "nowhere"}),
    "second": ("UnHypeEraser", {"model": ["eraser", 0], "unhype": ["file", 0], "strength": 1.0, "apply": "weight patch"}),
}
ENDS = {"UnHypeLoader": "inspect", "UnHypeEraser": "picture", "UnHypeTrain": "train", "UnHypeInspect": "inspect"}
ENDS |= {"UnHypeMerge": "merged", "UnHypeToLora": "taken", "UnHypeDemoModel": "picture"}
MODEL, CLIP, VAE, CONDITIONING, UNHYPE = (["broken", n] for n in range(5))
LONGEST = 400  # seconds: one of them trains a little
NOTHING = None  # an input that is left out
PATCH = {"eraser.apply": "weight patch"}
BREAK_MODEL = {"eraser.model": MODEL, "broken.model": ["base", 0]}
BREAK_TEXT = {"broken.conditioning": ["text", 0]}
TRAINED = {"train.model": MODEL, "broken.model": ["base", 0], "broken.settings": "tiny.yaml"}

CASES = {  # node -> message of its page -> inputs, by node and name, that provoke it
    "UnHypeLoader": {
        "was not found; searched ...": {"file.file": "gone.safetensors"},
        "there is no UnHype eraser yet": {"file.file": "no eraser yet: put one into models/unhype, then press R"},
        "is not an UnHype eraser": {"file.file": "lora.safetensors"},
        "is truncated": {"file.file": "truncated.safetensors"},
        "is damaged": {"file.file": "damaged.safetensors"},
        "Update the UnHype nodes": {"file.file": "newer.safetensors"},
    },
    "UnHypeEraser": {
        "unhype: nothing is connected": {"eraser.unhype": NOTHING},
        "was trained for ..., this model is ...": {"file.file": "demo_flux_cat.safetensors"},
        "does not fit this model: ... layers do not match": BREAK_MODEL | {"broken.how": "other_size"},
        "comes from another kind of text encoder": BREAK_TEXT | {"broken.how": "narrow", "eraser.conditioning": CONDITIONING},
        "has no pooled_output": BREAK_TEXT | {"broken.how": "no pooled", "sampler.positive": CONDITIONING},
        "a prompt reaches the model that the sampler did not hand over": BREAK_MODEL | {"broken.how": "prompting"},
        "has GLIGEN boxes": BREAK_TEXT | {"broken.how": "gligen", "eraser.conditioning": CONDITIONING},
        "layers never ran their adapter": BREAK_MODEL | {"broken.how": "skipping"},
        "concepts: ... is not in ...": {"eraser.concepts": "cat, dgo"},
        "conditioning: nothing is connected, but ... needs the one prompt": PATCH,
        "different prompts, but": PATCH | {"eraser.conditioning": ["both", 0]},
        "is on this model already": {"second.conditioning": ["text", 0], "sampler.model": ["second", 0]},
        "rewrites words and has no adapter": PATCH
        | BREAK_MODEL
        | {"broken.how": "other_loader", "eraser.conditioning": ["text", 0], "file.file": "instant.safetensors"},
        "this model has no weight for": PATCH | BREAK_MODEL | {"broken.how": "other_loader", "eraser.conditioning": ["text", 0]},
        "strength is nan, expected a number": {"eraser.strength": float("nan")},
    },
    "UnHypeInspect": {
        "unhype: nothing is connected": {"inspect.unhype": NOTHING},
        "conditioning: nothing is connected, expected a prompt": {"inspect.conditioning": NOTHING},
        "comes from another kind of text encoder": BREAK_TEXT | {"broken.how": "narrow", "inspect.conditioning": CONDITIONING},
        "has no pooled_output": BREAK_TEXT | {"broken.how": "no pooled", "inspect.conditioning": CONDITIONING},
        "has GLIGEN boxes": BREAK_TEXT | {"broken.how": "gligen", "inspect.conditioning": CONDITIONING},
    },
    "UnHypeMerge": {
        "unhype: nothing is connected": {"merge.unhype_2": NOTHING},
        "would be erased twice over": {},
        "merge erasers of one kind of model": {"other.file": "demo_flux_cat.safetensors"},
    },
    "UnHypeToLora": {
        "there is nothing to bake": {"lora.conditioning": ["safe", 0]},
        "conditioning: nothing is connected, but": {"lora.conditioning": NOTHING},
        "different prompts, but": {"lora.conditioning": ["both", 0]},
        "has no diffusers name here": {"broken.how": "odd", "broken.unhype": ["file", 0], "lora.unhype": UNHYPE, "lora.keys": "diffusers"},
        "has no kohya name here": {"broken.how": "fused", "broken.unhype": ["file", 0], "lora.unhype": UNHYPE},
        "was trained for ..., this model is ...": {"file.file": "demo_flux_cat.safetensors", "lora.model": ["base", 0]},
        "does not fit this model: ... layers do not match": BREAK_MODEL | {"broken.how": "other_size", "lora.model": MODEL},
        "rewrites words and has no adapter": {"file.file": "instant.safetensors"},
        "concepts: ... is not in ...": {"lora.concepts": "dgo"},
        "unhype: nothing is connected": {"lora.unhype": NOTHING},
    },
    "UnHypeTrain": {
        "erase is empty": {"train.erase": " "},
        "a target and a mapping concept": {"train.erase": "-> forest"},
        "take it out of retain or out of erase": {"train.retain": "pizza"},
        "a name without a folder": {"train.name": "../cat"},
        "which is no file's name on every system": {"train.name": "NUL"},
        "input is empty: the file that it comes from holds none": {"broken.how": "no clip", "train.clip": CLIP},
        "the CLIP belongs to another kind of model": TRAINED | {"broken.how": "other_clip"},
        "the VAE belongs to another kind of model": {"broken.how": "small vae", "train.vae": VAE},
        "the MODEL has an UnHype Eraser on it": {"train.model": ["eraser", 0]},
        "the MODEL is quantised": TRAINED | {"broken.how": "quantised"},
        "the MODEL is compiled": TRAINED | {"broken.how": "compiled"},
        "it is for inpainting, depth, edges or editing": TRAINED | {"broken.how": "inpainting"},
        "GB even with one row, this card has": TRAINED | {"broken.how": "small_card", "train.name": "card"},
        "of free space, this training writes about": TRAINED | {"broken.how": "full_disk", "train.name": "disk"},
        "gives NaN or infinite values by itself": TRAINED | {"broken.how": "nan", "train.name": "nan"},
        "the training diverged": TRAINED | {"broken.how": "diverging", "train.name": "diverged"},
        "an eraser without training": {"base.base": "emoji-flux", "train.preset": "instant", "train.name": "at once"},
    },
    "UnHypeDemoModel": {"demo base ... is not known": {"base.base": ["string", 0]}},
}


def listed(node: str) -> list[str]:
    """The errors of a node's help page; what only stands in the console is none."""
    table = (PAGES / f"{node}.md").read_text(encoding="utf-8").split("## Messages")[1].split("Warnings in the console")[0]
    rows = [row for row in re.findall(r"^\| (.*?) \|", table, re.M) if row not in ("it says", "---") and not row.endswith("(console)")]
    return [f"is {message}" if i else message for row in rows for i, message in enumerate(row.split(", is "))]


@pytest.mark.parametrize("node", NODES)
def test_every_error_that_a_help_page_lists_has_a_case(node):
    assert list(CASES[node]) == listed(node)


def header_of(path: Path) -> tuple[dict, bytes]:
    """A safetensors file's header and what follows."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


@pytest.fixture(scope="module")
def server(comfy, tmp_path_factory):
    """A server with the node that breaks things, and with eraser files that are none."""
    import torch
    from safetensors.torch import save_file

    import dev

    base = tmp_path_factory.mktemp("messages")
    dev.install_pack(base)
    (base / "custom_nodes" / "broken.py").write_text((HERE / "broken.py").read_text())
    (base / "tiny.yaml").write_text(TINY)
    folder, good = base / "models" / "unhype", ROOT / "demo/erasers/demo_cat.safetensors"
    folder.mkdir(parents=True)
    save_file({"lora_unet_x.lora_up.weight": torch.zeros(4, 4)}, folder / "lora.safetensors")
    (folder / "truncated.safetensors").write_bytes(good.read_bytes()[:-100])
    header, rest = header_of(good)
    own = json.loads(header["__metadata__"]["unhype"])
    for name, changed in (("newer", own | {"format_version": 99}), ("damaged", own | {"concepts": []})):
        text = json.dumps(header | {"__metadata__": {"unhype": json.dumps(changed)}}).encode()
        (folder / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + rest)
    save_eraser(instant(load_eraser(good)), folder / "instant.safetensors")
    with client.Server(comfy, base) as running:
        yield running


def instant(eraser):
    """The eraser's switch, and maps that change a little, without an adapter."""
    network = Hypernetwork(dataclasses.replace(eraser.network.shape, rank=0, hidden=1, queries=1, bottleneck=0, rewrite=1))
    own = {name: value for name, value in eraser.network.state_dict().items() if name.startswith(("switch.", "standardise."))}
    network.load_state_dict(own, strict=False)
    network.rewriting.shift.fill_(0.1)
    return dataclasses.replace(eraser, network=network.requires_grad_(False))


def graph(server, end: str, changes: dict) -> dict:
    """The part of GRAPH that leads to its node `end`, with the changes."""
    nodes = {name: (kind, dict(inputs)) for name, (kind, inputs) in GRAPH.items()}
    for place, value in changes.items():
        node, name = place.split(".")
        if value is NOTHING:
            del nodes[node][1][name]
        else:
            nodes[node][1][name] = str(server.base / value) if name == "settings" else value
    found, wanted = {}, [end]
    while wanted:
        name = wanted.pop()
        kind, inputs = nodes[name]
        found[name] = {"class_type": kind, "inputs": inputs}
        wanted += [value[0] for value in inputs.values() if isinstance(value, list) and value[0] not in found]
    return found


def cases() -> list:
    """Node and message; what is provoked with the Flux demo base needs a host that draws with it."""
    flux = pytest.mark.since("0.3.72")
    return [
        pytest.param(node, message, marks=flux if "emoji-flux" in changes.values() else ())
        for node, messages in CASES.items()
        for message, changes in messages.items()
    ]


@pytest.mark.parametrize("node, message", cases())
def test_an_error_of_a_help_page_is_what_the_server_says(server, node, message):
    entry = server.finish(server.queue(graph(server, ENDS[node], CASES[node][message])), LONGEST)
    ((_, error),) = [m for m in entry["status"]["messages"] if m[0] == "execution_error"]
    said, place = error["exception_message"], 0
    for piece in filter(None, map(str.strip, message.split("..."))):
        place = said.find(piece, place)
        assert place >= 0, said
