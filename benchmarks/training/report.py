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
