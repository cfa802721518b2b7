"""The report of a bench run: report.json with the keys that other tools read, and report.md with tables, plots and pictures."""

import json
import platform
import statistics
from pathlib import Path

import torch

from . import recipes
from .cells import read
from .settings import TRIALS

MD = "report.md"
RIVALS = [m for m in recipes.METHODS if m not in ("unhype", *recipes.VARIANTS)]
TIE = 0.0005  # of H_o


def percent(x: float | None) -> str:
    return "-" if x is None else f"{100 * x:.1f}"


def best(trials: list[dict]) -> dict:
    """The trial of the highest H_o, of those that tie the one with the highest of mean probabilities, and of these the first."""
    for key in ("h_o", "h_o_probability"):
        most = max(t[key] for t in trials)
        trials = [t for t in trials if t[key] >= most - TIE]
    return trials[0]


def collect(bench) -> dict:
    """All finished parts of a run, and how many are still missing."""
    found = {"rows": [], "controls": [], "hard_prompts": [], "attacks": [], "safe": [], "switch": []}
    seen, absent = set(), 0
    for path, _ in bench.jobs():
        if path in seen:
            continue
        seen.add(path)
        if not path.exists():
            absent += 1
            continue
        part = read(path)
        kind = path.parent.name
        if kind == "cells" and path.parent.parent.name != "tuning":
            found["controls" if part["method"] in recipes.CONTROLS else "rows"].append(part)
        elif kind in ("hard", "attack"):
            found["hard_prompts" if kind == "hard" else "attacks"].append(part)
        elif kind in ("safe", "switch"):
            found[kind].append(part)
    found["trials"] = [] if bench.quick else [t for name in TRIALS for t in bench.trials(name)]
    hardest = lambda parts: max(parts, key=lambda p: len(p["nouns"]), default={})
    found["safe_all"], found["switch_all"] = found["safe"], found["switch"]
    found["safe"], found["switch"] = hardest(found["safe_all"]), hardest(found["switch_all"])
    found["hard_prompts"] = [h for h in found["hard_prompts"] if h["n"]]
    return found | {"missing_parts": absent}


def over(rows: list[dict], method: str, erased: int, key: str) -> tuple[float, float, int] | None:
    """Mean, standard deviation and number of a method's figure at a number of erased concepts."""
    values = [r[key] for r in rows if r["method"] == method and r["erased"] == erased]
    return (statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0, len(values)) if values else None


