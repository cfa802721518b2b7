"""A real ComfyUI server in a real browser: its own front end and the newest, with classic nodes and with Nodes 2.0.

Every template is opened in all four; what is run is run in one, or in two that differ in both.
Collected only where `dev.py test` has found a Chromium and set UNHYPE_BROWSER to it, so that a run skips nothing.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path += [str(HERE), str(HERE.parent / "host")]
import parts  # noqa: E402  from this folder

if not os.environ.get("UNHYPE_BROWSER"):
    collect_ignore_glob = ["test_*.py"]

FRONT_ENDS = {"own": None, "newest": os.environ.get("UNHYPE_FRONT_END")}
OUT = ROOT / "out" / "browser"


@pytest.fixture(scope="session")
def report(testrun_uid):
    """What was seen, written to out/browser/report.json at the end, together with what other processes of the same run saw."""
    seen = {"templates": {}, "errors_shown": [], "first_visit": {}}
    yield seen
    seen["templates"] = list(seen["templates"].values())
    parts.put(OUT, testrun_uid, os.environ.get("PYTEST_XDIST_WORKER", "alone"), seen)


@pytest.fixture(scope="module")
def chromium():
    """A browser; for a module only, since Playwright keeps an event loop running and other tests want their own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["UNHYPE_BROWSER"], args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session", params=FRONT_ENDS)
def server(request, tmp_path_factory):
    """A server for each front end, the pack installed."""
    from server import Server

    import dev

    base = tmp_path_factory.mktemp(f"browser_{request.param}")
    dev.install_pack(base)
    with Server(Path(os.environ["COMFYUI_PATH"]), base, FRONT_ENDS[request.param]) as running:
        running.front_end = request.param
        yield running


@pytest.fixture(scope="session", params=["classic", "vue"])
def looks(request):
    return request.param


@pytest.fixture
def page(chromium, server, looks):
    """The page of a new user, opened."""
    from page import opened

    with opened(chromium, server, looks, OUT) as page:
        yield page


@pytest.fixture(scope="module")
def same_page(chromium, server, looks):
    """One page for many tests, for those that only open templates."""
    from page import opened

    with opened(chromium, server, looks, OUT) as page:
        yield page
