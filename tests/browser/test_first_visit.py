"""A new user's whole way, timed: the registry's archive in a clean ComfyUI, its start, the demo, and an eraser trained on the canvas.

What each step takes goes to out/browser/report.json: seconds of the clock, and of the processors, server and browser together, which
other work of the machine does not lengthen. They are not asserted, since a machine that runs other tests beside this one is slow.
"""

import os
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import page as pages
import psutil
import pytest
from conftest import OUT
from server import Server


@pytest.fixture
def clean(tmp_path):
    """A ComfyUI folder that holds the archive's files and nothing else."""
    import dev
    from benchmarks.archive import write_archive

    write_archive(tmp_path / "unhype.zip")
    with zipfile.ZipFile(tmp_path / "unhype.zip") as archive:
        archive.extractall(tmp_path / "custom_nodes" / "unhype")
    dev.install_pack(tmp_path)  # the pack is there: only what makes torchvision importable here
    return tmp_path


def used() -> float:
    """Seconds of the processors that this process and all that it started have used."""
    total = 0.0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def test_from_the_start_to_a_picture_that_lacks_what_was_trained_away(chromium, clean, report):
    at = time.time(), used()

    def done(step: str) -> None:
        nonlocal at
        before, at = at, (time.time(), used())
        report["first_visit"][step] = {name: round(b - a, 1) for name, a, b in zip(("seconds", "processor"), before, at)}

    with Server(Path(os.environ["COMFYUI_PATH"]), clean) as server:
        server.front_end = "own"
        done("ComfyUI starts")
        with pages.opened(chromium, server, "classic", OUT) as page:
            done("the page opens")
            page.template("unhype_demo", "first_templates")
            done("the demo template")
            page.run()
            done("the demo's pictures")
            page.shot("first_demo")
            assert page.pictures() == 2 and page.told()[0].startswith("cat: fired on 1 of 1 prompt")
            page.template("unhype_train", "first_templates_again")
            done("the training's template")
            page.shot("first_training")
            page.run()
            done("an eraser and its pictures")
            page.shot("first_trained")
            page.node_shot("UnHypeTrain", "train")
            (verdict,) = page.told("UnHypeTrain")
            assert verdict.startswith("passed") and page.told()[0].startswith("pizza: fired on") and not page.faults
