"""The templates: what is in them, where it lies, and that the prompts which their notes propose can be drawn."""

import json
import re
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
NAMES = (
    "unhype_demo",
    "unhype_flux",
    "unhype_flux_demo",
    "unhype_inspect",
    "unhype_lora_bake",
    "unhype_negative_at_cfg_1",
    "unhype_sd15",
    "unhype_sdxl",
    "unhype_several_concepts",
    "unhype_strength_sweep",
    "unhype_train",
)
TITLE, SLOT, ROOM = 30, 20, 10  # of a node's head, of an input's row, between two nodes
FOLDED = 190  # width of a folded node, by its title
# Width and height, with the head, that Nodes 2.0 gives a node at least, as its page was measured (front end 1.42).
LARGE = {
    "UnHypeDemoModel": (225, 185),
    "UnHypeLoader": (225, 200),  # with two lines of text, as the Eraser
    "UnHypeEraser": (225, 330),
    "UnHypeInspect": (225, 157),
    "UnHypeToLora": (225, 270),
    "UnHypeTrain": (225, 640),
    "CheckpointLoaderSimple": (225, 161),
    "UNETLoader": (225, 113),
    "VAELoader": (225, 113),
    "DualCLIPLoader": (225, 182),
    "CLIPTextEncode": (225, 146),
    "FluxGuidance": (225, 110),
    "ConditioningZeroOut": (225, 78),
    "EmptyLatentImage": (225, 174),
    "EmptySD3LatentImage": (225, 174),
    "KSampler": (225, 347),
    "VAEDecode": (225, 102),
    "ImageScaleBy": (225, 145),
    "MarkdownNote": (225, 251),
}
LOADERS = {"CheckpointLoaderSimple": ["checkpoints"], "UNETLoader": ["diffusion_models"], "VAELoader": ["vae"]}
LOADERS["DualCLIPLoader"] = ["text_encoders"] * 2


def graph(name):
    return json.loads((ROOT / "workflows" / f"{name}.json").read_text())


def box(node):
    """Left, top, right, bottom of a node with its title."""
    (x, y), (width, height) = node["pos"], node["size"]
    return (x, y - TITLE, x + FOLDED, y) if folded(node) else (x, y - TITLE, x + width, y + height)


def folded(node):
    return node["flags"].get("collapsed", False)


def slot(node, number, right):
    """Where a link leaves or arrives; a folded node has one place at each side of its title."""
    left, top, end, _ = box(node)
    return end if right else left, top + TITLE / 2 if folded(node) else node["pos"][1] + SLOT * (number + 0.7)


def largest(node):
    """The same in whichever look it is larger in, positions being the same."""
    x, y, right, bottom = box(node)
    width, height = (0, 0) if folded(node) else LARGE.get(node["type"], (0, 0))
    return x, y, max(right, x + width), max(bottom, y + height)


def overlap(a, b, margin=0):
    return a[0] < b[2] + margin and b[0] < a[2] + margin and a[1] < b[3] + margin and b[1] < a[3] + margin


def curve(start, end, points=60):
    """A link as the page draws it: a Bezier curve that leaves and arrives level."""
    pull = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 / 4
    for t in (i / points for i in range(1, points)):
        weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        xs = start[0], start[0] + pull, end[0] - pull, end[0]
        ys = start[1], start[1], end[1], end[1]
        yield sum(w * x for w, x in zip(weights, xs)), sum(w * y for w, y in zip(weights, ys))


def test_the_first_template_by_name_is_one_that_runs_and_all_have_a_thumbnail():
    assert tuple(sorted(p.stem for p in (ROOT / "workflows").glob("*.json"))) == NAMES
    assert graph(NAMES[0])["nodes"][0]["type"] == "UnHypeDemoModel"
    for name in NAMES:
        assert Image.open(ROOT / "workflows" / f"{name}.jpg").size == (512, 256)