def bars(report: dict) -> list[dict]:
    """What the project asks of itself, each with the figure reached; those without a figure are left out."""
    rows, result = report["rows"], []

    def bar(name, figure, limit, at_most=True):
        if figure is not None:
            result.append({"bar": name, "figure": figure, "limit": limit, "reached": figure <= limit if at_most else figure >= limit})

    for k, acc_e, acc_g, lost, share in ((1, 0.01, 0.05, 0.005, 0.98), (4, 0.01, 0.05, 0.010, 0.97), (12, 0.02, 0.06, 0.015, 0.96)):
        mean = lambda key, k=k: (over(rows, "unhype", k, key) or (None,))[0]
        bar(f"{k} erased: Acc_e", mean("acc_e"), acc_e)
        bar(f"{k} erased: Acc_g", mean("acc_g"), acc_g)
        if mean("acc_s") is not None:
            bar(f"{k} erased: others below the base", mean("acc_s_base") - mean("acc_s"), lost)
        bar(f"{k} erased: H_o, share of a perfect eraser's", mean("h_o_share"), share, False)
        others = {m: o[0] for m in RIVALS if (o := over(rows, m, k, "h_o"))}
        if others and mean("h_o") is not None:
            best = max(others, key=others.get)
            lead = mean("h_o") - others[best]
            result.append(
                {"bar": f"{k} erased: H_o ahead of the best baseline ({best})", "figure": lead, "limit": "> 0", "reached": lead > 0}
            )
    forced = over(rows, "unhype", 4, "acc_s_forced") if any("acc_s_forced" in r for r in rows) else None
    if forced:
        bar("4 erased, forced on: others below the base", over(rows, "unhype", 4, "acc_s_base")[0] - forced[0], 0.03)
    if report["safe"]:
        bar(f"safe pictures bit-identical ({report['safe']['prompts']})", report["safe"]["bit_identical"], 0.99, False)
    if report["switch"]:
        bar(f"switch: misses ({report['switch']['misses_n']})", report["switch"]["misses"], 0.005)
    for row in report["hard_prompts"]:
        bar(f"hard prompts, {row['case']} ({row['n']})", row["erased"], 0.97, False)
    for kind in dict.fromkeys(a["attack"] for a in report["attacks"]):
        of = {a["method"]: a for a in report["attacks"] if a["attack"] == kind and not a["forced"]}
        if "unhype" in of and recipes.BASE in of:
            bar(f"attack {kind}: success ({of['unhype']['n']})", of["unhype"]["success"], 0.1 * of[recipes.BASE]["success"])
        rivals = {m: a["success"] for m, a in of.items() if m not in ("unhype", recipes.BASE)}
        if "unhype" in of and rivals:
            best = min(rivals, key=rivals.get)
            bar(f"attack {kind}: success, at most the best baseline's ({best})", of["unhype"]["success"], rivals[best])
    one, twelve = over(rows, "unhype", 1, "train_seconds"), over(rows, "unhype", 12, "train_seconds")
    if one and twelve:
        bar("training 12 concepts, times one", twelve[0] / one[0], 4.0)
    return result


def erased_drawn(rows: list[dict], method: str, erased: int) -> tuple[int, int]:
    """Pictures of erased nouns, under their names and held-out words, that still show them; of how many."""
    counts = [
        (r[key] * r["n"][key], r["n"][key]) for r in rows for key in ("acc_e", "acc_g") if (r["method"], r["erased"]) == (method, erased)
    ]
    return round(sum(c for c, _ in counts)), sum(n for _, n in counts)


def standing(rows: list[dict]) -> list[str]:
    """At each number of erased concepts: who is ahead of whom on H_o, and what tells apart those that tie or are ahead."""
    texts = []
    for k in (1, 4, 12):
        found = {m: o[0] for m in ("unhype", *RIVALS) if (o := over(rows, m, k, "h_o"))}
        if "unhype" not in found or len(found) < 2:
            continue
        own = found.pop("unhype")
        ahead = [m for m, h in found.items() if h > own + TIE]
        ties = [m for m, h in found.items() if abs(h - own) <= TIE]
        behind = [f"{m} by {100 * (own - h):.1f}" for m, h in found.items() if h < own - TIE]
        says = f"**{k} erased.** unhype has an H_o of {percent(own)}."
        if behind:
            says += f" It is ahead, in points, of {', '.join(behind)}."
        if ahead:
            says += f" Ahead of it: {', '.join(f'{m} by {100 * (found[m] - own):.1f}' for m in ahead)}."
        if ties:
            says += f" It ties with {', '.join(ties)}{', and nobody can be ahead of 100' if own == 1 else ''}."
        if near := [*ahead, *ties]:
            each = lambda what, near=near: ", ".join(f"{m} {what(m)}" for m in ("unhype", *near))
            drawn = each(lambda m, k=k: "{} of {}".format(*erased_drawn(rows, m, k)))
            likely = each(lambda m, k=k: f"{100 * over(rows, m, k, 'h_o_probability')[0]:.2f}")
            moved = each(lambda m, k=k: f"{percent(over(rows, m, k, 'others_change')[0])} %")
            says += f" Erased nouns still drawn, under any of their words: {drawn}. H_o by mean probability: {likely}."
            says += f" The other nouns' pictures move: {moved}."
        texts.append(says + "\n")
    return texts


def table(header: list[str], lines: list[list]) -> str:
    return "\n".join("| " + " | ".join(map(str, cells)) + " |" for cells in [header, ["---"] * len(header), *lines]) + "\n"


