"""The figures in the pages: blocks that are written from the committed reports of the measuring commands, never by hand.

    python benchmarks/pages.py                          write every block anew
    python benchmarks/pages.py out/demo/report.json     take a new report first, in the place of its command's committed one

A block stands between `<!-- figures: NAME (COMMAND) -->` and `<!-- end -->`; COMMAND is the one that measured it, and
whoever reads the page's source sees it. The commands that write a committed report themselves call `wrote`.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import figures, figures_bench, figures_open, gpu
from benchmarks.cifar10 import table
from benchmarks.comparison.report import page
from benchmarks.training import report as training

RESULTS = "benchmarks/results/"
OTHER_TEXTS = "python dev.py bench --language --captions flickr8k.txt --prompts parti.txt"
REPORTS = {  # command, as its report names it -> the committed report
    "python dev.py demo": "demo/report.json",
    "python dev.py demo --flux": "demo/flux_report.json",
    "python dev.py bench": RESULTS + "report.json",
    "python dev.py bench --cifar10": RESULTS + "cifar10.json",
    "python dev.py bench --language": RESULTS + "language.json",
    OTHER_TEXTS: RESULTS + "language_others.json",
    "python dev.py bench --fullsize": RESULTS + "fullsize.json",
    "python dev.py bench --speed": RESULTS + "speed.json",
    "python dev.py bench --strength": RESULTS + "strength.json",
    "python dev.py bench --train": RESULTS + "train.json",
    "python dev.py gpu": RESULTS + "gpu.json",
    "python demo/open/measure.py": RESULTS + "open_base.json",
    "python dev.py bench --open --first": RESULTS + "open_first.json",
    "python dev.py bench --open --hundred": RESULTS + "open_hundred.json",
    "python benchmarks/negative.py": RESULTS + "negative.json",
    "python benchmarks/controlnet.py": RESULTS + "controlnet.json",
    "python benchmarks/sizes.py": RESULTS + "sizes.json",
    "python benchmarks/recipes.py": RESULTS + "recipes.json",
}
QUOTED = "examples"  # texts that other people wrote, which are not ours to publish


class Block(NamedTuple):
    command: str
    written: Callable[[dict], str]


BLOCKS = {
    "demo in short": Block("python dev.py demo", figures.demo_short),
    "demo": Block("python dev.py demo", figures.demo),
    "demo base": Block("python dev.py demo", figures.base_alone),
    "judge": Block("python dev.py demo", figures.judge),
    "flux": Block("python dev.py demo --flux", figures.demo),
    "flux base": Block("python dev.py demo --flux", figures.base_alone),
    "methods": Block("python dev.py bench", figures_bench.methods),
    "findings": Block("python dev.py bench", figures_bench.findings),
    "cifar10": Block("python dev.py bench --cifar10", figures_bench.cifar10),
    "language": Block("python dev.py bench --language", figures.language),
    "other texts": Block(OTHER_TEXTS, figures.language),
    "counted": Block("python dev.py bench --fullsize", figures.fullsize_counted),
    "measured": Block("python dev.py bench --fullsize", figures.fullsize_measured),
    "speed": Block("python dev.py bench --speed", figures.speed),
    "strength": Block("python dev.py bench --strength", figures.strength),
    "faults": Block("python dev.py bench --train", training.faults),
    "phases": Block("python dev.py bench --train", training.phases),
    "gpu": Block("python dev.py gpu", gpu.table),
    "open base": Block("python demo/open/measure.py", figures.open_base),
    "ten concepts": Block("python dev.py bench --open --first", figures_open.of_one_file),
    "a hundred concepts": Block("python dev.py bench --open --hundred", figures_open.of_one_file),
    "schedules": Block("python dev.py bench --train", training.schedules),
    "negative": Block("python benchmarks/negative.py", figures.negative),
    "controlnet": Block("python benchmarks/controlnet.py", figures.controlnet),
    "sizes": Block("python benchmarks/sizes.py", figures.sizes),
    "recipes": Block("python benchmarks/recipes.py", figures.recipes),
}
WHOLE = {  # pages that are nothing but figures
    RESULTS + "report.md": Block("python dev.py bench", lambda report: page(report | {"rows": figures_bench.own_rows(report)})),
    RESULTS + "cifar10.md": Block("python dev.py bench --cifar10", table.page),
}
BLOCK = re.compile(r"<!-- figures: (?P<name>[^(\n]+) \((?P<command>[^)\n]+)\) -->\n(?P<body>.*?)<!-- end -->", re.DOTALL)


def pages(root: Path = ROOT) -> list[Path]:
    """The pages that figures stand in."""
    return [root / "README.md", root / "demo/MODEL_CARD.md", root / "demo/open/MODEL_CARD.md", *sorted((root / "docs").glob("*.md"))]


def body(block: Block, root: Path = ROOT) -> str:
    """What belongs into a block, of the committed report."""
    return block.written(json.loads((root / REPORTS[block.command]).read_text(encoding="utf-8")))


def with_figures(text: str, where: str, root: Path = ROOT) -> str:
    """A page's text with every block written anew.

    Raises ValueError, naming the page, where a block is of no known name, says another command or is not closed.
    """

    def anew(match: re.Match) -> str:
        block = BLOCKS.get(match["name"])
        if block is None or block.command != match["command"]:
            expected = f"({block.command})" if block else f"one of {', '.join(BLOCKS)}"
            raise ValueError(f"{where}: the block {match['name']!r} says ({match['command']}), expected {expected}")
        return f"<!-- figures: {match['name']} ({block.command}) -->\n\n{body(block, root)}\n\n<!-- end -->"

    if len(re.findall("<!-- figures:", text)) != len(BLOCK.findall(text)):
        raise ValueError(f"{where}: a block begins like '<!-- figures: demo (python dev.py demo) -->' and ends with '<!-- end -->'")
    return BLOCK.sub(anew, text)


def rewrite(root: Path = ROOT) -> list[Path]:
    """Write all pages from the committed reports; returns those that changed."""
    texts = {path: with_figures(path.read_text(encoding="utf-8"), path.name, root) for path in pages(root)}
    texts |= {root / name: body(block, root) for name, block in WHOLE.items()}
    changed = [path for path, text in texts.items() if path.read_text(encoding="utf-8") != text]
    for path in changed:
        path.write_text(texts[path], encoding="utf-8")
        print(f"{path.relative_to(root)}: figures written")
    return changed


def wrote(report: Path) -> None:
    """What a measuring command calls after it wrote its report: where it is the committed one, the pages follow."""
    if Path(report).resolve() in {ROOT / path for path in REPORTS.values()}:
        rewrite()


def take(report: Path, root: Path = ROOT) -> None:
    """Put a report in the place of the committed one of its command, without the texts that it quotes. Raises ValueError where its
    command has none."""
    found = json.loads(report.read_text(encoding="utf-8"))
    command = found.get("command")
    if command not in REPORTS:
        raise ValueError(f"{report} is of the command {command!r}, expected one of {', '.join(REPORTS)}")
    if report.resolve() == root / REPORTS[command]:
        return
    if QUOTED in found:
        kept = {key: value for key, value in found.items() if key != QUOTED}
        (root / REPORTS[command]).write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        shutil.copyfile(report, root / REPORTS[command])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="*", type=Path, metavar="REPORT.json")
    for report in parser.parse_args().reports:
        take(report)
    rewrite()
    return 0


if __name__ == "__main__":
    sys.exit(main())
