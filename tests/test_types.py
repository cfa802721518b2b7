"""The types of the rooms that others build on, checked strictly; settings are in pyproject.toml."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("unhype", "host")


def complaints(folder: Path, *packages: str) -> list[str]:
    """What mypy finds wrong in packages of a folder, a line each."""
    names = [word for name in packages for word in ("-p", name)]
    settings = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / "out" / "mypy", "--no-error-summary")
    command = [sys.executable, "-m", "mypy", *settings, *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    return (done.stdout + done.stderr).splitlines()


def test_types_are_right():
    assert complaints(ROOT, *ROOMS) == []


def test_types_of_the_nodes_are_right(tmp_path):
    """The nodes' imports climb to the root, which is a package of the host's alone and may have any name."""
    pack = tmp_path / "unhype_pack"
    for name in ("unhype", "nodes"):
        shutil.copytree(ROOT / name, pack / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", pack)
    assert complaints(tmp_path, "unhype_pack") == []


def test_a_wrong_type_is_found(tmp_path):
    """So that the test above can fail."""
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "__init__.py").write_text("def half(x):\n    return x / 2\n\n\nn: int = 'two'\n")
    found = complaints(tmp_path, "wrong")
    assert len(found) == 2 and "no-untyped-def" in found[0] and "assignment" in found[1]
