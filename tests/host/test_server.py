"""The pack in a running ComfyUI server: workflows, bit-equality, cancel, errors."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import server as client
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ERASED, SAFE = "a cat, google style, on a blue background", "a bear, google style, on a blue background"


def workflow(name, info):
    """A saved workflow as the page would post it."""
    return client.as_prompt(json.loads((ROOT / "workflows" / name).read_text()), info)


def pixels(paths):
    return [np.asarray(Image.open(p).convert("RGB")).astype(int) for p in paths]


SD = {"base": "emoji-sd", "file": "demo_cat.safetensors", "cfg": 3.0}
FLUX = {"base": "emoji-flux", "file": "demo_flux_cat.safetensors", "cfg": 1.0}
SINCE = pytest.mark.since("0.3.72")  # the Flux demo base


def graph(text, strength, seed=5, demo=SD, batch=1, **sampler):
    """A small prompt: base and erased pictures of a text, nodes "plain" and "erased"."""
    nodes = {
        "base": ("UnHypeDemoModel", {"base": demo["base"]}),
        "file": ("UnHypeLoader", {"file": demo["file"]}),
        "eraser": ("UnHypeEraser", {"model": ["base", 0], "unhype": ["file", 0], "strength": strength}),
        "text": ("CLIPTextEncode", {"clip": ["base", 1], "text": text}),
        "empty": ("CLIPTextEncode", {"clip": ["base", 1], "text": ""}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": batch}),
    }
    for name, model in (("plain", "base"), ("erased", "eraser")):
        nodes[name + "_sampler"] = (
            "KSampler",
            {
                "model": [model, 0],
                "positive": ["text", 0],
                "negative": ["empty", 0],
                "latent_image": ["latent", 0],
                "seed": seed,
                "steps": 16,
                "cfg": demo["cfg"],
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            }
            | sampler,
        )
        nodes[name + "_picture"] = ("VAEDecode", {"samples": [name + "_sampler", 0], "vae": ["base", 2]})
        nodes[name] = ("SaveImage", {"images": [name + "_picture", 0], "filename_prefix": name})
    return {k: {"class_type": c, "inputs": i} for k, (c, i) in nodes.items()}


MISSING = {
    "unhype_sd15.json": ["CheckpointLoaderSimple"],
    "unhype_sdxl.json": ["CheckpointLoaderSimple"],
    "unhype_flux.json": ["DualCLIPLoader", "DualCLIPLoader", "UNETLoader", "VAELoader"],
}


@pytest.mark.parametrize("name", MISSING)
def test_workflows_are_accepted_but_for_their_files(server, info, name):
    """Their files are the user's own: the only errors may be their names."""
    prompt = workflow(name, info)
    assert {n["class_type"] for n in prompt.values()} <= info.keys()
    status, reply = server.post("/prompt", {"prompt": prompt})
    assert status == 400
    errors = [(reply["node_errors"][n]["class_type"], e["type"]) for n in reply["node_errors"] for e in reply["node_errors"][n]["errors"]]
    assert sorted(errors) == [(n, "value_not_in_list") for n in MISSING[name]]


@pytest.mark.parametrize("demo", [pytest.param(SD, id="sd"), pytest.param(FLUX, id="flux", marks=SINCE)])
def test_safe_prompt_is_bit_equal_and_erased_prompt_is_not(server, demo):
    for text, equal in ((SAFE, True), (ERASED, False), ("a forest, google style, on a blue background", True)):
        images = server.images(graph(text, 1.0, demo=demo))
        plain, erased = pixels(images["plain"])[0], pixels(images["erased"])[0]
        assert np.array_equal(plain, erased) == equal, text


@pytest.mark.parametrize("demo", [pytest.param(SD, id="sd"), pytest.param(FLUX, id="flux", marks=SINCE)])
@pytest.mark.parametrize("word", ["cat", "kitty"])
def test_what_the_server_draws_is_judged(server, demo, word):
    from demo.judge import NAMES, load_judge

    images = server.images(graph(f"an emoji of a {word} in fluent style with a pink background", 1.0, seed=77, demo=demo, batch=8))
    named = {k: load_judge().scores(torch.tensor(np.stack(pixels(v))) / 255).argmax(-1) == NAMES.index("cat") for k, v in images.items()}
    assert named["plain"].sum() >= 6 and named["erased"].sum() == 0


def test_concepts_of_the_node_choose_what_is_erased(server):
    """A prompt without the widget's value, as saved before there was one, runs as all of them: `graph` is one."""
    pictures = []
    for concepts in (None, "", " Cat ,"):
        prompt = graph(ERASED, 1.0)
        assert "concepts" not in prompt["eraser"]["inputs"]
        if concepts is not None:
            prompt["eraser"]["inputs"]["concepts"] = concepts
        prompt["erased"]["inputs"]["filename_prefix"] = f"concepts{len(pictures)}"
        pictures.append(pixels(server.images(prompt)["erased"])[0])
    assert np.array_equal(pictures[0], pictures[1]) and np.array_equal(pictures[0], pictures[2])
    unknown = graph(ERASED, 1.0)
    unknown["eraser"]["inputs"]["concepts"] = "cat, kitty"
    entry = server.finish(server.queue(unknown))
    assert entry["status"]["status_str"] == "error"
    assert "concepts: 'kitty' is not in demo_cat.safetensors, which erases cat;" in json.dumps(entry["status"])


def test_strength_zero_is_bit_equal(server):
    images = server.images(graph(ERASED, 0.0))
    assert np.array_equal(*(pixels(images[k])[0] for k in ("plain", "erased")))


