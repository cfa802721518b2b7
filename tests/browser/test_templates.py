"""Every template opens in the page, and those that need nothing run to pictures."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "workflows"
TEMPLATES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def types(saved) -> list[str]:
    return [node["type"] for node in saved["nodes"]]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_opens_and_runs(page, report, name):
    saved = TEMPLATES[name]
    runs = "UnHypeDemoModel" in types(saved)
    page.template(name)
    opened = page.page.evaluate("() => app.graph.nodes.map(n => n.type)")
    row = {"name": name, "frontend": page.server.front_end, "nodes": page.looks, "opened": sorted(opened) == sorted(types(saved))}
    row |= {"ran": False, "seconds": None}
    report["templates"].append(row)
    assert row["opened"] and not page.faults
    if runs:
        row["seconds"] = round(page.run(), 1)
        row["ran"] = page.pictures() >= max(1, types(saved).count("SaveImage") + types(saved).count("PreviewImage"))
        assert row["ran"] and len(page.told()) == types(saved).count("UnHypeEraser")
    page.shot(name)
