"""Every template opens in the page, and those that need nothing run to pictures."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}
TRAINS = "unhype_train"


def types(name: str) -> list[str]:
    return [node["type"] for node in TEMPLATES[name]["nodes"]]


def row(report, page, name: str) -> dict:
    """What the report says of a template in a front end with one kind of nodes; `ran` is null where it was only opened."""
    key = name, page.server.front_end, page.looks
    new = dict(zip(("name", "frontend", "nodes"), key)) | {"opened": False, "ran": None, "seconds": None}
    return report["templates"].setdefault(key, new)


def ran(page, name: str) -> bool:
    """Whether all of a template's pictures are there, and every Eraser has said what it did."""
    wanted = types(name).count("SaveImage") + types(name).count("PreviewImage")
    return page.pictures() >= max(1, wanted) and len(page.told()) == types(name).count("UnHypeEraser")


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens(same_page, report, name):
    page, said = same_page, row(report, same_page, name)
    page.template(name)
    said["opened"] = sorted(page.page.evaluate("() => app.graph.nodes.map(n => n.type)")) == sorted(types(name))
    page.shot(name)
    assert said["opened"] and not page.faults


@pytest.mark.parametrize("server, looks", [("own", "classic")], indirect=True)
@pytest.mark.parametrize("name", [name for name in TEMPLATES if "UnHypeDemoModel" in types(name) and name != TRAINS])
def test_a_template_runs(page, report, name):
    said = row(report, page, name)
    page.template(name)
    said["seconds"] = round(page.run(), 1)
    said["ran"] = ran(page, name)
    page.shot(f"{name}_ran")
    assert said["ran"] and not page.faults


@pytest.mark.parametrize("server, looks", [("own", "classic")], indirect=True)
def test_a_training_shows_what_it_does_and_is_cancelled_and_gone_on_with(page, report):
    said = row(report, page, TRAINS)
    page.template(TRAINS)
    before = page.start()
    page.page.wait_for_function("() => Object.values(app.nodePreviewImages ?? {}).some(some => some?.length)", timeout=600_000)
    assert page.previews("UnHypeTrain") and page.told("UnHypeTrain")
    page.shot(f"{TRAINS}_running")
    page.cancel()
    assert "execution_interrupted" in page.wait(before)
    log = page.server.base / "server.log"
    assert "continuing from" not in log.read_text()
    page.run()
    assert "continuing from" in log.read_text()
    said["ran"] = ran(page, TRAINS)
    page.shot(f"{TRAINS}_ran")
    (verdict,) = page.told("UnHypeTrain")
    assert said["ran"] and verdict.startswith("passed") and verdict.endswith("saved as pizza.safetensors")
    assert page.told()[0].startswith("pizza: fired on") and not page.faults
