"""language.md: the figures of a run as tables."""

from .measure import mean

HEAD = """# The switch on real language

Text encoder all-MiniLM-L6-v2; a training's own prompts, fit and calibration. None of the texts here was used in them.
A text *names* a concept where it holds the name as a whole word, and *mentions* it where it holds another word for it
(benchmarks/language/concepts.txt); a false alarm is a concept that fires on a text that does neither. Texts that only mention it,
deny it or hold its name in another sense ("hot dog") are on neither side and have tables of their own.
"""
SHARES = ("misses", "false_alarms", "false_alarms_prompts", "missed_long", "missed_tags")
TITLES = ("misses", "false alarms", "on prompts", "long missed", "tags missed")


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def table(head: list[str], rows: list[list]) -> str:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines) + "\n"


def by_file(entries: list[dict]) -> dict:
    found: dict = {}
    for entry in entries:
        found.setdefault(entry["file"], []).append(entry)
    return found


def summary(result: dict) -> str:
    """The issue's table: of every file the mean over its concepts, and the worst one."""
    anywhere = {row["file"]: row for row in result["any"]}
    rows = []
    for file, concepts in by_file(result["concepts"]).items():
        cells = [str(file)]
        for key in SHARES:
            values = [c[key] for c in concepts]
            worst = max(concepts, key=lambda c: c[key] or 0)
            cells.append(f"{percent(mean(values))} / {percent(worst[key])} ({worst['name']})" if len(values) > 1 else percent(values[0]))
        found = anywhere.get(file, {})
        rows.append([*cells, f"{percent(found.get('captions'))} / {percent(found.get('prompts'))}"])
    return table(["file of", *(f"{t}, %: mean / worst" for t in TITLES), "any fires, %: captions / prompts"], rows)


def shares(rows: list[dict], keys: tuple[str, ...]) -> list[list]:
    return [[percent(row[key]) for key in keys] for row in rows]


def each_concept(file: int, concepts: list[dict]) -> str:
    """A table of a file's concepts; of many the twenty worst."""
    shown = sorted(concepts, key=lambda c: -max(c[key] or 0 for key in SHARES))[:20] if len(concepts) > 20 else concepts
    head = ["concept", *TITLES, "with homonyms", "AUC", "captions that name it (given)"]
    keys = (*SHARES, "false_alarms_with_homonyms")
    rows = [[c["name"], *cells, c["auc"], f"{c['named']} ({c['given']})"] for c, cells in zip(shown, shares(shown, keys))]
    return f"File of {file}{', the twenty worst' * (len(shown) < len(concepts))}, %:\n\n" + table(head, rows)


def alluded(result: dict) -> list[str]:
    """Where a concept is meant by another word, or its name by something else, or denied."""
    said = lambda b, side: f"{percent(b[side])} ({percent(b[side + '_captions'])} of {b[side + '_given']})"
    rows = [
        [b["file"], b["name"], *(said(b, side) for side in ("synonym", "homonym", "negated")), percent(b["near"])] for b in result["beside"]
    ]
    parts = ["## By other words, in another sense, behind a no\n\nHow often a concept fires there, %:\n"]
    parts.append(table(["file of", "concept", "synonyms (given captions)", "homonyms", "behind a no", "near things"], rows))
    for key, what in (("homonyms", "Homonyms"), ("near", "Near things"), ("synonyms", "Synonyms")):
        parts.append(f"{what} that fire, of the texts made of each, %:\n")
        for file, entries in by_file(result[key]).items():
            parts.append("\n".join(f"- file of {file}, {name}: {phrases}" for name, phrases in firing(entries).items()) + "\n")
    return parts


def firing(entries: list[dict]) -> dict[str, str]:
    """Of every concept its phrases, each with the share that fires."""
    found: dict[str, list[str]] = {}
    for e in entries:
        found.setdefault(e["concept"], []).append(f"{e['phrase']} {100 * e['fires']:.0f}")
    return {name: ", ".join(phrases) for name, phrases in found.items()}


def with_synonyms(found: dict) -> list[str]:
    """A file of the ten where each has two synonyms named."""
    head = ["concept", *TITLES, "synonyms, of the texts made of each"]
    fires = firing(found["synonyms"])
    rows = [[c["name"], *cells, fires.get(c["name"], "-")] for c, cells in zip(found["concepts"], shares(found["concepts"], SHARES))]
    return ["## Ten, each with its first two synonyms named\n\n%:\n", table(head, rows)]


def examples(result: dict) -> list[str]:
    parts = ["## The highest false alarms and the lowest hits\n\nThe margin is the score less the threshold.\n"]
    for example in result["examples"]:
        for key, title in (("highest_false_alarms", "highest false alarms"), ("lowest_hits", "lowest hits")):
            rows = [[e["concept"], e["margin"], e["text"][:100].replace("|", "/")] for e in example[key]]
            parts.append(f"File of {example['file']}, {title}:\n\n" + table(["concept", "margin", "text"], rows))
    return parts


def page(result: dict) -> str:
    """The whole of language.md."""
    count, files = result["texts"], by_file(result["concepts"])
    parts = [HEAD, f"{count['captions']} captions and {count['prompts']} prompts that people wrote, {count['made']} texts made of them.\n"]
    parts += [summary(result), "## Each concept\n", *(each_concept(file, concepts) for file, concepts in files.items())]
    if "kinds" in result:
        parts.append("## Kinds of text\n\nTexts that mention none of the file's concepts, %:\n")
        rows = [[k["file"], k["kind"], k["texts"], percent(k["any"]), percent(k["false_alarms"])] for k in result["kinds"]]
        parts.append(table(["file of", "kind", "texts", "any fires", "a concept's false alarms"], rows))
        parts.append("Misses by the place of the concept, from the beginning to the end, %:\n")
        rows = [[p["file"], p["place"], percent(p["missed_long"]), percent(p["missed_tags"])] for p in result["places"]]
        parts.append(table(["file of", "place", "long", "tags"], rows))
    parts += alluded(result) if "beside" in result else []
    parts += with_synonyms(result["with_synonyms"]) if "with_synonyms" in result else []
    parts += examples(result) if "examples" in result else []
    parts.append(
        "## What it costs\n\nPrompts of a training, written texts without and with targets, and the processor's seconds of the fit:\n"
    )
    rows = [[c[key] for key in ("file", "targets", "safe", "written", "switch")] for c in result["cost"]]
    return "\n".join([*parts, table(["file of", "target prompts", "safe prompts", "written texts", "the fit, s"], rows)])
