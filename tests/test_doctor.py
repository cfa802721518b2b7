"""trainer/doctor.py: what the machine is, and what would become of a training, each doubt with where it comes from."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainer import doctor
from trainer.settings import machine
from trainer.settings.strict_yaml import lines_of

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = """\
# a training
base: demo
erase:
  - "cat -> kitty"
  - "zxqv -> forest"
  - "hot dog -> house"

out: {out}
retain: [dog, bird, horse, house]
size: 64x64
iterations: 200
"""


@pytest.fixture
def said(comfy, few_texts, tmp_path, capsys):
    """A function: exit code, and all that is said of a training of these settings."""

    def run(text=SETTINGS, *options):
        path = tmp_path / "my.yaml"
        path.write_text(text.format(out=tmp_path / "out" / "a.safetensors"), encoding="utf-8")
        code = doctor.main(["--config", str(path), *options])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_without_settings_it_speaks_of_the_machine(comfy, capsys):
    from host.start import comfy_version

    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    assert f"torch {torch.__version__}" in out and f"ComfyUI {comfy_version()} in {comfy}" in out and "Python 3." in out
    assert "graphics card: none that this torch can use" in out and "GB free, " in out and "disk: " in out
    assert "what it takes" not in out


def test_a_card_is_named_with_its_free_memory(comfy, monkeypatch):
    from host import devices, memory

    monkeypatch.setattr(memory, "device_memory", lambda: (torch.device("cuda"), 24 * memory.GB))
    for name, value in (("free", 20 * memory.GB), ("title", "GeForce"), ("kind", "hip"), ("driver", "6.4")):
        monkeypatch.setattr(devices, name, lambda *_, value=value: value)
    lines = machine.machine()
    assert "graphics card: GeForce (hip), 20.0 of 24.0 GB free" in lines and any("(of hip 6.4)" in line for line in lines)


def test_every_setting_is_said_with_its_line_and_every_doubt(said, tmp_path):
    code, out, _ = said(SETTINGS, "--rank", "2")
    lines = [line.strip() for line in out.splitlines()]
    assert code == 0 and not (tmp_path / "out").exists()
    for line in ("line 2  base: demo", "line 3  erase: ['cat -> kitty', 'zxqv -> forest', 'hot dog -> house']", "option  rank: 2"):
        assert line in lines
    assert "line 10  size: 64x64" in lines and "line 11  iterations: 200" in lines and any("at their defaults" in line for line in lines)
    assert "hot dog -> house, in 14 sentences" in lines
    assert "'hot dog' holds 'dog', which is retained" in out
    assert "warning: the mapping concept 'kitty' is near 'cat'" in out
    assert "'zxqv': the text encoder seems hardly to know it" in out
    assert "near neighbours to retain: " in out
    assert "file of " in out and "GB at the peak" in out and "the denoiser is asked" in out and "minutes where a matrix product" in out
    assert "written: about " in out and f"GB free for it in {tmp_path / 'out'}" in out


@pytest.mark.parametrize(
    "change, error",
    [
        (("iterations: 200", "itertions: 200"), "unknown setting 'itertions'; did you mean iterations?"),
        (("iterations: 200", "iterations: many"), "iterations is 'many', expected a whole number"),
        (('"zxqv -> forest"', '"cat -> forest"'), "expected each target once"),
        (('"zxqv -> forest"', '"kitty -> forest"'), "mapping concepts that are not erased themselves (kitty is)"),
        (("base: demo", "base: nowhere.safetensors"), "nowhere.safetensors"),
    ],
)
def test_what_a_training_would_refuse_it_refuses(said, change, error):
    code, out, err = said(SETTINGS.replace(*change))
    assert code == 1 and error in err and "what it takes" not in out and "torch" in out


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("\ufeff# b\n\nbase: demo\nerase:\n- a\n\n\n'out': x\n", encoding="utf-8")
    assert lines_of(path) == {"base": 3, "erase": 4, "out": 8}


def test_room_is_told_of_a_folder_that_is_not_there_yet(tmp_path):
    assert machine.disk(tmp_path / "a" / "b", "it").endswith(f"GB free for it in {tmp_path / 'a' / 'b'}")


def test_it_runs_as_a_script_from_anywhere(comfy, tmp_path):
    environment = {**os.environ, "COMFYUI_PATH": str(comfy)}
    command = [sys.executable, ROOT / "trainer" / "doctor.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "graphics card" in done.stdout, done.stderr
    done = subprocess.run([*command, "--comfyui", "nowhere"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: no ComfyUI found") and not list(tmp_path.iterdir())
