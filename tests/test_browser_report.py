"""The browser's report holds what every process of a run saw."""

import importlib.util
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

spec = importlib.util.spec_from_file_location("parts", Path(__file__).parent / "browser" / "parts.py")
parts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(parts)


def report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text())


def test_a_later_process_adds_to_what_the_first_one_saw(tmp_path):
    parts.put(tmp_path, "run", "gw0", {"templates": [{"name": "a"}], "errors_shown": [], "first_visit": {}})
    assert report(tmp_path) == {"templates": [{"name": "a"}], "errors_shown": [], "first_visit": {}}
    parts.put(tmp_path, "run", "gw1", {"templates": [{"name": "b"}], "errors_shown": [{"case": "c"}], "first_visit": {"start": 1.0}})
    assert report(tmp_path) == {"templates": [{"name": "a"}, {"name": "b"}], "errors_shown": [{"case": "c"}], "first_visit": {"start": 1.0}}


def test_processes_that_end_at_once_lose_nothing(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: parts.put(tmp_path, "run", f"gw{i}", {"templates": [i]}), range(8)))
    assert sorted(report(tmp_path)["templates"]) == list(range(8))


def test_another_run_begins_anew(tmp_path):
    parts.put(tmp_path, "first", "gw0", {"templates": [1]})
    parts.put(tmp_path, "second", "gw0", {"templates": [2]})
    assert report(tmp_path) == {"templates": [2]}
