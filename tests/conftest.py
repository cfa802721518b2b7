"""A real ComfyUI in process, and the pack loaded as the host loads it."""

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests" / "files"))
torch.set_num_threads(1)  # bit-equality is asked for at a fixed thread count


def pytest_configure(config):
    config.addinivalue_line("markers", "since(version): not selected on a ComfyUI before this version")


def pytest_collection_modifyitems(config, items):
    """Leave out what this ComfyUI does not have yet; docs/compatibility.md names it."""
    from host.start import version_of

    number = lambda version: tuple(map(int, version.split(".")))
    wanted = [item for item in items if item.get_closest_marker("since")]
    if wanted:
        here = number(version_of(os.environ.get("COMFYUI_PATH")))
        gone = [item for item in wanted if here < number(item.get_closest_marker("since").args[0])]
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session")
def comfy():
    """The host's folder, importable."""
    from host.start import find_comfy, start_comfy

    folder = find_comfy(None)
    start_comfy(folder)
    import nodes  # noqa: F401  the host's, before a script that is imported puts this repository and its nodes/ first

    return folder


def loaded(name: str, folder: Path):
    """A node pack's module, as the host loads it, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def other_pack(comfy):
    """A function: the nodes by id of another pack that lies in the folder UNHYPE_PACKS."""
    folder = os.environ["UNHYPE_PACKS"]
    return lambda name: loaded(name.replace("-", "_").lower(), Path(folder) / name).NODE_CLASS_MAPPINGS


@pytest.fixture(scope="session")
def pack(comfy):
    """The pack's nodes by id."""
    module = loaded("unhype_pack", ROOT)

    async def nodes():
        extension = await module.comfy_entrypoint()
        return await extension.get_node_list()

    return SimpleNamespace(module=module, **{node.define_schema().node_id: node for node in asyncio.run(nodes())})


@pytest.fixture(scope="session")
def demo(pack):
    """MODEL, CLIP, VAE of the demo base and the bundled eraser of "cat"."""
    with torch.inference_mode():
        model, clip, vae = pack.UnHypeDemoModel.execute("emoji-sd").result
        eraser = pack.UnHypeLoader.execute("demo_cat.safetensors").result[0]
    return SimpleNamespace(model=model, clip=clip, vae=vae, eraser=eraser)


@pytest.fixture(scope="session")
def tiny():
    """Settings of a training of seconds, which teaches next to nothing."""
    return {
        "base": "demo",
        "erase": ["cat -> forest"],
        "templates": ["a {}, google style, on a blue background", "a {} and a {other}, google style, on a blue background"],
        "retain": ["dog", "bear", "fish", "car"],
        "neighbours": 0,
        "clip_skips": [1],
        "size": "64x64",
        "pair_size": "128x64",
        "pictures": 4,
        "pair_prompts": 16,
        "sampling_steps": 2,
        "cfg": 3.0,
        "kept_steps": 2,
        "rank": 2,
        "hidden": 16,
        "batch": 2,
        "retain_batch": 16,
        "preview_every": 0,
    }


@pytest.fixture
def few_texts(monkeypatch):
    """As few.py has it, for one test."""
    from few import few_texts

    few_texts(monkeypatch.setattr)
