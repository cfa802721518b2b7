"""The trainer's report as Markdown for the figure blocks of the pages."""

from ..comparison.report import table
from ..figures import lines

KINDS = {
    "eraser": "erasers",
    "state": "states of stopped trainings",
    "cache": "caches of samples",
    "text": "caches of written text",
    "config": "settings (YAML)",
    "prompts": "lists of prompts (TXT)",
    "table": "tables of concepts (CSV)",
}
SCHEDULES = {
    "ours": "ours",
    "lora": "an ordinary LoRA",
    "behind": "the authors' schedule, behind our switch",
    "authors": "the authors' schedule",
}
NOT_PHASES = ("config", "whole", "judged")


def faults(report: dict) -> str:
    """Trainings that were killed, and hostile files."""
    kills, fuzz = report["kills"], report["fuzz"]
    signals = ", ".join(f"{name} {count}" for name, count in sorted(kills["signals"].items()))
    others = [name for name, good in kills.get("others", {}).items() if good]
    rows = [
        [KINDS[name], str(sum(own.values())), *(str(own[k]) for k in ("error", "load", "fault"))] for name, own in fuzz["kinds"].items()
    ]
    rows.append(["all", *(str(fuzz[k]) for k in ("n", "clean_errors", "loads", "faults"))])
    return "\n".join(
        [
            lines(
                f"{kills['n']} kills ({signals}) of {kills['trainings']} trainings, {kills['inside']} of them while a file was being "
                f"saved: after {kills['identical']} the training ended with every file as an undisturbed one's to the bit, and no other "
                "file beside them.",
                *([f"As well: {', '.join(others)}."] if others else []),
            ),
            "",
            table(["hostile files", "read", "clear errors", "loads", "faults"], rows),
        ]
    )


def phases(report: dict) -> str:
    """Where a training's time goes."""
    own = report["phases"]
    names = sorted((n for n in own if n not in NOT_PHASES), key=lambda n: -own[n])
    concept, found = next(iter(own["judged"]["concepts"].items()))
    return "\n".join(
        [
            table(["phase", "seconds"], [[name, f"{own[name]:.1f}"] for name in names] + [["all", f"{own['whole']:.1f}"]]),
            "",
            f"`{own['config']}`, seconds of one processor core, with nothing cached. Its verdict: {concept} erased by "
            f"{found['erased']:.0%}, {found['misses']:.1%} missed, {found['false_alarms']:.1%} false alarms.",
        ]
    )


def schedules(report: dict) -> str:
    """Rows and seconds until H_o reaches the bar."""
    own = report["schedules"]
    rows = []
    for name, title in SCHEDULES.items():
        found = [row for row in own["rows"] if row["name"] == name]
        if found:
            spans = [span([row[key] for row in found]) for key in ("denoiser_evaluations", "seconds")]
            good = sum(row["reached"] for row in found)
            rows.append([title, f"{good} of {len(found)}", *spans, span([100 * row["h_o"] for row in found])])
    head = ["schedule", f"seeds that reached {100 * own['bar']:.0f}", "denoiser evaluations", "seconds", "H_o at the last look"]
    beside = compared(own["rows"])
    said = [f"Others are stopped at {own['cap']} times the evaluations that ours took with the seed."]
    said += [f"Ours took {beside[0]} times the authors' evaluations, and {beside[1]} times their seconds."] if beside else []
    said.append(f"Of ours {after(own['rows'])} evaluations came behind the last look: strengths and verdict.")
    return "\n".join([table(head, rows), "", lines(*said)])


def span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"


def compared(rows: list[dict]) -> list[str]:
    """How many times the authors' evaluations, and their seconds, ours took, seed by seed; nothing where no seed has both."""
    theirs = {row["seed"]: row for row in rows if row["name"] == "authors"}
    pairs = [(row, theirs[row["seed"]]) for row in rows if row["name"] == "ours" and row["seed"] in theirs]
    times = [[a[key] / b[key] for a, b in pairs] for key in ("denoiser_evaluations", "seconds")]
    return [f"{min(some):.2f} to {max(some):.2f}" for some in times] if pairs else []


def after(rows: list[dict]) -> str:
    return span([row["denoiser_evaluations"] - row["course"][-1][1] for row in rows if row["name"] == "ours"])
