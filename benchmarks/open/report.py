"""open.json and open.md: every method's row with all its columns, ranks over the columns, and what a cell costs."""

import json
import statistics
from pathlib import Path

from benchmarks.comparison.cells import read
from benchmarks.comparison.report import percent, table
from evaluation.switch_rates import upper

MD, JSON = "open.md", "open.json"
# Column -> (heading, whether more is better). All are ranked but those that only explain.
RANKED = {
    "acc_e": ("name", False),
    "acc_g": ("synonym", False),
    "acc_unseen": ("unseen word", False),
    "acc_compound": ("compound", False),
    "acc_description": ("description", False),
    "acc_long_description": ("long description", False),
    "acc_long": ("60 words", False),
    "acc_s": ("others", True),
    "acc_hard": ("look-alikes", True),
    "wider_kept": ("wider word: others", True),
    "beside2_gone": ("of 2: gone", True),
    "beside2_kept": ("of 2: kept", True),
    "beside3_gone": ("of 3: gone", True),
    "beside3_kept": ("of 3: kept", True),
    "beside4_gone": ("of 4: gone", True),
    "beside4_kept": ("of 4: kept", True),
    "leak": ("colour leak", False),
    "twice": ("neighbour twice", False),
    "background_kept": ("background", True),
    "left_right": ("left, right", True),
    "instead_mapping": ("mapping drawn", True),
    "image0.5": ("image 0.5", False),
    "image0.7": ("image 0.7", False),
    "image1.0": ("image 1.0", False),
}
GROUPS = {
    "Erased": ("acc_e", "acc_g", "acc_unseen", "acc_compound", "acc_description", "acc_long_description", "acc_long", "acc_wider"),
    "Kept": ("acc_s", "acc_hard", "hard_change", "wider_kept", "background_kept", "left_right"),
    "Beside others": tuple(f"beside{n}_{end}" for n in (2, 3, 4) for end in ("gone", "kept")),
    "What is drawn": ("instead_mapping", "instead_other", "instead_nothing", "leak", "twice"),
    "Image to image": ("image0.3", "image0.5", "image0.7", "image1.0"),
    "Together": ("h_o", "h_c", "h_c_share", "train_seconds", "file_mb"),
}
HEADINGS = {
    "acc_wider": "wider word",
    "hard_change": "look-alikes moved",
    "instead_other": "another noun",
    "instead_nothing": "nothing known",
    "image0.3": "image 0.3",
    "h_o": "H_o",
    "h_c": "H_c",
    "h_c_share": "H_c, share of a perfect one's",
    "train_seconds": "training, s",
    "file_mb": "MB",
}
TIE = 0.005  # half a point
LIMITS = (
    "An eraser acts on what the prompt asks for. Image to image at a low denoise keeps the picture that it was given, and latents "
    "inverted from a picture of a concept bring it back without any text (text-free inversion, as in TINA): with no prompt that "
    "means the concept nothing fires and the base draws, as it is meant to. Methods that change the base's weights are not spared "
    "either, TINA reports 79 to 93 %. It was not run here: by design the figure is the base's."
)


def collect(run) -> dict:
    """Rows with the columns that are there, and how many parts are missing."""
    rows, own, seconds, absent = {}, {}, {}, 0
    for path, _ in run.jobs():
        if path in (run.near, run.folder / "base.json") or path.parent.parent.name == "tuning":
            absent += not path.exists()
            continue
        if not path.exists():
            absent += 1
            continue
        part, kind = read(path), path.parent.name
        key = (part["method"], tuple(part["nouns"]))
        seconds.setdefault(kind, []).append(part.pop("seconds"))
        if kind in ("alarms", "safe"):
            own.setdefault(kind, []).append(part)
            continue
        row = rows.setdefault(key, {"n": {}})
        counts = row["n"] | part.pop("n", {})
        row.update(part)
        row["n"] = counts
    for row in rows.values():
        if row.get("h_c") is not None:
            row["h_c_share"] = row["h_c"] / (2 * row["acc_s_base"] / (1 + row["acc_s_base"]))
        row["selective"] = row.get("off_beside_kept")
        row |= {key: None for key in (*RANKED, "acc_hard_base") if key not in row}
    base = read(run.folder / "base.json") if (run.folder / "base.json").exists() else {}
    mean = {kind: {"cells": len(s), "seconds_per_cell": statistics.mean(s)} for kind, s in seconds.items()}
    found = {"base": base, "rows": list(rows.values()), "alarms": own.get("alarms", []), "safe_all": own.get("safe", [])}
    safe = max(found["safe_all"], key=lambda s: s["erased"], default={})
    return found | {"safe": safe, "cost": mean, "missing_parts": absent}


def over(rows: list[dict], method: str, erased: int, key: str) -> float | None:
    """Mean of a method's figure over the rows of so many erased nouns that have it."""
    values = [r[key] for r in rows if (r["method"], r["erased"]) == (method, erased) and r.get(key) is not None]
    return statistics.mean(values) if values else None


