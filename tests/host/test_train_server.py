"""UnHypeTrain in a running server: cancelled, gone on with, cached, found again, and its messages."""

import asyncio
import json
import time

import pytest
import server as client
from test_tell import texts_of
from test_train_node import ERASE, TINY

SETTINGS_NODE = '''
class Tiny:
    """Attaches settings of a training that takes seconds."""
    INPUT_TYPES = classmethod(lambda cls: {"required": {"model": ("MODEL",), "settings": ("STRING",)}})
    RETURN_TYPES, FUNCTION, CATEGORY = ("MODEL",), "attach", "test"

    def attach(self, model, settings):
        model = model.clone()
        model.set_attachments("unhype_settings", settings)
        return (model,)

NODE_CLASS_MAPPINGS = {"Tiny": Tiny}
'''


@pytest.fixture(scope="module")
def server(comfy, tmp_path_factory):
    import dev

    base = tmp_path_factory.mktemp("comfyui")
    dev.install_pack(base)
    (base / "custom_nodes" / "tiny.py").write_text(SETTINGS_NODE)
    (base / "tiny.yaml").write_text(TINY.replace("iterations: 6", "iterations: 60"))
    with client.Server(comfy, base) as running:
        yield running


def graph(server, **widgets):
    nodes = {
        "base": ("UnHypeDemoModel", {"base": "emoji-sd"}),
        "tiny": ("Tiny", {"model": ["base", 0], "settings": str(server.base / "tiny.yaml")}),
        "train": ("UnHypeTrain", {"model": ["tiny", 0], "clip": ["base", 1], "vae": ["base", 2]} | WIDGETS | widgets),
    }
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


WIDGETS = {"erase": ERASE, "name": "", "preset": "normal", "seed": 0}


def test_cancelled_gone_on_with_cached_and_found_again(server):
    folder, prompt = server.base / "models" / "unhype", graph(server)
    running = server.queue(prompt)
    for _ in range(3000):
        if (folder / "pizza.state").exists():
            break
        time.sleep(0.05)
    server.post("/interrupt", {})
    assert "execution_interrupted" in json.dumps(server.finish(running)["status"])
    assert (folder / "pizza.state").exists() and not (folder / "pizza.safetensors").exists()

    said = asyncio.run(texts_of(server, prompt))
    assert {node for node, _ in said} == {"train"} and any("continuing from" in text for _, text in said)
    assert any(" of 60 steps, " in text and text.endswith(" left") for _, text in said)
    verdict = said[-1][1]
    assert verdict.startswith(("passed\n", "FAILED: do not rely on this eraser\n")) and verdict.endswith("saved as pizza.safetensors")
    made = (folder / "pizza.safetensors").stat().st_mtime_ns

    entry = server.finish(server.queue(prompt))
    ((_, cached),) = [message for message in entry["status"]["messages"] if message[0] == "execution_cached"]
    assert "train" in cached["nodes"]
    (picture,) = entry["outputs"]["train"]["images"]
    assert (server.base / "temp" / picture["filename"]).exists()

    server.post("/free", {"free_memory": True})  # as after the host was started anew
    time.sleep(1)
    said = [text for _, text in asyncio.run(texts_of(server, prompt))]
    assert "pizza.safetensors was made with these settings before: it is taken as it is" in said and said[-1] == verdict
    assert (folder / "pizza.safetensors").stat().st_mtime_ns == made


@pytest.mark.parametrize(
    "widgets, text",
    [
        ({"erase": ""}, "erase is empty. Write what is to be forgotten"),
        ({"erase": "-> forest"}, "expected a target and a mapping concept"),
        ({"name": "../cat"}, "a name without a folder: erasers are saved in models/unhype"),
        ({"preset": "long"}, "expected one of instant, quick, normal, thorough"),
        ({"retain": "pizza"}, "take it out of retain or out of erase"),
    ],
)
def test_messages_reach_the_page(server, widgets, text):
    entry = server.finish(server.queue(graph(server, **widgets)))
    assert entry["status"]["status_str"] == "error" and text in json.dumps(entry["status"])