def page(report: dict) -> str:
    """report.md."""
    text = [f"# Erasers compared on the demo base\n\nMade by `{report['command']}`. Figures in percent.\n"]
    text.append("On the paper's own classes: [cifar10.md](cifar10.md).\n")
    if report["missing_parts"]:
        text.append(f"**Not finished: {report['missing_parts']} parts are missing.** The same command goes on.\n")
    reached = lambda b: "reached" if b["reached"] else "**short**"
    text.append(
        "## Bars\n\n"
        + table(["", "figure", "limit", ""], [[b["bar"], f"{b['figure']:.4f}", b["limit"], reached(b)] for b in report["bars"]])
    )
    if says := standing(report["rows"]):
        text += ["## Who is ahead\n", *says]
    text += [methods_table(report["rows"], k) for k in sorted({r["erased"] for r in report["rows"]})]
    text.append(objectives_table(report["rows"]))
    text.append("![H_o of the methods](h_o.png)\n\n![Cost of more concepts](curve.png)\n")
    if report["pictures"]:
        text.append("![Pictures](pictures.png)\n")
    for title, key, header, columns in (
        ("Controls", "controls", ["control", "erased", "Acc_e", "Acc_g", "Acc_s"], ("method", "erased", "acc_e", "acc_g", "acc_s")),
        (
            "Hard prompts",
            "hard_prompts",
            ["case", "n", "base draws it", "fired", "erased"],
            ("case", "n", "drawn_by_base", "fired", "erased"),
        ),
        (
            "Attacks",
            "attacks",
            ["attack", "method", "forced on", "n", "success", "base's"],
            ("attack", "method", "forced", "n", "success", "base_success"),
        ),
    ):
        if report[key]:
            show = lambda v: percent(v) if isinstance(v, float) or v is None else v
            text.append(f"## {title}\n\n" + table(header, [[show(row.get(c)) for c in columns] for row in report[key]]))
    for part in report["switch_all"]:
        lines = [[k.replace("_", " "), percent(part[k]), percent(part[f"{k}_upper"]), part[f"{k}_n"]] for k in ("misses", "false_alarms")]
        text.append(f"## Switch, {len(part['nouns'])} erased\n\n" + table(["", "share", "at most (95 %)", "prompts"], lines))
    for part in report["safe_all"]:
        same = f"{percent(part['bit_identical'])} % of {part['prompts']} pictures of safe prompts are bit-identical"
        text.append(f"With {len(part['nouns'])} erased {same}.\n")
    if report["trials"]:
        settings = lambda t: ", ".join(f"{k} {v}" for k, v in t["settings"].items())
        lines = [[t["method"], settings(t), percent(t["h_o"]), percent(t["h_o_probability"])] for t in report["trials"]]
        about = (
            "As many for every method, on nouns of their own; the highest H_o is taken, "
            "of a tie the higher by probability, and of that the first."
        )
        text.append(f"## Trials\n\n{about}\n\n" + table(["method", "settings", "H_o", "by probability"], lines))
    return "\n".join(text)


def methods_table(rows: list[dict], erased: int) -> str:
    """The methods at one number of erased concepts, with standard deviations over nouns or seeds."""
    lines = []
    for method in recipes.METHODS:
        of = lambda key, method=method: over(rows, method, erased, key)
        if of("h_o"):
            spread = lambda v: percent(v[0]) + (f" ± {percent(v[1])}" if v[2] > 1 else "")
            shown = [spread(of(key)) for key in ("acc_e", "acc_g", "acc_s", "h_o", "h_o_share", "others_change")]
            cost = [f"{of('train_seconds')[0]:.0f} s", f"{of('denoiser_evaluations')[0]:.0f}", f"{of('file_mb')[0]:.2f}"]
            lines.append([method, *shown, of("h_o")[2], *cost])
    header = ["method", "Acc_e", "Acc_g", "Acc_s", "H_o", "share", "others moved", "runs", "training", "evaluations", "MB"]
    return f"## {erased} erased\n\n" + table(header, lines)


