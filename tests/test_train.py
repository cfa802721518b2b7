"""The trainer as people run it: a process of its own, from another folder, stopped and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from trainer.prompts.words import MAPPINGS
from trainer.run.beside import lock_path, log_path, state_path
from trainer.train import MISSED
from unhype.checkpoint import load_eraser
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.layers import Layer

ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "--pictures",
    "4",
    "--sampling-steps",
    "4",
    "--kept-steps",
    "2",
    "--iterations",
    "8",
    "--learning-rate",
    "3e-4",
    "--batch",
    "4",
    "--retain-batch",
    "32",
    "--rank",
    "2",
    "--hidden",
    "16",
    "--save-every",
    "2",
    "--autocast",
    "none",
)
NO_BARS = ("--least-erased", "0", "--most-misses", "1", "--most-false-alarms", "1")  # eight steps erase little


FEW = "tests/files/train_few.py"  # where trainings are compared, what is read and fitted beside is none of these tests' business


def command(out, *extra, script=FEW):
    return [
        sys.executable,
        str(ROOT / script),
        "--config",
        str(ROOT / "trainer/configs/demo_cat.yaml"),
        "--out",
        str(out),
        *SMALL,
        *extra,
    ]


def run(folder, *arguments, script=FEW):
    return subprocess.run(command(*arguments, script=script), cwd=folder, capture_output=True, text=True, timeout=300)


def wait_for(process, path) -> None:
    while not path.exists() and process.poll() is None:
        time.sleep(0.05)


def iterations(out) -> list[dict]:
    return [line for text in log_path(out).read_text().splitlines() if "iteration" in (line := json.loads(text))]


@pytest.fixture(scope="module")
def whole(comfy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = run(folder, folder / "eraser.safetensors", "--preview-every", "4", "--least-erased", "0.99")
    assert done.returncode == MISSED, done.stderr
    (folder / "said.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_a_training_that_misses_a_bar_ends_with_its_own_exit_code(whole):
    """Its file is kept, and log, file and last lines say what it misses and what to do."""
    lines = (whole / "said.txt").read_text(encoding="utf-8").splitlines()
    *_, said, last, spent, where = lines
    assert not any("warning" in line for line in lines)  # the demo's settings give no cause
    assert last == "verdict: FAILED, 1 bar missed: do not rely on this eraser"
    assert spent.startswith("where the time went: ") and "move eraser.safetensors to" in where
    assert said.startswith("  FAILED 'cat':") and "at least 99% is expected. Train longer (iterations)" in said
    verdict = load_eraser(whole / "eraser.safetensors").metrics["verdict"]
    assert not verdict["passed"] and verdict["concepts"]["cat"]["erased"] < 0.99 and verdict["left_alone"] == 1
    assert json.loads((whole / "eraser.jsonl").read_text().splitlines()[-1])["verdict"] == verdict


def test_by_products_end_in_nothing_that_comfyui_lists(whole):
    listed = {p.name for p in whole.iterdir() if p.name != "said.txt"}
    assert listed == {
        "eraser.safetensors",
        "eraser.jsonl",
        "eraser.html",
        "eraser.previews",
        "eraser.cache",
        "eraser.state",
        "eraser.state.old",
        "written-text.cache",
    }


def test_writes_eraser_log_previews_and_state(whole):
    eraser = load_eraser(whole / "eraser.safetensors")
    assert [(c.name, c.mapping) for c in eraser.concepts] == [("cat", "forest")]
    assert eraser.training["iterations"] == 8 and eraser.metrics["train_seconds"] > 0
    assert len(eraser.onset) == 9  # how late a strength begins
    assert eraser.base["name"] == "demo" and len(eraser.base["sketch"]) == 4 * len(eraser.network.shape.layers)
    *lines, _ = [json.loads(line) for line in (whole / "eraser.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(1, 9)) and {"loss", "task", "retain", "seconds"} <= lines[0].keys()
    assert [p.name for p in sorted((whole / "eraser.previews").iterdir())] == ["000004.png", "000008.png"]


def test_its_page_shows_curves_pictures_health_and_verdict(whole):
    page = (whole / "eraser.html").read_text(encoding="utf-8")
    for words in (
        "cat \N{RIGHTWARDS ARROW} forest",
        "FAILED: do not rely",
        "Train longer",
        "What is still missing",
        "At step 8,",
        "a step changes",
    ):
        assert words.lower() in page.lower(), words
    assert page.count("data:image/jpeg;base64,") == 24 and page.count('class="curve"') == 4 and "'cat'" in page.replace("&#x27;", "'")


def test_what_reads_the_prompt_learns_slower_than_the_heads():
    from trainer.config import Config
    from trainer.optimizer import READERS_RATE, new_optimizer

    network = Hypernetwork(Shape((Layer("a", 8, 8),), 2, 10, 16, 2, 12, 12, 2))
    network.switch.requires_grad_(False)
    fast, slow = new_optimizer(network, Config()).param_groups
    names = {id(p): name for name, p in network.named_parameters()}
    assert (fast["share"], slow["share"]) == (1.0, READERS_RATE)
    assert {names[id(p)].split(".")[0] for p in slow["params"]} == {"trunk", "summary", "concept"}
    assert {names[id(p)].split(".")[0] for p in fast["params"]} == {"heads", "base_down"}


def test_stopped_and_resumed_is_bit_equal(whole, tmp_path):
    out = tmp_path / "eraser.safetensors"
    process = subprocess.Popen(
        command(out, "--preview-every", "0"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    state = state_path(out)
    wait_for(process, state)
    process.send_signal(signal.SIGINT)
    text, _ = process.communicate(timeout=120)
    assert process.returncode == 130 and "continue with --resume" in text, text
    assert not out.exists() and state.exists()
    before = iterations(out)[-1]["seconds"]
    resumed = run(tmp_path, out, "--preview-every", "0", "--resume", *NO_BARS)
    assert resumed.returncode == 0, resumed.stderr
    assert [line["iteration"] for line in iterations(out)] == list(range(1, 9))
    assert load_eraser(out).metrics["train_seconds"] > before + 1  # of both sessions
    expected, found = load_file(whole / "eraser.safetensors"), load_file(out)
    assert expected.keys() == found.keys() and all((expected[k] == found[k]).all() for k in expected)


def test_killed_without_warning_is_resumable(whole, tmp_path):
    out = tmp_path / "eraser.safetensors"
    process = subprocess.Popen(command(out, "--preview-every", "0"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(process, lock_path(out))
    process.send_signal(signal.SIGSTOP)  # it is still at work, however long the second one takes
    second = run(tmp_path, out, "--preview-every", "0")
    process.send_signal(signal.SIGCONT)
    wait_for(process, state_path(out))
    process.kill()
    process.wait()
    assert second.returncode == 1 and "another run" in second.stderr.splitlines()[-1] and str(out) in second.stderr
    with open(log_path(out), "a", encoding="utf-8") as log:  # what a killed run wrote beyond its last state, the last line half
        log.write('{"iteration": 7, "loss": 9, "seconds": 1}\n{"iterat')
    half = out.with_name(f".{out.name}.123.tmp")
    half.write_bytes(b"half")
    resumed = run(tmp_path, out, "--preview-every", "0", "--resume", *NO_BARS)
    assert resumed.returncode == 0, resumed.stderr
    assert [line["iteration"] for line in iterations(out)] == list(range(1, 9)) and not half.exists()
    expected, found = load_file(whole / "eraser.safetensors"), load_file(out)
    assert all((expected[k] == found[k]).all() for k in expected)


def from_the_command_line(folder, *extra):
    """An eraser trained on the demo base without a file of settings."""
    sizes = ("--size", "64x64", "--pair-size", "128x64", "--preview-every", "0", "--learning-rate", "0.0005")
    arguments = [
        sys.executable,
        str(ROOT / "trainer/train.py"),
        "--base",
        "demo",
        "--out",
        "new/cat.safetensors",
        *SMALL,
        *sizes,
        *NO_BARS,
        *extra,
    ]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return load_eraser(folder / "new/cat.safetensors"), done.stdout + done.stderr


def test_command_line_alone_and_the_papers_objective(comfy, tmp_path):
    extra = ("--erase", "cat -> forest", "--objective", "trajectory", "--retain", "dog", "pizza", "house", "--neighbours", "0")
    eraser, _ = from_the_command_line(tmp_path, *extra)
    assert eraser.training["objective"] == "trajectory" and eraser.training["retain"] == ["dog", "pizza", "house"]


def test_several_concepts_suggested_mappings_neighbours_and_the_authors_objective(comfy, tmp_path):
    extra = ("--erase", "lion, kitty -> ?animal", "dog", "--objective", "authors", "--retain", "pizza", "house", "--neighbours", "2")
    eraser, said = from_the_command_line(tmp_path, *extra, "--templates", "a {}", "a {} on blue", "a photo of a {}", "a {} and a {other}")
    (lion, dog), retain = eraser.concepts, eraser.training["retain"]
    assert (lion.name, dog.name) == ("lion", "dog") and lion.mapping in MAPPINGS["animal"] and dog.mapping in MAPPINGS["object"]
    assert eraser.training["erase"] == [f"lion, kitty -> {lion.mapping}", f"dog, hound, puppy -> {dog.mapping}"]
    assert retain[:2] == ["pizza", "house"] and 2 <= len(retain[2:]) <= 4
    assert "warning: 'lion': the text encoder seems hardly to know it" in said and "warning: 'dog'" not in said
    assert f"'dog' is mapped to {dog.mapping!r}" in said and f"near neighbours to retain: {', '.join(retain[2:])}" in said


@pytest.mark.parametrize(
    "arguments, text",
    [
        (("--erase", "cat -> "), "target and a mapping concept"),
        (("--erase", "cat -> ?planet"), "?object, ?animal"),
        (("--remove", "cat"), "add_to"),
        (("--add-to", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--retain-prompts", "a cat"), "take it out, or take the target out of erase"),
        (("--base", "nowhere.safetensors"), "no such file"),
        (("--resume",), "start without --resume"),
    ],
)
def test_bad_input_is_one_line_that_says_what_to_do(comfy, tmp_path, arguments, text):
    done = run(tmp_path, tmp_path / "x.safetensors", *arguments, script="trainer/train.py")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and text in done.stderr


@pytest.mark.parametrize("code", ["ascii", "cp1252"])
def test_a_console_without_the_concepts_letters_still_gets_the_message(tmp_path, code):
    environment = {**os.environ, "PYTHONIOENCODING": code}
    arguments = command(tmp_path / "x.safetensors", "--erase", "\N{CAT FACE} -> ?\N{DOG FACE}")
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding=code, timeout=60)
    assert done.returncode == 1 and "Traceback" not in done.stderr and r"\U0001f431" in done.stderr.splitlines()[-1]


def test_comfyui_that_is_not_there(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "COMFYUI_PATH"}
    done = subprocess.run(command(tmp_path / "x.safetensors"), cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "--comfyui" in done.stderr
