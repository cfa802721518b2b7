"""The tests of on_card.py, in a process of their own: torch takes a device up before the first gradient, or not at all."""

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_where_the_model_lies_on_a_graphics_card(comfy):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(HERE / "on_card.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COMFYUI_PATH": str(comfy)}, cwd=HERE.parents[1])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
