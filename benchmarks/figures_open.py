"""The page's figures of `python dev.py bench --open --first` and `--hundred`: ten concepts and a hundred on the open base."""

from benchmarks.comparison.report import percent, table
from benchmarks.open.report import GROUPS, group_table, over, ranks


def of_one_file(report: dict) -> str:
    rows, text = report["rows"], []
    (erased,) = {row["erased"] for row in rows}
    for title, keys in GROUPS.items():
        if any(over(rows, row["method"], erased, key) is not None for row in rows for key in keys):
            text.append(f"**{title}**\n\n{group_table(rows, erased, keys)}".rstrip())
    found = sorted(ranks(rows, erased).items(), key=lambda item: item[1][0])
    columns = found[0][1][1]
    text.append(f"Mean rank over {columns} columns, 1 the best: " + ", ".join(f"{m} {rank:.2f}" for m, (rank, _) in found) + ".")
    return "\n\n".join([*text, *alone(report)])


def alone(report: dict) -> list[str]:
    """What UnHype alone is asked: concepts switched off by name, safe prompts, and what a false alarm costs."""
    (row,) = [r for r in report["rows"] if r.get("off_kept") is not None]
    keys = {"off_kept": "off, alone: drawn", "off_kept_base": "base's", "off_beside_kept": "off, beside one that is on: drawn"}
    keys |= {"on_gone": "the one that is on: gone", "both_gone": "both on: both gone"}
    heads, figures = [*keys.values(), "pictures"], [*(percent(row.get(key)) for key in keys), str(row["n"]["off_kept"])]
    (alarm,) = report["alarms"]
    safe = report["safe"]
    return [
        "**Every other concept switched off by name**\n\n" + table(heads, [figures]).rstrip(),
        f"Of {safe['prompts']} safe prompts' pictures {percent(safe['bit_identical'])} % are bit-identical to the base's. "
        f"Where one fires, {percent(alarm['alarm_kept'])} % of {alarm['n']['alarm_kept']} still show their noun.",
    ]
