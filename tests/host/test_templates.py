"""The templates of the demo bases in a running server: what they promise is what they draw."""

import numpy as np
import pytest
import torch
from test_server import SINCE, pixels, workflow


def judged(pictures):
    """The noun that the demo's judge sees in each half, or in the whole, of pictures enlarged fourfold."""
    from demo.judge import NAMES, load_judge

    halves = [half[::4, ::4] for p in pictures for half in ([p] if p.shape[1] == p.shape[0] else [p[:, : p.shape[0]], p[:, p.shape[0] :]])]
    return [NAMES[i] for i in load_judge().scores(torch.tensor(np.stack(halves)) / 255).argmax(-1)]


def without_and_with(server, info, name):
    """The two pictures of a template, by the names of their files."""
    (erased,), (base,) = sorted(server.images(workflow(name, info)).values(), key=lambda paths: "_without_" in paths[0].name)
    return pixels([base, erased])


@pytest.mark.parametrize(
    "name", ["unhype_demo.json", *(pytest.param(f"unhype_{n}.json", marks=SINCE) for n in ("flux_demo", "negative_at_cfg_1"))]
)
def test_without_the_eraser_a_cat_and_with_it_none(server, info, name):
    base, erased = without_and_with(server, info, name)
    assert base.shape == erased.shape == (256, 256, 3)
    assert judged([base]) == ["cat"] and judged([erased]) == ["forest"]


def test_of_several_concepts_those_that_are_off_stay(server, info):
    base, erased = without_and_with(server, info, "unhype_several_concepts.json")
    assert base.shape == (256, 512, 3)
    assert sorted(judged([base])) == ["cat", "dog"] and "dog" in judged([erased]) and "cat" not in judged([erased])


def test_inspect_shows_a_picture_and_a_text(server, info):
    prompt = workflow("unhype_inspect.json", info)
    outputs = server.finish(server.queue(prompt))["outputs"]
    shown = {prompt[node]["class_type"]: out for node, out in outputs.items()}
    *concepts, adapter = shown["PreviewAny"]["text"][0].splitlines()
    fires = {line.split(":")[0]: line for line in concepts if "fires on 1 of 1" in line}
    assert fires.keys() == {"cat", "pizza"} and '"cat" (2)' in fires["cat"] and '"pizza" (5)' in fires["pizza"]
    assert len(concepts) == 4 and adapter.startswith("adapter in 18 layers")
    (image,) = shown["UnHypeInspect"]["images"]
    assert pixels([server.base / image["type"] / image["subfolder"] / image["filename"]])[0].shape[1] == 720


@pytest.mark.since("0.3.72")
def test_the_sweep_draws_five_strengths_each_farther_from_the_first(server, info):
    ((paths),) = server.images(workflow("unhype_strength_sweep.json", info)).values()
    drawn = pixels(paths)
    assert judged([p.repeat(4, 0).repeat(4, 1) for p in (drawn[0], drawn[-1])]) == ["cat", "forest"]
    changes = [np.abs(p - drawn[0]).mean() for p in drawn]
    assert len(drawn) == 5 and changes == sorted(changes)
    assert all(np.abs(a - b).mean() > 1 for a, b in zip(drawn, drawn[1:]))


@pytest.mark.since("0.3.72")
def test_a_baked_lora_draws_no_cat_and_is_saved(server, info):
    ((picture,),) = server.images(workflow("unhype_lora_bake.json", info)).values()
    assert judged([pixels([picture])[0].repeat(4, 0).repeat(4, 1)]) == ["forest"]
    assert list((server.base / "output" / "loras").glob("unhype_without_cat*.safetensors"))
