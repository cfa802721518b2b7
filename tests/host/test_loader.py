"""Inputs of the nodes that are linked, missing or wrong; the list of erasers; folders that are not as they should be."""

import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

BUNDLED = Path(__file__).resolve().parents[2] / "demo" / "erasers" / "demo_cat.safetensors"


@pytest.fixture
def folder(pack, tmp_path, monkeypatch):
    """The one folder that erasers are looked for in."""
    import folder_paths

    place = tmp_path / "erasers"
    place.mkdir()
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "unhype", ([str(place)], {".safetensors"}))
    return place


def options(pack):
    (file,) = [i for i in pack.UnHypeLoader.define_schema().inputs if i.id == "file"]
    return file.options


@pytest.mark.parametrize("node, name", [("UnHypeLoader", "file"), ("UnHypeDemoModel", "base")])
def test_a_linked_name_comes_as_none_and_is_no_crash(pack, node, name):
    cls = getattr(pack, node)
    assert cls.validate_inputs(**{name: None}) is True
    if node == "UnHypeLoader":
        assert cls.fingerprint_inputs(file=None) == cls.fingerprint_inputs(file=None)


@pytest.mark.parametrize("value", ["nowhere.safetensors", "", "../x", "a\0b", None, 5, ["x"]])
def test_a_name_that_is_no_eraser_passes_validation_and_is_an_error_of_execute(pack, value):
    assert pack.UnHypeLoader.validate_inputs(file=value) is True
    pack.UnHypeLoader.fingerprint_inputs(file=value)
    with pytest.raises(FileNotFoundError, match="searched .*models.unhype.*press R"):
        pack.UnHypeLoader.execute(value)


@pytest.mark.parametrize("value", ["emoji", "", None, 5, ["emoji-sd"]])
def test_a_demo_base_that_is_not_known_passes_validation_and_is_an_error_of_execute(pack, value):
    assert pack.UnHypeDemoModel.validate_inputs(base=value) is True
    with pytest.raises(ValueError, match="is not known, expected one of emoji-sd, emoji-flux"):
        pack.UnHypeDemoModel.execute(value)


@pytest.mark.parametrize("value", [None, "demo_cat.safetensors", 5])
def test_an_eraser_that_is_not_connected_is_an_error_of_execute(pack, demo, value):
    (unhype,) = [i for i in pack.UnHypeEraser.define_schema().inputs if i.id == "unhype"]
    assert unhype.optional  # the host leaves a branch out without a word where a required input is missing
    with pytest.raises(ValueError, match="unhype: .*connect the output of Load UnHype Eraser"):
        pack.UnHypeEraser.execute(model=demo.model, unhype=value, strength=1.0)


@pytest.mark.parametrize("strength", [float("nan"), float("inf"), -0.5, "1", None])
def test_a_strength_that_is_no_number_from_0_up_is_refused(pack, demo, strength):
    with pytest.raises(ValueError, match="strength is .*expected a number"):
        pack.UnHypeEraser.execute(demo.model, demo.eraser, strength)


def test_concepts_that_are_not_given_are_all(pack, demo):
    assert pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0, None, None).result[0] is not demo.model


def test_a_file_that_changes_has_another_fingerprint_linked_or_not(pack, folder):
    shutil.copy(BUNDLED, folder / "cat.safetensors")
    before = [pack.UnHypeLoader.fingerprint_inputs(file=name) for name in (None, "cat.safetensors")]
    os.utime(folder / "cat.safetensors", ns=(1, 1))
    after = [pack.UnHypeLoader.fingerprint_inputs(file=name) for name in (None, "cat.safetensors")]
    assert before[0] != after[0] and before[1] != after[1]