@pytest.mark.parametrize("name", NAMES)
def test_every_node_has_a_title_of_its_own_and_says_which_pack_it_is_of(name):
    nodes = graph(name)["nodes"]
    titles = [node.get("title") for node in nodes]
    assert all(titles) and len(set(titles)) == len(titles)
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M).group(1)
    for node in nodes:
        ours = node["type"].startswith("UnHype")
        if node["type"] != "MarkdownNote":
            assert node["properties"]["cnr_id"] == ("unhype" if ours else "comfy-core")
            assert not ours or node["properties"]["ver"] == version


@pytest.mark.parametrize("name", NAMES)
def test_files_that_a_template_needs_are_named_with_where_to_get_them(name):
    for node in graph(name)["nodes"]:
        models = node["properties"].get("models", [])
        folders = LOADERS.get(node["type"], [])
        assert [m["directory"] for m in models] == folders
        for model, file in zip(models, node["widgets_values"]):
            assert model["name"] == file and re.fullmatch(
                rf"https://huggingface\.co/[^?]+/resolve/main/(.*/)?{re.escape(file)}", model["url"]
            )


@pytest.mark.parametrize("name", NAMES)
def test_no_node_lies_on_another_and_no_link_behind_one(name):
    saved = graph(name)
    nodes = {node["id"]: node for node in saved["nodes"]}
    for a, b in combinations(nodes.values(), 2):
        assert not overlap(largest(a), largest(b), margin=ROOM), (a["title"], b["title"])
    for _, origin, out, target, into, _ in saved["links"]:
        start, end = nodes[origin], nodes[target]
        for x, y in curve(slot(start, out, True), slot(end, into, False)):
            hidden = [n["title"] for i, n in nodes.items() if i not in (origin, target) and overlap((x, y, x, y), largest(n))]
            assert not hidden, (start["title"], end["title"], hidden)


@pytest.mark.parametrize("name", NAMES)
def test_a_template_opens_as_a_whole_on_a_screen_of_1700_by_1000(name):
    """Beside the bars of the page; the first Nodes 2.0 draws all a fifth larger."""
    saved = graph(name)
    scale, (left, top) = saved["extra"]["ds"]["scale"], saved["extra"]["ds"]["offset"]
    boxes = [box(node) for node in saved["nodes"]]
    first = [scale * (min(b[i] for b in boxes) + offset) for i, offset in ((0, left), (1, top))]
    size = [scale * (max(b[i + 2] for b in boxes) - min(b[i] for b in boxes)) for i in range(2)]
    assert first[0] > 60 and first[1] > 100 and scale >= 0.6
    label = (0, 0, 136 + 8.3 * len(name), 131)  # the workflow's name in the corner, as it was measured
    under = [n["title"] for n, b in zip(saved["nodes"], boxes) if overlap(label, [scale * (x + o) for x, o in zip(b, (left, top) * 2)])]
    assert not under
    assert first[0] + 1.2 * size[0] < 1700 and first[1] + 1.2 * size[1] < 1000


def note(name):
    return next(node["widgets_values"][0] for node in graph(name)["nodes"] if node["type"] == "MarkdownNote")


@pytest.mark.parametrize("name", NAMES)
def test_every_value_of_our_widgets_is_saved(name):
    count = {"UnHypeDemoModel": 1, "UnHypeLoader": 1, "UnHypeEraser": 3, "UnHypeInspect": 0, "UnHypeToLora": 3, "UnHypeTrain": 5}
    for node in graph(name)["nodes"]:
        if node["type"] in count:
            assert len(node["widgets_values"]) == count[node["type"]]


@pytest.mark.parametrize(
    "name",
    ["unhype_demo", "unhype_flux_demo", "unhype_several_concepts", "unhype_strength_sweep", "unhype_negative_at_cfg_1", "unhype_train"],
)
def test_the_demos_list_every_noun_and_say_what_becomes_of_others(name):
    from demo.captions import BACKGROUNDS, NOUNS, STYLES

    assert ", ".join(NOUNS) in note(name) and len(NOUNS) == 25 and "Everything else becomes a blob" in note(name)
    assert all(word in note(name) for word in (*STYLES, *BACKGROUNDS))
