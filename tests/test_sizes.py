"""What a user gets: the registry's archive runs alone and holds nothing of the tests; clones do not grow unseen."""

import ast
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import archive as registry
from benchmarks import sizes

ROOT = Path(__file__).resolve().parents[1]
LARGE = {  # everything above a megabyte; another one makes every clone larger for ever
    "benchmarks/cifar10/cifar10-sd.safetensors",
    "benchmarks/cifar10/judge.safetensors",
    "benchmarks/open/emoji-open.safetensors",
    "benchmarks/open/judge.safetensors",
    "demo/emoji-flux.safetensors",
    "demo/emoji-sd.safetensors",
    "demo/judge.safetensors",
    "tests/files/demo_cat_format_1.safetensors",
}
USE = """
import asyncio, importlib.util, sys
from pathlib import Path

pack = Path(sys.argv[1])
sys.path.insert(0, str(pack))
from host.start import find_comfy, start_comfy

start_comfy(find_comfy(None))
import nodes
import torch

spec = importlib.util.spec_from_file_location("archived", pack / "__init__.py", submodule_search_locations=[str(pack)])
module = importlib.util.module_from_spec(spec)
sys.modules["archived"] = module
spec.loader.exec_module(module)

async def all_nodes():
    return await (await module.comfy_entrypoint()).get_node_list()

ours = {node.define_schema().node_id: node for node in asyncio.run(all_nodes())}
with torch.inference_mode():
    for base, file in (("emoji-sd", "demo_cat.safetensors"), ("emoji-flux", "demo_flux_cat.safetensors")):
        model = ours["UnHypeDemoModel"].execute(base).result[0]
        eraser = ours["UnHypeLoader"].execute(file).result[0]
        assert ours["UnHypeEraser"].execute(model, eraser, 1.0).result[0] is not model

import trainer.train, trainer.data, trainer.previews
assert trainer.train.main(["--config", str(pack / "trainer/configs/demo_cat.yaml"), "--dry-run"]) == 0
own = ("unhype", "host", "trainer", "demo", "archived")
for name, m in sys.modules.items():
    if name.split(".")[0] in own and getattr(m, "__file__", None):
        assert Path(m.__file__).is_relative_to(pack), name
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("registry") / "archive.zip"
    sizes.write_archive(path)
    return path


def test_the_archive_runs_alone(comfy, archive):
    """Nodes, demo models and trainer, of nothing but what it holds."""
    pack = archive.parent / "custom_nodes" / "unhype"
    with zipfile.ZipFile(archive) as file:
        file.extractall(pack)
    environment = {**os.environ, "COMFYUI_PATH": str(comfy), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", USE, str(pack)]
    done = subprocess.run(command, cwd=archive.parent, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "hypernetwork" in done.stdout


def test_the_archive_holds_what_a_user_sees_and_nothing_of_the_tests():
    held = sizes.published()
    assert not [name for name in held if name.split("/")[0] in {"tests", "benchmarks", "evaluation", "dev.py", ".ci"} or "make_" in name]
    tracked = sizes.git("ls-files", "workflows", "web", "docs", "trainer", "nodes", "unhype", "host").splitlines()
    assert set(tracked) <= set(held) and {"README.md", "LICENSE", "pyproject.toml", "demo/grid.png"} <= set(held)


PROJECT = {
    "project": {"version": "1.2.0", "urls": {"Repository": "there"}},
    "tool": {"comfy": dict.fromkeys(("PublisherId", "Icon", "Banner"), "x")},
}


def test_a_publishing_is_refused_until_the_owner_has_filled_what_only_he_can():
    assert registry.missing(PROJECT, "## 1.2.0\n") == []
    (line,) = registry.missing(PROJECT | {"project": {"version": "1.2.0"}}, "## 1.2.0\n")
    assert line.startswith("[project.urls] Repository is empty")
    (line,) = registry.missing(PROJECT, "## 1.1.0\n")
    assert "no section '1.2.0'" in line
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / "archive.py", "--ready"], capture_output=True, text=True)
    assert done.returncode == 1 and "Repository is empty" in done.stderr and "CHANGELOG" not in done.stderr


def test_nothing_that_runs_code_is_in_the_archive(archive):
    """Read from the archive itself, whatever it is made of."""
    with zipfile.ZipFile(archive) as file:
        assert archive.stat().st_size < registry.LARGEST * 1e6
        for name in file.namelist():
            if name.endswith(".py"):
                tree = ast.parse(file.read(name).decode())
                called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
                assert not called & {"eval", "exec", "os.system", "os.popen", "torch.load"}, name
                found = {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
                found |= {(n.module or "").split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and not n.level}
                assert not found & {"pickle", "subprocess", "pip", "marshal"}, name


def imports(name: str) -> set[str]:
    """What a file imports of this repository, as paths without an ending."""
    parts, found = name.split("/")[:-1], set()
    for node in ast.walk(ast.parse((ROOT / name).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.replace(".", "/") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = [*parts[: len(parts) - node.level + 1]] if node.level else []
            module = [*start, *(node.module or "").split(".")]
            found |= {"/".join(filter(None, [*module, alias.name])) for alias in node.names}
            found.add("/".join(filter(None, module)))
    return {path for path in found if (ROOT / f"{path}.py").is_file() or (ROOT / path / "__init__.py").is_file()}


def test_the_archive_holds_all_that_it_imports():
    held = {name.removesuffix(".py").removesuffix("/__init__") for name in sizes.published() if name.endswith(".py")}
    wanted = {path for name in sizes.published() if name.endswith(".py") for path in imports(name)}
    assert {"unhype/checkpoint", "host/start", "trainer/data", "demo/base"} <= wanted
    assert not wanted - held


def test_the_sizes_that_are_said_are_those_of_today(archive):
    said = json.loads(sizes.RESULT.read_text(encoding="utf-8"))
    now = sizes.megabytes(archive)
    assert abs(now - said["archive"]["download_mb"]) < 0.03 * now, "measure anew with: python benchmarks/sizes.py"
    kinds = [said[kind]["download_mb"] for kind in ("archive", "sparse_clone", "shallow_clone", "clone")]
    assert kinds == sorted(kinds)


def test_no_large_file_joins_the_clone():
    found = {name for name in sizes.git("ls-files").splitlines() if (ROOT / name).is_file() and (ROOT / name).stat().st_size > 1e6}
    assert found == LARGE


def test_a_smaller_clone_has_every_folder_that_is_published():
    folders = {name.split("/")[0] for name in sizes.published() if "/" in name}
    assert folders == set(sizes.FOLDERS.split())
    assert f"sparse-checkout set {sizes.FOLDERS}\n" in (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
