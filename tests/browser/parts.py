"""The report of a run whose tests several processes share: each puts its part there and adds up what there is."""

import json
import uuid
from pathlib import Path

Seen = dict[str, list | dict]


def put(out: Path, run: str, worker: str, seen: Seen) -> None:
    """Keep a process's part of a run below `out`, and write report.json from all parts of the run; those of earlier runs go."""
    folder = out / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.json"):
        if not old.name.startswith(f"{run}-"):
            old.unlink(missing_ok=True)
    write(folder / f"{run}-{worker}.json", seen)
    found: list[Path] = []
    while (parts := sorted(folder.glob(f"{run}-*.json"))) != found:  # another process may have come meanwhile
        found = parts
        write(out / "report.json", together([json.loads(part.read_text(encoding="utf-8")) for part in parts]))


def together(parts: list[Seen]) -> Seen:
    """Lists one behind the other, figures by name beside each other."""
    whole: Seen = {}
    for part in parts:
        for name, value in part.items():
            so_far = whole.get(name, type(value)())
            whole[name] = so_far + value if isinstance(value, list) else so_far | value
    return whole


def write(path: Path, what: Seen) -> None:
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.write_text(json.dumps(what, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