def ranks(rows: list[dict], erased: int) -> dict[str, tuple[float, int]]:
    """Of every method its mean rank over the columns that all methods at this number have, 1 the best, and the number of columns.

    Figures within half a point tie: each gets the mean of the places they share.
    """
    methods = list(dict.fromkeys(r["method"] for r in rows if r["erased"] == erased and r.get("acc_e") is not None))
    places: dict[str, list[float]] = {m: [] for m in methods}
    for key, (_, more) in RANKED.items():
        found = {m: over(rows, m, erased, key) for m in methods}
        if any(v is None for v in found.values()):
            continue
        for m, v in found.items():
            better = sum((o - v if more else v - o) > TIE for o in found.values())
            equal = sum(abs(o - v) <= TIE for o in found.values())
            places[m].append(better + (equal + 1) / 2)
    return {m: (statistics.mean(p), len(p)) for m, p in places.items() if p}


def group_table(rows: list[dict], erased: int, keys: tuple[str, ...]) -> str:
    """The methods' figures, in percent but for costs; first the base's own, last how many pictures are behind each."""
    methods = list(dict.fromkeys(r["method"] for r in rows if r["erased"] == erased))
    keys = tuple(k for k in keys if any(over(rows, m, erased, k) is not None for m in methods))
    plain = lambda v: "-" if v is None else f"{v:.2f}"
    show = lambda key, v: plain(v) if key in ("train_seconds", "file_mb") else percent(v)
    lines = [[m, *(show(k, over(rows, m, erased, k)) for k in keys)] for m in methods]
    base = [next((percent(v) for m in methods if (v := over(rows, m, erased, f"{k}_base")) is not None), "-") for k in keys]
    of = [sum(r["n"].get(k, 0) for r in rows if r["erased"] == erased and r["method"] == methods[0]) for k in keys]
    # What 0 of so many may really be; a share in the middle is less sure.
    bounds = [f"0 is at most {percent(upper(0, n))}" if n else "-" for n in of]
    heads = ["method", *(RANKED[k][0] if k in RANKED else HEADINGS[k] for k in keys)]
    return table(heads, [["base", *base], *lines, ["pictures", *(str(n or "-") for n in of)], ["95 %", *bounds]])


def page(report: dict) -> str:
    """open.md."""
    base, rows = report["base"], report["rows"]
    text = [f"# Erasers compared on {base.get('name', 'the base')}\n\nMade by `{report['command']}`. Figures in percent.\n"]
    if report["missing_parts"]:
        text.append(f"**Not finished: {report['missing_parts']} parts are missing.** The same command goes on.\n")
    shown = ("single_top1", "description_top1", "unseen_words_top1", "pair_both_top1")
    text.append(
        f"The base draws {base.get('nouns', '-')} nouns: "
        + ", ".join(f"{k.removesuffix('_top1').replace('_', ' ')} {percent(base.get(k))}" for k in shown)
        + ".\n"
    )
    for erased in sorted({r["erased"] for r in rows if "erased" in r}):
        text.append(f"## {erased} erased\n")
        found = sorted(ranks(rows, erased).items(), key=lambda item: item[1][0])
        if len(found) > 1:
            text.append(table(["method", "mean rank", "columns"], [[m, f"{rank:.2f}", n] for m, (rank, n) in found]))
        for title, keys in GROUPS.items():
            if any(over(rows, r["method"], erased, k) is not None for r in rows for k in keys):
                text.append(f"### {title}\n\n" + group_table(rows, erased, keys))
        if chosen := [r for r in rows if r["erased"] == erased and r.get("off_kept") is not None]:
            keys = ("off_kept", "off_kept_base", "off_beside_kept", "on_gone", "both_gone")
            text.append("### Every other concept switched off by name\n\n" + table(
                ["off, alone", "base's", "off, beside one that is on", "the one that is on, gone", "both on: both gone"],
                [[percent(r.get(k)) for k in keys] for r in chosen],
            ))  # fmt: skip
    for part in report["safe_all"]:
        same = f"{percent(part['bit_identical'])} % of {part['prompts']} safe pictures are bit-identical"
        text.append(f"With {part['erased']} erased {same}.\n")
    if report["alarms"]:
        keys = ("alarms", "alarm_kept", "alarm_change", "forced_kept", "forced_change")
        lines = [[a["erased"], *(percent(a.get(k)) for k in keys)] for a in report["alarms"]]
        head = ["erased", "safe prompts that fire", "noun stays", "picture moves", "forced on: noun stays", "picture moves"]
        text.append("## What a false alarm costs\n\n" + table(head, lines))
    text.append(f"## Limits\n\n{LIMITS}\n")
    cost = [[kind, c["cells"], f"{c['seconds_per_cell']:.0f}"] for kind, c in report["cost"].items()]
    text.append("## What a cell costs\n\n" + table(["part", "cells", "processor seconds each"], cost))
    return "\n".join(text)


def write(run, folder: Path) -> dict:
    """Write open.json and open.md from the parts that are there."""
    report = collect(run) | {"command": " ".join(["python dev.py bench --open", run.extent.option]).strip()}
    (folder / MD).write_text(page(report), encoding="utf-8")
    (folder / JSON).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{folder / MD}: {len(report['rows'])} rows, {report['missing_parts']} parts missing")
    return report
