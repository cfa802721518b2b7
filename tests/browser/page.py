"""ComfyUI's page as a person uses it: open a template, change a widget, press Run, read what is shown."""

import json
import time
import urllib.request
from pathlib import Path

START, RUN, SHOWN = 90_000, 600.0, 30_000  # milliseconds until the page is there; seconds of a run; milliseconds until something is seen
# What a first visit would show over the page.
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False}


class Page:
    def __init__(self, page, server, looks: str, out: Path):
        self.page, self.server, self.looks, self.out = page, server, looks, out
        self.faults: list[str] = []
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        settings = json.dumps(SETTINGS | {"Comfy.VueNodes.Enabled": looks == "vue"}).encode()
        address = f"http://127.0.0.1:{server.port}"
        urllib.request.urlopen(urllib.request.Request(f"{address}/settings", settings, {"Content-Type": "application/json"}))
        page.goto(address)
        page.wait_for_function("window.app?.graph && window.app.extensionManager && window.app.vueAppReady !== false", timeout=START)
        page.get_by_role("button", name="Run").first.wait_for(timeout=START)

    def template(self, name: str) -> None:
        """Open a template of the pack's through the template browser."""
        self.page.get_by_text("Templates", exact=True).first.click()
        self.page.get_by_text(name, exact=True).first.click()
        self.page.wait_for_function("window.app.graph.nodes.some(n => n.type.startsWith('UnHype'))", timeout=SHOWN)
        self.page.wait_for_timeout(500)

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

    def run(self) -> float:
        """Press Run with seeds that were not drawn before, and wait for the end, whatever it is; seconds."""
        seed = time.time_ns() % 2**32
        self.page.evaluate(
            """seed => app.graph.nodes.filter(n => n.type === 'KSampler').forEach(
                n => n.widgets.find(w => w.name === 'seed').value = seed)""",
            seed,
        )
        before, started = set(self.server.get("/history")), time.time()
        self.page.get_by_role("button", name="Run").first.click()
        while time.time() - started < RUN:
            history = self.server.get("/history")
            ended = [h for key, h in history.items() if key not in before and h["status"]["status_str"] in ("success", "error")]
            if ended:
                self.page.wait_for_timeout(1000)
                return time.time() - started
            self.page.wait_for_timeout(200)
        raise TimeoutError(f"nothing ended within {RUN:.0f} s; the page says: {self.text()[-500:]}")

    def pictures(self) -> int:
        """How many nodes show a picture."""
        return self.page.evaluate("() => app.graph.nodes.filter(n => (n.imgs?.length || app.nodeOutputs?.[n.id]?.images?.length)).length")

    def told(self) -> list[str]:
        """What every Eraser shows below its widgets."""
        return self.page.evaluate(
            """() => app.graph.nodes.filter(n => n.type === 'UnHypeEraser').flatMap(
                n => n.widgets.filter(w => w.name.includes('text-preview')).map(w => String(w.value)))"""
        )

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
