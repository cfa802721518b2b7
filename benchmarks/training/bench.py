"""What a training survives, where its time goes, what a second process brings, and how soon it erases.

    python dev.py bench --train                    everything, for hours; out/bench/train.json
    python dev.py bench --train kills phases       some of its sections: kills, fuzz, phases, ddp, schedules
    python dev.py bench --train kills --count 8    fewer kills, hostile files, runs, or seeds

A section that was stopped goes on where it was, and one that is done is left as it is, unless its files in out/bench/train are
deleted. Exit code 1 where a bar is missed.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.pages import wrote
from host.start import find_comfy, start_comfy

OUT = ROOT / "out/bench"
COUNT = {"kills": 200, "fuzz": 20_000, "phases": 1, "ddp": 3, "schedules": 5}  # section -> how many of what it counts


def report_with(section: str, found: dict, path: Path) -> None:
    """Put a section into the report, whose others stay as they are."""
    report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    report = {**report, section: found, "command": "python dev.py bench --train"}
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"of {', '.join(COUNT)} (default: all)")
    parser.add_argument("--count", type=int, help="kills, hostile files, runs, seeds")
    parser.add_argument("--comfyui")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - COUNT.keys():
        parser.error(f"unknown section {', '.join(unknown)}: expected {', '.join(COUNT)}")
    start_comfy(find_comfy(arguments.comfyui))
    missed = []
    for section in arguments.sections or COUNT:
        folder = OUT / "train" / section
        folder.mkdir(parents=True, exist_ok=True)
        state = folder / "done.json"
        keep = lambda found, state=state: state.write_text(json.dumps(found, indent=1), encoding="utf-8")
        known = json.loads(state.read_text(encoding="utf-8")) if state.exists() else {}
        module = importlib.import_module(f"benchmarks.training.{section}")
        found = getattr(module, section)(folder, arguments.count or COUNT[section], keep, known)
        report_with(section, found, OUT / "train.json")
        missed += [f"{section}: {line}" for line in module.missed(found)]
    wrote(OUT / "train.json")
    for line in missed:
        print(f"MISSED {line}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
