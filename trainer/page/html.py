"""The page's HTML: one file without scripts that asks nothing of a network. Every text in it is escaped."""

import base64
from dataclasses import dataclass, field
from html import escape

from ..run.health import Finding
from .curves import chart

CURVES = {  # figures of the log, as they are called on the page, and how each is read
    "task": ("What is still missing", "1: nothing is erased yet. 0: everything. It should fall."),
    "retain": ("What leaks onto kept prompts", "0: they are left alone. It may rise at first, and should come down."),
    "text": ("What is missing beside other things", "The same, read from the prompt alone: 1 at first, 0 when done. It should fall."),
    "anchor": ("What changes beside the concept", "0: things that stay in the picture stay as they are."),
    "erased": (
        "What is reached on held-out prompts",
        "1: all of the wanted change, where training does not look. It should rise.",
    ),
    "leaked": ("What would leak there", "How far other prompts would move if the switch mistook them. 1: as far as an erasure."),
    "gradient": ("Gradient", "How hard each step pulls. At 0 nothing is learned any more."),
}
STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1e; --soft: #66666e; --line: #d9d9de; --back: #ffffff; --card: #f5f5f7;
        --good: #1a7f37; --bad: #b42318; --curve: #2563eb }
@media (prefers-color-scheme: dark) { :root { --ink: #ececf0; --soft: #a0a0aa; --line: #3c3c42; --back: #18181b; --card: #222226;
        --good: #4ade80; --bad: #f87171; --curve: #7aa7ff } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--back); color: var(--ink);
       font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem }
h3 { font-size: .95rem; margin: 0 }
p { margin: .25rem 0 }
.soft, figcaption { color: var(--soft); font-size: .875rem }
.status { padding: .75rem 1rem; border-left: .3rem solid var(--curve); background: var(--card); border-radius: .3rem; margin: 1rem 0 }
.status.good { border-color: var(--good) } .status.bad { border-color: var(--bad) }
progress { width: 100%; height: .6rem }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18rem), 1fr)); gap: 1rem }
.charts > div, .row { background: var(--card); border-radius: .5rem; padding: .75rem }
svg { width: 100%; height: auto; display: block }
svg text { font-size: 12px; fill: var(--soft) } .grid { stroke: var(--line) }
.curve { fill: none; stroke: var(--curve); stroke-width: 2 } circle.curve { fill: var(--curve) }
.row { margin: 0 0 .75rem } .pictures { display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; margin-top: .5rem }
@media (min-width: 48rem) { .rows { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem } .row { margin: 0 } }
figure { margin: 0 } img { width: 100%; display: block; border-radius: .3rem } img.small { image-rendering: pixelated }
ul { list-style: none; margin: 0; padding: 0 } li { padding: .2rem 0 .2rem 1.6rem; position: relative }
li::before { content: "\\2713"; color: var(--good); position: absolute; left: 0; font-weight: bold }
li.bad::before { content: "!"; color: var(--bad); left: .3rem } li.bad { color: var(--bad) } li.plain::before { content: "" }
table { border-collapse: collapse; width: 100%; font-size: .875rem }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-top: 1px solid var(--line) }
th { font-weight: normal; color: var(--soft); width: 9rem } summary { cursor: pointer; margin-top: 2rem }
"""


@dataclass
class Row:
    """A prompt of the preview: whether it is one to be erased, and its pictures as JPEG, by how strong the eraser is."""

    label: str
    pictures: dict[str, bytes]
    small: bool  # a few pixels, which are shown as they are


@dataclass
class Facts:
    """All that the page says."""

    name: str
    concepts: list[tuple[str, str]]  # erased -> drawn instead
    about: list[tuple[str, str]]
    settings: list[tuple[str, str]]
    iterations: int
    done: int = 0
    status: str = ""
    good: bool | None = None  # None: nobody knows yet
    running: bool = True
    written: str = ""  # when
    times: str = ""  # that each phase took
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    pictured: int = 0  # the iteration of the rows
    verdict: list[str] = field(default_factory=list)


def page(facts: Facts) -> str:
    """The whole file."""
    title = ", ".join(f"{name} \N{RIGHTWARDS ARROW} {mapping}" for name, mapping in facts.concepts)
    mood = "" if facts.good is None else " good" if facts.good else " bad"
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">",
        '<meta http-equiv="refresh" content="60">' if facts.running else "",
        f"<title>{escape(facts.name)}</title><style>{STYLE}</style></head><body>",
        f'<p class="soft">UnHype eraser {escape(facts.name)}</p><h1>{escape(title)}</h1>',
        f'<div class="status{mood}"><p><b>{escape(facts.status)}</b></p>',
        f'<progress max="{facts.iterations}" value="{facts.done}"></progress>' if facts.running else "",
        f'<p class="soft">As of {escape(facts.written)}.{escape(f" Time so far: {facts.times}." if facts.times else "")}</p></div>',
        section("Verdict", bullets([(line.strip(), line.strip().startswith("FAILED")) for line in facts.verdict], "plain")),
        section("Health", bullets([(f.says, f.ill) for f in facts.findings], "")),
        section("Before and after", grid(facts)),
        section("Curves", curves(facts)),
        section("What is being made", table(facts.about)),
        f"<details><summary>All settings</summary>{table(facts.settings)}</details></body></html>\n",
    ]
    return "\n".join(filter(None, parts))


def section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def bullets(lines: list[tuple[str, bool]], kind: str) -> str:
    """A list of (text, whether it is bad)."""
    items = "".join(f'<li class="{"bad" if bad else kind}">{escape(text[:1].upper() + text[1:])}</li>' for text, bad in lines)
    return f"<ul>{items}</ul>" if items else ""


def table(rows: list[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows) + "</table>"


def curves(facts: Facts) -> str:
    parts = []
    for name, (title, words) in CURVES.items():
        if points := facts.curves.get(name):
            svg = chart(points, facts.iterations, f"{title}: {points[0][1]:.3g} at first, {points[-1][1]:.3g} at step {facts.done}")
            parts.append(f'<div><h3>{title}</h3>{svg}<p class="soft">{words} Now {points[-1][1]:.3g}.</p></div>')
    return f'<div class="charts">{"".join(parts)}</div><p class="soft">Below each curve: the steps.</p>' if parts else ""


def grid(facts: Facts) -> str:
    parts = []
    for row in facts.rows:
        shown = "".join(
            f'<figure><img{" class=small" if row.small else ""} src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" '
            f'alt="{escape(f"{row.label}, {how}")}"><figcaption>{escape(how)}</figcaption></figure>'
            for how, data in row.pictures.items()
        )
        parts.append(f'<div class="row"><p>{escape(row.label)}</p><div class="pictures">{shown}</div></div>')
    said = f'<p class="soft">At step {facts.pictured}, each prompt from the same noise: without the eraser, at half strength, at full.</p>'
    return f'{said}<div class="rows">{"".join(parts)}</div>' if parts else ""
