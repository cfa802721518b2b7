"""The house's own rules: who imports whom, what is published, how long a room may be."""

import ast
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {ROOT / line for line in (ROOT / ".comfyignore").read_text().splitlines()}
PUBLISHED = [p for folder in ("nodes", "unhype", "trainer") for p in sorted((ROOT / folder).glob("*.py")) if p not in IGNORED]
PUBLISHED.append(ROOT / "__init__.py")
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "comfyui_version", "latent_preview"}
MAY_IMPORT_HOST = {"trainer/backbone.py"}


def imported(path: Path) -> set[str]:
    """Top-level names of every absolute import in a file, and ".name" for relative ones."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").split(".")[0])
    return names


def test_imports_run_one_way():
    for path in sorted((ROOT / "unhype").glob("*.py")):
        assert not imported(path) & (HOST | {"trainer", "nodes", "demo", "..nodes", "..trainer", "..demo"}), path
        assert not any(name.startswith("..") for name in imported(path)), path
    for path in sorted((ROOT / "trainer").glob("*.py")):
        found = imported(path)
        assert "..nodes" not in found, path
        if str(path.relative_to(ROOT).as_posix()) not in MAY_IMPORT_HOST:
            assert not found & HOST, path
    for path in sorted((ROOT / "nodes").glob("*.py")):
        assert not imported(path) & {"unhype", "trainer", "demo", "..trainer"}, f"{path}: only relative imports work in a pack"


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_unsafe_is_published(path):
    assert not imported(path) & {"pickle", "subprocess", "marshal", "shelve", "joblib"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "torch.load", "torch.jit.load", "os.system", "print"} or (
                name == "print" and path.parent.name == "trainer"
            )
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None), "a bare except"


def test_no_file_is_too_long_and_none_names_this_machine():
    git = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".yaml", ".toml", ".txt", ".json", ""} and path.is_file() and name != "LICENSE":
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text, name
            if path.suffix == ".py":
                assert text.count("\n") <= 400, name


def test_requirements_stay_empty():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    assert not [line for line in lines if line.strip() and not line.startswith("#")]


def test_readme_shows_the_commands():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "python dev.py demo" in readme and "python dev.py test" in readme
