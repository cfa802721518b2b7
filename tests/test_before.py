"""Before a training begins: nothing that is read or was made is lost, and what cannot end well ends at once."""

import dataclasses
import os
import shutil
import subprocess
import sys
from argparse import Namespace
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from host.inputs import check_files
from host.start import ROOT
from trainer.config import from_mapping, parse_arguments
from trainer.run.divergence import Diverged, diverged, refuse_nan
from trainer.settings import before
from trainer.settings.before import check_loaded, check_reader, prepare
from trainer.settings.fields import ConfigError
from trainer.settings.paths import placed, where_to_find, with_paths_expanded, written
from unhype.checkpoint import load_eraser, save_eraser
from unhype.description import MAX_LAYERS
from unhype.header import MAX_BYTES
from unhype.layers import family_of

BUNDLED = ROOT / "demo/erasers/demo_cat.safetensors"
DEMO = {"base": "demo", "erase": ["cat -> forest"], "size": "64x64"}


def settings(out, **changes):
    return from_mapping({**DEMO, "out": str(out), **changes}, "a.yaml")


def arguments(**changes) -> Namespace:
    return Namespace(**{"inputs": [], "dry_run": False, "resume": False, "overwrite": False, **changes})


def run(folder: Path, *options, **environment):
    command = [sys.executable, ROOT / "trainer/train.py", *map(str, options)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment})


@pytest.fixture
def work(comfy, tmp_path, monkeypatch):
    """An empty folder to be in, and a ComfyUI whose models lie in it."""
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# D1: nothing that is read is written over


def base_file(folder: Path) -> Path:
    return Path(shutil.copy(ROOT / "demo/emoji-sd.safetensors", folder / "base.safetensors"))


def test_an_out_equal_to_the_base_is_refused(comfy, tmp_path):
    base = base_file(tmp_path)
    content = base.read_bytes()
    done = run(tmp_path, "--base", base, "--erase", "cat -> forest", "--out", "./base.safetensors", "--overwrite")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "base.safetensors would be written over" in done.stderr.splitlines()[-1]
    assert base.read_bytes() == content and sorted(tmp_path.iterdir()) == [base]


def other_names(path: Path) -> dict[str, str]:
    """Ways to name the same file."""
    folder = path.parent
    (folder / "soft.safetensors").symlink_to(path)
    os.link(path, folder / "hard.safetensors")
    (folder / "there").symlink_to(folder)
    names = {"soft": "soft.safetensors", "hard": "hard.safetensors", "linked folder": f"there/{path.name}"}
    return {k: str(folder / v) for k, v in names.items()} | {
        "dots": f"{folder}/../{folder.name}/./{path.name}",
        "relative": f"./{path.name}",
    }


@pytest.mark.parametrize("spelling", ["soft", "hard", "linked folder", "dots", "relative"])
@pytest.mark.parametrize("overwrite", [True, False])
def test_an_out_that_is_an_input_by_another_name_is_refused(work, spelling, overwrite):
    base = base_file(work)
    out = other_names(base)[spelling]
    with pytest.raises(ConfigError, match="would be written over .*base.safetensors, which is read as base"):
        prepare(settings(out, base=str(base)), arguments(overwrite=overwrite))


@pytest.mark.parametrize("name", ["text_encoders", "vae", "add_to"])
def test_an_out_equal_to_any_other_input_is_refused(work, name):
    other, base = Path(shutil.copy(BUNDLED, work / "other.safetensors")), base_file(work)
    changes = {"base": str(base), name: [str(other)] if name == "text_encoders" else str(other)}
    with pytest.raises(ConfigError, match=f"other.safetensors, which is read as {name}"):
        prepare(settings("./other.safetensors", **changes), arguments(overwrite=True))


def test_an_out_equal_to_a_file_in_comfyuis_folders_is_refused(work, monkeypatch):
    import folder_paths

    folder = work / "checkpoints"
    folder.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "checkpoints", ([str(folder)], {".safetensors"}))
    base_file(folder)
    with pytest.raises(ConfigError, match="which is read as base"):
        prepare(settings("checkpoints/base.safetensors", base="base.safetensors"), arguments(overwrite=True))


@pytest.mark.parametrize("out, read", [("./a.safetensors", "a.safetensors"), ("./a.safetensors", "a.jsonl"), ("./a", "a.previews")])
def test_neither_the_eraser_nor_what_lies_beside_it_is_written_over_a_file_of_settings(work, out, read):
    (work / read).write_text("base: demo")
    with pytest.raises(ConfigError, match=f"would be written over .*{read}, which is read as config"):
        prepare(settings(out), arguments(inputs=[work / read], overwrite=True))