def test_the_list_shows_erasers_only_also_in_subfolders(pack, folder):
    (folder / "mine").mkdir()
    shutil.copy(BUNDLED, folder / "mine" / "cat.safetensors")
    shutil.copy(BUNDLED, folder / "CAT.SAFETENSORS")
    lora = {"unet.lora_up.weight": torch.zeros(2, 2)}
    save_file(lora, folder / "lora.safetensors")
    save_file(lora, folder / "cat.safetensors.state.safetensors", {"iteration": "5", "config": "x"})
    save_file(lora, folder / "cat.cache.safetensors", {"key": "x"})
    (folder / "notes.txt").write_text("x")
    assert options(pack) == ["CAT.SAFETENSORS", os.path.join("mine", "cat.safetensors")]
    for other in ("lora", "cat.safetensors.state", "cat.cache"):
        with pytest.raises(ValueError, match="is not an UnHype eraser"):
            pack.UnHypeLoader.execute(f"{other}.safetensors")


def test_a_damaged_eraser_is_listed_so_that_its_error_can_say_so(pack, folder):
    whole = BUNDLED.read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (folder / "cut_in_the_header.safetensors").write_bytes(whole[:500])
    (folder / "page.safetensors").write_text("<!DOCTYPE html><html><body>404</body></html>")
    (folder / "empty.safetensors").write_bytes(b"")
    assert options(pack) == ["cut.safetensors", "cut_in_the_header.safetensors", "empty.safetensors", "page.safetensors"]
    for name in options(pack):
        with pytest.raises(ValueError, match=name):
            pack.UnHypeLoader.execute(name)


def test_a_file_that_becomes_an_eraser_is_listed(pack, folder):
    save_file({"x": torch.zeros(1)}, folder / "cat.safetensors")
    assert options(pack)[0].startswith("no eraser yet")
    shutil.copy(BUNDLED, folder / "cat.safetensors")
    assert options(pack) == ["cat.safetensors"]


def test_an_empty_list_says_what_to_do_and_so_does_running_it(pack, folder):
    (entry,) = options(pack)
    assert "models/unhype" in entry and "press R" in entry
    with pytest.raises(FileNotFoundError, match="no UnHype eraser yet; searched .*press R"):
        pack.UnHypeLoader.execute(entry)


def dangling(models):
    os.symlink(models.parent / "unplugged", models / "unhype")


def a_file(models):
    (models / "unhype").write_text("x")


def models_is_a_file(models):
    models.rmdir()
    models.write_text("x")


@pytest.mark.parametrize("spoil, says", [(dangling, "link to"), (a_file, "is a file"), (models_is_a_file, "Not a directory")])
def test_a_models_folder_that_cannot_be_used_is_one_warning(pack, tmp_path, monkeypatch, caplog, spoil, says):
    """The pack loads, the demo is there."""
    import folder_paths
    from unhype_pack.nodes import loader

    models = tmp_path / "models"
    models.mkdir()
    spoil(models)
    monkeypatch.setattr(folder_paths, "models_dir", str(models))
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "unhype", ([], set()))
    with caplog.at_level(logging.WARNING, "unhype"):
        loader.register_folders()
    (said,) = [r.getMessage() for r in caplog.records if r.name == "unhype"]
    assert str(models / "unhype") in said and says in said
    assert "demo_cat.safetensors" in options(pack) and pack.UnHypeLoader.execute("demo_cat.safetensors").result[0].concepts


def test_a_folder_that_cannot_be_written_is_a_warning(pack, tmp_path, monkeypatch, caplog):
    """Made by hand, as whoever runs the tests may write everywhere."""
    import folder_paths
    from unhype_pack.nodes import loader

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path))
    monkeypatch.setattr(os, "makedirs", refused)
    with caplog.at_level(logging.WARNING, "unhype"):
        loader.register_folders()
    assert "Permission denied" in caplog.text


def test_a_folder_that_goes_away_is_no_crash(pack, folder):
    shutil.copy(BUNDLED, folder / "cat.safetensors")
    assert options(pack) == ["cat.safetensors"]
    shutil.rmtree(folder)
    assert options(pack)[0].startswith("no eraser yet")