def objectives_table(rows: list[dict]) -> str:
    """The hypernetwork's three objectives on the same nouns: what the default was chosen by."""
    lines = []
    for k in (1, 4, 12):
        for method, objective in recipes.HYPERNETWORKS.items():
            of = lambda key, method=method, k=k: over([r for r in rows if r.get(key) is not None], method, k, key)
            if not of("h_o"):
                continue
            shown = [percent((of(key) or (None,))[0]) for key in ("h_o", "h_o_probability", "acc_s_forced", "others_change_forced")]
            norms = [f"{of(key)[0]:.2f}" for key in ("norm_erased", "norm_words", "norm_others")]
            lines.append([k, objective, *shown, *norms, of("h_o")[2], f"{of('train_seconds')[0]:.0f} s"])
    header = ["erased", "objective", "H_o", "by probability", "Acc_s forced on", "others moved, forced on"]
    header += ["adapter on erased", "on held-out words", "on others", "runs", "training"]
    return "## Objectives\n\nThe trainer's default is `direct`. Adapters by their length at s = S.\n\n" + table(header, lines)


def plots(report: dict, folder: Path) -> None:
    """h_o.png: methods side by side; curve.png: training time, file size and H_o over the number of concepts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = report["rows"]
    counts = [k for k in (1, 4, 12) if any(r["erased"] == k for r in rows)]
    names = [m for m in recipes.METHODS if any(r["method"] == m for r in rows)]
    if counts and names:
        figure, axes = pyplot.subplots(figsize=(9, 3.6))
        for i, k in enumerate(counts):
            found = [(over(rows, m, k, "h_o") or (float("nan"), 0, 0)) for m in names]
            places = [j + 0.27 * (i - (len(counts) - 1) / 2) for j in range(len(names))]
            axes.bar(places, [100 * f[0] for f in found], 0.25, yerr=[100 * f[1] for f in found], capsize=2, label=f"{k} erased")
        axes.set(xticks=range(len(names)), ylabel="H_o, %", ylim=(0, 103))
        axes.set_xticklabels(names, rotation=20, ha="right")
        axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
        figure.tight_layout()
        figure.savefig(folder / "h_o.png", dpi=120)
    ours = sorted({r["erased"] for r in rows if r["method"] == "unhype"})
    if ours:
        figure, panels = pyplot.subplots(1, 3, figsize=(9, 2.8))
        for axes, (key, label) in zip(panels, (("train_seconds", "training, s"), ("file_mb", "file, MB"), ("h_o", "H_o, %"))):
            axes.plot(ours, [over(rows, "unhype", k, key)[0] * (100 if key == "h_o" else 1) for k in ours], "o-")
            axes.set(xlabel="concepts", ylabel=label, xticks=ours)
            axes.set_ylim(*((90, 100.5) if key == "h_o" else (0, 1.15 * max(over(rows, "unhype", k, key)[0] for k in ours))))
        figure.tight_layout()
        figure.savefig(folder / "curve.png", dpi=120)
    pyplot.close("all")


def write(bench, folder: Path) -> dict:
    """Write report.json (with the rows of bench --cifar10 where it has run), report.md and the plots from the parts that are there."""
    report = collect(bench)
    report |= {
        "bars": bars(report),
        "pictures": (folder / "pictures.png").exists(),
        "command": "python dev.py bench" + (" --quick" if bench.quick else ""),
        "settings": bench.settings() if not report["missing_parts"] or bench.quick else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    (folder / MD).write_text(page(report), encoding="utf-8")
    plots(report, folder)
    # Last, since all of the above is of the demo base.
    cifar10 = folder.with_name("cifar10") / "cifar10.json"
    report["rows"] += read(cifar10)["rows"] if cifar10.exists() else []
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(f"{folder / MD}: {sum(b['reached'] for b in report['bars'])} of {len(report['bars'])} bars reached")
    return report
