"""Where the time of a demo training goes, in seconds of one processor core, so that other work on the machine does not count.

As a script it is one such training, and prints what it found as its last line.
"""

import time

STARTED = time.process_time()

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

CONFIG = "trainer/configs/demo_cat.yaml"
MOST = 60  # seconds of two cores, of which a training keeps little more than one busy


def phases(folder: Path, count: int, keep: Callable[[dict], None], known: dict) -> dict:
    """The seconds of each phase, of the whole, and the verdict of what was trained."""
    if not known:
        command = [sys.executable, __file__, str(folder / "cat.safetensors")]
        known = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        keep(known)
    return known


def measured(out: Path) -> dict:
    """A training without anything cached, by the clock of the processor."""
    import torch

    from host.load import load_backbone
    from host.start import find_comfy, start_comfy
    from trainer import train as training
    from trainer.config import from_mapping
    from trainer.run import phases as clock
    from trainer.settings.strict_yaml import read_yaml

    torch.set_num_threads(1)
    start_comfy(find_comfy(None))
    imported = time.process_time() - STARTED
    clock.time = SimpleNamespace(time=time.process_time)
    for path in out.parent.glob("*.cache"):
        path.unlink()
    config = from_mapping(read_yaml(ROOT / CONFIG) | {"out": str(out)}, CONFIG)
    metrics = training.train(config, load_backbone(config.base), imported=imported, started=STARTED).metrics
    verdict = {name: value for name, value in metrics["verdict"].items() if name != "seconds"}
    return {"config": CONFIG, **metrics["phases"], "whole": round(time.process_time() - STARTED, 1), "judged": verdict}


def missed(found: dict) -> list[str]:
    return [f"{found['whole']} seconds"] * (found["whole"] > MOST) + ["the verdict"] * (not found["judged"]["passed"])


if __name__ == "__main__":
    print(json.dumps(measured(Path(sys.argv[1]))))
