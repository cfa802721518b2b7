"""The house's own rules: who imports whom, what is published, how long a room may be."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IGNORED = {line for line in (ROOT / ".comfyignore").read_text().splitlines() if line}
SOURCES = [ROOT / name for name in subprocess.check_output(["git", "ls-files", "*.py"], cwd=ROOT, text=True).split()]
PUBLISHED = [
    p for p in SOURCES if not any(f"{p.relative_to(ROOT).as_posix()}".startswith(line) or p.match(line) for line in IGNORED) and p.exists()
]
HOST = {"comfy", "comfy_api", "comfy_extras", "comfy_execution", "folder_paths", "nodes", "comfyui_version", "latent_preview"}
OURS = {"unhype", "host", "trainer", "demo", "evaluation", "benchmarks"}
BELOW = {  # room -> the rooms that it may import
    "unhype": set(),
    "host": {"unhype"},
    "trainer": {"host", "unhype"},
    "demo": {"host", "unhype"},
    "evaluation": {"trainer", "host", "unhype"},
    "benchmarks": OURS,
}
KNOW_COMFYUI = {"host", "demo"}


def imported(path: Path) -> set[str]:
    """Top-level names of every absolute import in a file, and ".name" for relative ones."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add("." * node.level + (node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("room", BELOW)
def test_imports_run_one_way(room):
    """benchmarks -> evaluation -> trainer -> host -> unhype <- nodes, demo beside trainer."""
    files = [p for p in SOURCES if p.relative_to(ROOT).parts[0] == room]
    assert len(files) > 3
    for path in files:
        found = imported(path)
        assert not found & (OURS - BELOW[room] - {room}), path
        assert room in KNOW_COMFYUI or not found & HOST, path
        outside = "." * len(path.relative_to(ROOT).parts)  # of the room
        assert not any(name.startswith(outside) for name in found), path


def test_what_the_demo_bases_take_from_host_stands_alone():
    """Inside the pack no room of ours is at the top, so that the one file that demo/ reaches imports none of them."""
    found = imported(ROOT / "host" / "versions.py")
    assert not found & OURS and not any(name.startswith(".") for name in found)


def test_nodes_import_relatively():
    """And of our rooms only the method; the trainer is imported by nodes/inside.py, for nodes/train.py alone, and when that runs."""
    for path in sorted((ROOT / "nodes").glob("*.py")):
        found = imported(path)
        assert not found & OURS and not found & {f"..{room}" for room in OURS - {"unhype"}}, f"{path}: only relative imports work in a pack"
        text = path.read_text(encoding="utf-8")
        assert ("trainer_module" in text) == (path.name in ("inside.py", "train.py")), path
        assert "trainer_module(" not in re.sub(r"^( {8}|def ).*", "", text, flags=re.M), f"{path}: only when the node runs"


def test_what_the_train_node_takes_is_imported_by_name():
    """nodes/inside.py reads `from host.load import ready` as the pack's own; `import host.load` it would leave alone."""
    for path in SOURCES:
        if path.relative_to(ROOT).parts[0] in ("trainer", "host", "unhype"):
            plain = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Import)]
            assert not [alias for node in plain for alias in node.names if alias.name.split(".")[0] in OURS], path


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_nothing_unsafe_is_published(path):
    assert not imported(path) & {"pickle", "subprocess", "marshal", "shelve", "joblib"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in {"eval", "exec", "torch.load", "torch.jit.load", "os.system", "print"} or (
                name == "print" and path.relative_to(ROOT).parts[0] in {"trainer", "demo"}
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
