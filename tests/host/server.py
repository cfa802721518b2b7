"""A ComfyUI server with the pack installed, on a port of this machine, and a client for it."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path


class Server:
    """Runs as a context manager; everything it writes goes below `base`."""

    def __init__(self, comfyui: Path, base: Path, front_end: str | None = None):
        """front_end: folder of another front end than the one that is installed."""
        self.comfyui, self.base, self.options = comfyui, base, ["--front-end-root", front_end] if front_end else []
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]

    def __enter__(self):
        self.log = open(self.base / "server.log", "w")
        extra = self.base / "extra_model_paths.yaml"
        extra.write_text(f"mine:\n  base_path: {self.base}\n  unhype: elsewhere/unhype\n")
        self.process = subprocess.Popen(
            [
                sys.executable,
                self.comfyui / "main.py",
                "--cpu",
                "--listen",
                "127.0.0.1",
                "--port",
                str(self.port),
                "--base-directory",
                self.base,
                "--database-url",
                f"sqlite:///{(self.base / 'comfyui.db').as_posix()}",
                "--extra-model-paths-config",
                extra,
                "--disable-api-nodes",
                "--disable-auto-launch",
                "--deterministic",
                *self.options,
            ],
            stdout=self.log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        )
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                self.get("/system_stats")
                return self
            except OSError:
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError("the server did not start:\n" + (self.base / "server.log").read_text()[-3000:])

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
        self.log.close()

    def get(self, path: str):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as reply:
            return json.load(reply)

    def post(self, path: str, value):
        """(status, reply) of a POST."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(value).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                text = reply.read()
                return reply.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def queue(self, prompt: dict) -> str:
        status, reply = self.post("/prompt", {"prompt": prompt, "client_id": uuid.uuid4().hex})
        assert status == 200, reply
        return reply["prompt_id"]

    def finish(self, prompt_id: str, seconds: float = 120) -> dict:
        """The history entry of a queued prompt once it has ended."""
        for _ in range(int(seconds * 10)):
            history = self.get(f"/history/{prompt_id}")
            if prompt_id in history and history[prompt_id]["status"]["status_str"] in ("success", "error"):
                return history[prompt_id]
            time.sleep(0.1)
        raise TimeoutError((self.base / "server.log").read_text()[-3000:])

    def images(self, prompt: dict) -> dict[str, list[Path]]:
        """Run a prompt; the files that each output node wrote."""
        entry = self.finish(self.queue(prompt))
        assert entry["status"]["status_str"] == "success", entry["status"]
        return {
            node: [self.base / i["type"] / i["subfolder"] / i["filename"] for i in out["images"]]
            for node, out in entry["outputs"].items()
            if "images" in out
        }


def as_prompt(workflow: dict, object_info: dict) -> dict:
    """A saved workflow as the page would post it: links by node, widgets by name in the schema's order."""
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] in ("Note", "MarkdownNote"):
            continue
        linked = {i["name"]: links[i["link"]] for i in node.get("inputs", []) if i.get("link") is not None}
        values, inputs = list(node.get("widgets_values", [])), {}
        info = object_info[node["type"]]["input"]
        for name, spec in {**info.get("required", {}), **info.get("optional", {})}.items():
            kind, options = spec[0], spec[1] if len(spec) > 1 else {}
            if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"):
                inputs[name] = values.pop(0) if values else options.get("default")  # saved before the widget was there
                if options.get("control_after_generate"):
                    values.pop(0)
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs | linked}
    return prompt