def test_server_draws_what_the_trainer_draws(server, comfy):
    from host.load import load_backbone
    from trainer import previews
    from unhype.checkpoint import load_eraser
    from unhype.hypernetwork import at_strength

    with torch.inference_mode():
        own = load_backbone("demo")
        text, empty = own.encode([ERASED]), own.encode([""])
        eraser = load_eraser(ROOT / "demo/erasers/demo_cat.safetensors")
        model = previews.adapted_sampling(
            own, eraser.network.shape.layers, torch.arange(1), at_strength(eraser.network, text.condition(), 1.0)
        )
        latents = own.sample(text.conditioning(), empty.conditioning(), (64, 64), 5, 16, 3.0, model)
        expected = (own.decode(latents)[0] * 255).numpy()
    drawn = pixels(server.images(graph(ERASED, 1.0))["erased"])[0]
    assert np.abs(drawn - expected).max() <= 2


def test_cancelled_run_leaves_the_model_as_it_was(server):
    before = pixels(server.images(graph(ERASED, 1.0, seed=6))["plain"])[0]
    long = graph(ERASED, 1.0, seed=7, steps=2000)
    del long["plain"], long["plain_picture"], long["plain_sampler"]
    running = server.queue(long)
    log = server.base / "server.log"
    for _ in range(600):
        if "fired on 1 of 1 prompt" in log.read_text()[-4000:] and server.get("/queue")["queue_running"]:
            break
        time.sleep(0.05)
    time.sleep(0.5)
    server.post("/interrupt", {})
    assert "execution_interrupted" in json.dumps(server.finish(running)["status"])
    again = graph(ERASED, 1.0, seed=6)
    again["plain"]["inputs"]["filename_prefix"] = "again"
    again["text"]["inputs"]["text"] = ERASED + " "  # another text, so that nothing comes from the host's cache
    assert np.array_equal(before, pixels(server.images(again)["plain"])[0])


def test_damaged_file_is_an_error_that_names_it(server):
    (server.base / "models" / "unhype" / "damaged.safetensors").write_bytes(b"not a safetensors file at all, only text")
    prompt = graph(ERASED, 1.0)
    prompt["file"]["inputs"]["file"] = "damaged.safetensors"
    entry = server.finish(server.queue(prompt))
    assert entry["status"]["status_str"] == "error" and "damaged.safetensors" in json.dumps(entry["status"])


def test_an_eraser_that_is_missing_or_not_connected_is_an_error_beside_a_branch_that_runs(server):
    """Not one of validation, which the page does not show where another branch is valid: there the former picture would stay."""
    lost, loose, linked, base = (graph(ERASED, 1.0, seed=9) for _ in range(4))
    lost["file"]["inputs"]["file"] = "nowhere.safetensors"
    del loose["eraser"]["inputs"]["unhype"]
    for prompt, value in ((linked, {"file": ["string", 0]}), (base, {"base": ["string", 0]})):
        name = "file" if prompt is linked else "base"
        prompt["string"] = {"class_type": "PrimitiveString", "inputs": {"value": "nowhere"}}
        prompt[name]["inputs"] = value
    for prompt, says in (
        (lost, str(server.base / "models" / "unhype")),
        (loose, "unhype: nothing is connected"),
        (linked, "'nowhere' was not found"),
        (base, "demo base 'nowhere' is not known"),
    ):
        entry = server.finish(server.queue(prompt))
        assert entry["status"]["status_str"] == "error" and says in json.dumps(entry["status"])


def test_a_linked_name_runs(server):
    prompt = graph(ERASED, 1.0, seed=9)
    plain = pixels(server.images(prompt)["erased"])[0]
    for node, name in (("file", "file"), ("base", "base")):
        prompt[f"{node}_string"] = {"class_type": "PrimitiveString", "inputs": {"value": prompt[node]["inputs"][name]}}
        prompt[node]["inputs"][name] = [f"{node}_string", 0]
    prompt["erased"]["inputs"]["filename_prefix"] = "linked"
    assert np.array_equal(plain, pixels(server.images(prompt)["erased"])[0])


def test_a_strength_that_is_no_number_is_an_error(server):
    prompt = graph(ERASED, float("nan"))
    entry = server.finish(server.queue(prompt))
    assert "strength is nan, expected a number" in json.dumps(entry["status"])


def test_eraser_folders_and_only_safetensors(server):
    for folder in ("models/unhype", "output/unhype", "elsewhere/unhype"):
        path = server.base / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / f"in_{path.parent.name}.safetensors").write_bytes(b"x")
        (path / "notes.txt").write_text("x")
    listed = server.get("/object_info/UnHypeLoader")["UnHypeLoader"]["input"]["required"]["file"]
    options = listed[1]["options"] if listed[0] == "COMBO" else listed[0]
    assert {"demo_cat.safetensors", "in_models.safetensors", "in_output.safetensors", "in_elsewhere.safetensors"} <= set(options)
    assert not [o for o in options if not o.endswith(".safetensors")]


def test_widget_order_is_a_promise(info):
    eraser = info["UnHypeEraser"]
    assert list(eraser["input"]["required"]) == ["model", "strength"]
    assert list(eraser["input"]["optional"]) == ["unhype", "conditioning", "concepts", "apply"]
    kind, options = eraser["input"]["optional"]["concepts"]
    assert kind == "STRING" and options["default"] == ""  # so that a workflow saved before it is valid
    assert eraser["output"] == ["MODEL"] and info["UnHypeLoader"]["output"] == ["UNHYPE", "STRING"]
    assert info["UnHypeDemoModel"]["output"] == ["MODEL", "CLIP", "VAE"]