def test_the_demo_bases_own_files_are_inputs(work):
    with pytest.raises(ConfigError, match="which is read as base"):
        prepare(settings(ROOT / "demo/emoji-sd.safetensors"), arguments(overwrite=True))


def test_an_existing_eraser_is_replaced_only_when_told_so(work):
    shutil.copy(BUNDLED, work / "cat.safetensors")
    config = settings("./cat.safetensors")
    with pytest.raises(ConfigError, match="the eraser cat.safetensors is there already: .*--overwrite"):
        prepare(config, arguments())
    for told in ({"overwrite": True}, {"resume": True}, {"dry_run": True}):
        prepare(config, arguments(**told))
    assert (work / "cat.safetensors").read_bytes() == BUNDLED.read_bytes()


@pytest.mark.parametrize("left", ["state", "state before"])
@pytest.mark.parametrize("ended", ["before the eraser", "before the verdict"])
def test_a_stopped_training_is_not_started_over(work, left, ended):
    config = settings("./cat.safetensors")
    written(config)[left].touch()
    written(config)["log"].touch()
    if ended == "before the verdict":
        eraser = load_eraser(BUNDLED)
        eraser.metrics.pop("verdict", None)
        save_eraser(eraser, written(config)["eraser"])
    with pytest.raises(ConfigError, match="was stopped .*--resume, or start over with --overwrite"):
        prepare(config, arguments())
    prepare(config, arguments(overwrite=True)), prepare(config, arguments(resume=True))


def test_a_training_that_was_judged_is_not_said_to_be_stopped(work):
    config = settings("./cat.safetensors")
    written(config)["state"].touch()
    eraser = load_eraser(BUNDLED)
    eraser.metrics["verdict"] = {"passed": False}
    save_eraser(eraser, written(config)["eraser"])
    with pytest.raises(ConfigError, match="the eraser .* is there already"):
        prepare(config, arguments())


@pytest.mark.parametrize("what", ["log", "page", "previews"])
def test_a_former_log_and_former_previews_are_kept(work, what):
    config = settings("./cat.safetensors")
    path = written(config)[what]
    if what == "previews":
        path.mkdir()
        prepare(config, arguments())
        path = path / "000100.png"
    path.write_text("former")
    with pytest.raises(ConfigError, match=f"the {what} .* is there already"):
        prepare(config, arguments())
    prepare(config, arguments(overwrite=True))


def test_overwrite_replaces_erasers_only(work):
    base_file(work)
    (work / "notes.safetensors").write_text("my notes")
    for name, what in (("base", "a base model of UnHype's demo"), ("notes", "a text file")):
        with pytest.raises(ConfigError, match=f"{name}.safetensors is {what}.*, and --overwrite replaces erasers only"):
            prepare(settings(f"./{name}.safetensors"), arguments(overwrite=True))


