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


def processes(report: dict) -> str:
    """What a second process brings."""
    own = report["ddp"]
    one, two = own["runs"][0]["1"], own["runs"][0][str(own["processes"])]
    names = [n for n in one["phases"] if n not in NOT_PHASES]
    sizes = ", ".join(f"{name} {mb:.0f} MB" for name, mb in own["wire_mb"].items())
    return "\n".join(
        [
            lines(
                f"Two processes of one thread, with twice the batch, train {own['speedup']:.2f} times the rows that one trains (the lowest "
                f"of {len(own['runs'])} pairs of runs: {own['lowest']:.2f}), on {own['cores']} cores. In a step these go over the wire: "
                f"{sizes}.",
            ),
            "",
            table(
                ["phase", "one process, seconds", "two, with twice the batch"],
                [[n, f"{one['phases'][n]:.1f}", f"{two['phases'][n]:.1f}"] for n in names],
            ),
        ]
    )
