"""ComfyUI's page as a person uses it: open a template, change a widget, press Run, read what is shown."""

import json
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START, RUN, SHOWN = 300_000, 900.0, 120_000  # milliseconds until the page is there; seconds of a run; milliseconds until something is seen
# What a first visit would show over the page.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False}


class Page:
    def __init__(self, page, server, looks: str, out: Path, locale: str = "en"):
        self.page, self.server, self.looks, self.out = page, server, looks, out
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        settings = json.dumps(SETTINGS | {"Comfy.VueNodes.Enabled": looks == "vue", "Comfy.Locale": locale}).encode()
        address = f"http://127.0.0.1:{server.port}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/settings", settings, {"Content-Type": "application/json"}))
        page.goto(address, timeout=START)
        page.wait_for_function("window.app?.graph && window.app.extensionManager && window.app.vueAppReady !== false", timeout=START)
        if locale == "en":
            page.get_by_role("button", name="Run").first.wait_for(timeout=START)

    def template(self, name: str, shot: str = "") -> None:
        """Open a template of the pack's through the template browser, of which a picture is taken."""
        self.page.get_by_text("Templates", exact=True).first.click()
        found = self.page.get_by_text(name, exact=True).first
        if shot:
            found.scroll_into_view_if_needed()
            self.page.wait_for_timeout(1000)
            self.shot(shot)
        found.click()
        self.page.wait_for_function("window.app.graph.nodes.some(n => n.type.startsWith('UnHype'))", timeout=SHOWN)
        self.page.wait_for_timeout(500)

    def load(self, saved: dict) -> None:
        """Open a workflow whatever the page's language."""
        self.page.evaluate("saved => app.loadGraphData(saved)", saved)

    def set(self, node: str, widget: str, value) -> None:
        """Give a widget of every node of a type a value, as typing into it would."""
        self.page.evaluate(
            """([type, name, value]) => {
                for (const node of app.graph.nodes.filter(n => n.type === type)) {
                    const widget = node.widgets.find(w => w.name === name)
                    widget.value = value
                    widget.callback?.(value, app.canvas, node)
                }
            }""",
            [node, widget, value],
        )

    def start(self) -> list[str]:
        """Press Run with seeds that were not drawn before; the runs that ended before."""
        seed = time.time_ns() % 2**32
        self.page.evaluate(
            """seed => app.graph.nodes.filter(n => n.type === 'KSampler').forEach(
                n => n.widgets.find(w => w.name === 'seed').value = seed)""",
            seed,
        )
        before = list(self.server.get("/history"))
        self.page.get_by_role("button", name="Run").first.click()
        return before

    def wait(self, before: list[str]) -> str:
        """Wait for the end of the run that was started, whatever it is: its status and messages."""
        started = time.time()
        while time.time() - started < RUN:
            history = self.server.get("/history")
            ended = [h for key, h in history.items() if key not in before and h["status"]["status_str"] in ("success", "error")]
            if ended:
                self.page.wait_for_timeout(1000)
                return json.dumps(ended[0]["status"])
            self.page.wait_for_timeout(200)
        raise TimeoutError(f"nothing ended within {RUN:.0f} s; the page says: {self.text()[-500:]}")

    def run(self) -> float:
        """Press Run and wait for the end, whatever it is; seconds."""
        started = time.time()
        self.wait(self.start())
        return time.time() - started

    def cancel(self) -> None:
        """Press the button that stops the run at hand."""
        self.page.get_by_role("button", name="Cancel current run").first.click()

    def previews(self, node: str) -> int:
        """How many pictures the nodes of a type show while they run."""
        return self.page.evaluate(
            """type => app.graph.nodes.filter(n => n.type === type).reduce(
                (sum, n) => sum + (app.nodePreviewImages?.[n.id]?.length ?? 0), 0)""",
            node,
        )

    def pictures(self) -> int:
        """How many nodes show a picture."""
        return self.page.evaluate("() => app.graph.nodes.filter(n => (n.imgs?.length || app.nodeOutputs?.[n.id]?.images?.length)).length")

    def told(self, node: str = "UnHypeEraser") -> list[str]:
        """What every node of a type shows below its widgets."""
        return self.page.evaluate(
            """type => app.graph.nodes.filter(n => n.type === type).flatMap(
                n => n.widgets.filter(w => w.name.includes('text-preview')).map(w => String(w.value)))""",
            node,
        )

    def help(self) -> None:
        """Open the help page of the selected node."""
        self.page.locator("[data-testid=info-button], .help-button, button:has(.icon-\\[lucide--info\\])").first.click()

    def error(self) -> str:
        """The text of the error that is shown, opened as a person would."""
        details = self.page.get_by_text("View details")
        dialog = self.page.locator("[role=dialog]").filter(has_text="Report")
        details.or_(dialog).first.wait_for(timeout=SHOWN)
        if details.count():
            details.first.click()
            self.page.get_by_text("Exception Message").first.wait_for(timeout=SHOWN)
            lines = [line for line in self.text().splitlines() if "Exception Message" in line]
            return lines[0].partition("Error:")[2].strip()
        return dialog.first.inner_text()

    def text(self) -> str:
        return self.page.inner_text("body")

    def shot(self, name: str) -> Path:
        """A picture of the page, below out/browser."""
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"{name}_{self.server.front_end}_{self.looks}.png"
        self.page.screenshot(path=path)
        return path

    def node_shot(self, node: str, name: str) -> Path:
        """A picture of the first node of a type in its full size, below out/browser."""
        box = self.page.evaluate(
            """type => {
                const node = app.graph.nodes.find(n => n.type === type), ds = app.canvas.ds
                ds.scale = 1
                app.canvas.centerOnNode(node)
                app.canvas.setDirty(true, true)
                const at = app.canvas.canvas.getBoundingClientRect(), title = LiteGraph.NODE_TITLE_HEIGHT
                return {x: at.x + node.pos[0] + ds.offset[0] - 12, y: at.y + node.pos[1] + ds.offset[1] - title - 28,
                        width: node.size[0] + 24, height: node.size[1] + title + 40}
            }""",
            node,
        )
        self.page.wait_for_timeout(1000)
        self.out.mkdir(parents=True, exist_ok=True)
        path = self.out / f"node_{name}_{self.server.front_end}_{self.looks}.png"
        self.page.screenshot(path=path, clip=box)
        return path


@contextmanager
def opened(chromium, server, looks: str, out: Path, locale: str = "en") -> Iterator[Page]:
    """The page of a new user."""
    context = chromium.new_context(viewport={"width": 1700, "height": 1000})
    yield Page(context.new_page(), server, looks, out, locale)
    context.close()