def test_resume_and_overwrite_exclude_each_other(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--resume", "--overwrite"], "")
    assert "not allowed with" in capsys.readouterr().err


# D2: the reader's own limits


def test_what_the_reader_would_refuse_is_refused_before(work):
    found = check_files("demo")
    check_reader(settings("./x"), found.denoiser, found.family)
    shapes = found.denoiser.shapes
    for i in range(MAX_LAYERS):
        shapes[f"input_blocks.90.1.transformer_blocks.{i}.attn2.to_k.weight"] = (8, 128)
    with pytest.raises(ConfigError, match=f"could not be read: .*lists {MAX_LAYERS + 18} layers"):
        check_reader(settings("./x"), found.denoiser, found.family)


def test_a_loaded_base_is_checked_against_the_reader_too(comfy):
    """Also where its file's header said nothing, as of a diffusion model in diffusers' layout."""
    from host.load import load_backbone

    with pytest.raises(ConfigError, match="the eraser of demo would take"):
        check_loaded(settings("./x", rank=256, hidden=16384, bottleneck=0), load_backbone("demo"))


def test_an_eraser_larger_than_the_reader_takes_is_refused_before(work):
    with pytest.raises(
        ConfigError, match=rf"the eraser of demo would take .* GB, expected at most {MAX_BYTES / 1e9:.1f}: make rank \(256\)"
    ):
        prepare(settings("./x", rank=256, hidden=16384, bottleneck=0), arguments())
    assert not list(work.iterdir())


# D6: paths


def test_home_and_variables_are_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WORK_DISK", "/disk")
    for given in ("~", "$HOME", "${HOME}", "%HOME%"):
        values = {name: f"{given}/x.safetensors" for name in ("base", "vae", "out", "add_to")} | {"text_encoders": [f"{given}/a", "b"]}
        found = with_paths_expanded(values, "a.yaml")
        assert {found[n] for n in ("base", "vae", "out", "add_to")} == {"/home/me/x.safetensors"}
        assert found["text_encoders"] == ["/home/me/a", "b"]
    path = tmp_path / "a.yaml"
    path.write_text("base: demo\nerase: [cat]\nout: $WORK_DISK/new/x.safetensors")
    assert parse_arguments(["--config", str(path)], "")[0].out == "/disk/new/x.safetensors"
    assert parse_arguments(["--config", str(path), "--out", "~/y"], "")[0].out == "/home/me/y.safetensors"


@pytest.mark.parametrize("out", ["$NO_SUCH/x.safetensors", "${NO_SUCH}/x", "%NO_SUCH%/x", "~nobody_of_that_name/x", "a/$NO_SUCH/x"])
def test_an_unknown_variable_makes_no_folder_of_that_name(out):
    with pytest.raises(ConfigError, match="out is .* is no folder or variable of this computer"):
        settings(out)


@pytest.mark.parametrize("given, out", [("cat", "cat.safetensors"), ("o/cat v1.5", "o/cat v1.5.safetensors"), ("cat.safetensors",) * 2])
def test_the_ending_may_be_left_out(given, out):
    assert settings(given).out == out


@pytest.mark.parametrize("out", ["new/", "new\\", ".", "..", " ", "o/.safetensors", "a\0b"])
def test_an_out_that_is_a_folder_or_nothing_is_refused(tmp_path, out):
    for wrong in (out, str(tmp_path)):
        with pytest.raises(ConfigError, match="out is .*a file name that ends in .safetensors, not a folder"):
            settings(wrong)


def test_a_folder_of_the_same_name_is_no_hindrance_to_a_bare_name(work):
    (work / "cat").mkdir()
    assert settings("cat").out == "cat.safetensors"


def test_a_bare_name_goes_where_the_node_looks_and_a_path_stays(work):
    for given, out in (("cat", work / "models/unhype/cat.safetensors"), ("./cat", "./cat.safetensors"), ("o/cat", "o/cat.safetensors")):
        assert prepare(settings(given), arguments(dry_run=True)).out == str(out)
    assert not list(work.iterdir())
    prepare(settings("cat"), arguments())
    assert (work / "models/unhype").is_dir() and not list((work / "models/unhype").iterdir())


def test_an_eraser_to_go_on_from_is_found_by_its_name(work):
    (work / "models/unhype").mkdir(parents=True)
    shutil.copy(BUNDLED, work / "models/unhype/one.safetensors")
    for name in ("one", "one.safetensors"):
        config, _ = parse_arguments(["--add-to", name, "--erase", "dog -> forest", "--out", "two"], "")
        assert config.add_to == str(work / "models/unhype/one.safetensors") and config.erase == ["cat -> forest", "dog -> forest"]
    with pytest.raises(FileNotFoundError, match=f"add_to: there is no eraser three here, and none in {work / 'models/unhype'}"):
        parse_arguments(["--add-to", "three", "--erase", "dog -> forest", "--out", "two"], "")


def test_the_last_line_says_where_the_node_finds_it(work):
    assert where_to_find(placed("cat.safetensors")) == 'in ComfyUI press R and choose "cat.safetensors" in the node Load UnHype Eraser'
    assert 'choose "mine/cat.safetensors"' in where_to_find(work / "models/unhype/mine/cat.safetensors").replace("\\", "/")
    assert f"move cat.safetensors to {work / 'models/unhype'}" in where_to_find("out/cat.safetensors")


def test_folders_of_extra_model_paths_are_searched(tmp_path):
    from host.folders import extra_folders

    path = tmp_path / "extra_model_paths.yaml"
    assert extra_folders(path) == []
    path.write_text("a:\n  base_path: sub\n  is_default: true\n  checkpoints: one\n  unhype: |\n    two\n    /three\nb:\n")
    assert extra_folders(path) == [("checkpoints", f"{tmp_path}/sub/one"), ("unhype", f"{tmp_path}/sub/two"), ("unhype", "/three")]
    path.write_text("a: [")
    with pytest.raises(ValueError, match="extra_model_paths.yaml cannot be read"):
        extra_folders(path)


def test_a_pack_that_is_linked_into_custom_nodes_finds_its_comfyui(comfy, tmp_path):
    """The documented command, from another folder."""
    (tmp_path / "ComfyUI/custom_nodes").mkdir(parents=True)
    for name in ("comfy", "folder_paths.py", "comfyui_version.py"):
        (tmp_path / "ComfyUI" / name).symlink_to(comfy / name)
    (tmp_path / "ComfyUI/custom_nodes/unhype").symlink_to(ROOT)
    command = "ComfyUI/custom_nodes/unhype/trainer/train.py"
    probe = f"import sys; sys.argv[0] = {command!r}; from host.start import find_comfy; print(find_comfy(None))"
    environment = {k: v for k, v in os.environ.items() if k != "COMFYUI_PATH"} | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == str(tmp_path / "ComfyUI"), done.stderr


# D8: checks before work


@pytest.mark.parametrize("kind", ["eraser", "state", "log", "page", "previews", "cache"])
def test_what_lies_in_the_way_of_a_file_that_is_written_is_found_before(work, kind):
    config = settings("./cat.safetensors")
    path = written(config)[kind]
    path.write_text("in the way") if kind == "previews" else path.mkdir()
    with pytest.raises(OSError, match=f"{path.name}, where the {kind} is written, is a f"):
        prepare(config, arguments(resume=True))


@pytest.mark.parametrize("out", ["x" * 300 + "/cat", "./" + "x" * 245, "file/cat", "./" + "ü" * 120, "./a" * 2000])
def test_a_path_that_cannot_be_written_is_refused_before(work, out):
    (work / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \("):
        prepare(settings(out), arguments())
    assert [p.name for p in work.iterdir()] == ["file"]


def test_too_little_free_space_is_said_before(work, monkeypatch):
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(before.shutil, "disk_usage", lambda path: Usage(10**9, 10**9, 10**6))
    with pytest.raises(OSError, match="has 0.00 GB of free space, this training writes about 0.0"):
        prepare(settings("./cat"), arguments())
    prepare(settings("./cat"), arguments(dry_run=True))


def test_the_estimate_of_what_is_written_holds(work):
    """Of the demo: 15.6 MB of state, 0.7 MB of eraser and 0.3 MB of samples were measured for 2 pictures of 1 level."""
    found = check_files("demo")
    config = settings("./x", pictures=2, sampling_steps=2, kept_steps=1, preview_every=0, pair_size="128x64", iterations=300)
    needed = before.bytes_written(config, found, check_reader(config, found.denoiser, found.family))
    assert 2 * 15.5e6 < needed < 2 * 15.5e6 + 4e6


# D14: NaN in the base is not the training's fault


def test_a_base_that_gives_nan_is_called_so(comfy):
    from host.load import load_backbone

    config = settings("./x")
    backbone = load_backbone("demo")
    state = torch.random.get_rng_state()
    check_loaded(config, backbone)
    assert torch.equal(state, torch.random.get_rng_state())
    weight = next(p for name, p in backbone.diffusion_model.named_parameters() if name.endswith("out.2.weight"))
    with torch.no_grad():
        weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match="base model demo gives NaN .*by itself, for an empty prompt: .*another precision"):
        check_loaded(config, backbone)
    assert family_of(backbone.diffusion_model).name == "sd1"


def test_infinite_predictions_are_refused_and_autocast_is_named():
    config = dataclasses.replace(settings("./x"), autocast="bf16")
    refuse_nan(torch.ones(2), config, "here")
    with pytest.raises(ValueError, match="or autocast: none"):
        refuse_nan(torch.tensor([1.0, float("inf")]), config, "here")


@pytest.mark.parametrize("own, error", [(1.0, Diverged), (float("nan"), ValueError)])
def test_a_loss_that_is_no_number_is_blamed_on_the_base_only_where_it_gives_none_alone(own, error):
    backbone = SimpleNamespace(device=torch.device("cpu"), predict=lambda x, sigma, context, pooled, mask: own * x)
    batch = SimpleNamespace(x=torch.ones(1, 4, 2, 2), sigma=None, context=None, pooled=None, mask=None)
    with pytest.raises(error, match="at iteration 7") as raised:
        diverged(backbone, settings("./x"), batch, "at iteration 7")
    assert ("lower learning_rate" in str(raised.value)) == (error is Diverged)
