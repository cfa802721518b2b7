"""The pages: figures are their reports' own, links lead somewhere, and the README is short."""

import json
import re
import shutil
from pathlib import Path

import pytest

from benchmarks import pages

ROOT = Path(__file__).resolve().parents[1]
EVERY = [*pages.pages(), *(ROOT / name for name in pages.WHOLE)]
OWN = [p for p in pages.pages() if p.name not in ("MODEL_CARD.md", "compatibility.md")]  # how a model was made is no measurement
MEASURED = re.compile(r"\d[\d.]*\s?(%|(ms|s|GB|MB|points?|seconds?|minutes?|hours?)\b)|\b\d+ of \d+\b")
COMMAND = re.compile(r"`python [^`]+`")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anew(path: Path, text: str) -> str:
    whole = pages.WHOLE.get(name(path))
    return pages.body(whole) if whole else pages.with_figures(text, path.name)


def edited(text: str, where: int) -> str:
    """The text with its first digit behind a place made another one."""
    digit = re.compile(r"\d").search(text, where)
    return text[: digit.start()] + str((int(digit[0]) + 1) % 10) + text[digit.end() :]


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_a_page_says_what_its_reports_say(path):
    text = path.read_text(encoding="utf-8")
    assert anew(path, text) == text, "write the figures with: python benchmarks/pages.py"


@pytest.mark.parametrize("path", EVERY, ids=name)
def test_a_figure_edited_by_hand_is_found(path):
    text = path.read_text(encoding="utf-8")
    places = [0] if name(path) in pages.WHOLE else [block.start("body") for block in pages.BLOCK.finditer(text)]
    for place in places:
        assert anew(path, edited(text, place)) == text


def test_every_block_is_shown_and_of_a_report_that_names_its_command():
    shown = [block["name"] for path in pages.pages() for block in pages.BLOCK.finditer(path.read_text(encoding="utf-8"))]
    assert set(shown) == pages.BLOCKS.keys() and {b.command for b in pages.BLOCKS.values()} == pages.REPORTS.keys()
    for command, report in pages.REPORTS.items():
        assert json.loads((ROOT / report).read_text(encoding="utf-8"))["command"] == command


@pytest.mark.parametrize("path", OWN, ids=name)
def test_no_figure_stands_outside_of_a_block_without_its_command(path):
    text = pages.BLOCK.sub("", path.read_text(encoding="utf-8"))
    for paragraph in re.split(r"\n\s*\n|\n(?=- )", text):
        prose = re.sub("`[^`]*`", "", paragraph)
        assert not MEASURED.search(prose) or COMMAND.search(paragraph), paragraph


def test_a_new_report_is_taken_and_all_its_pages_follow(tmp_path):
    for path in (*EVERY, *(ROOT / report for report in pages.REPORTS.values())):
        (tmp_path / name(path)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / name(path))
    assert pages.rewrite(tmp_path) == []
    report = json.loads((ROOT / "demo/report.json").read_text(encoding="utf-8"))
    report["eraser"]["others_change"] = 0.4321
    (tmp_path / "new.json").write_text(json.dumps(report), encoding="utf-8")
    pages.take(tmp_path / "new.json", tmp_path)
    assert {p.name for p in pages.rewrite(tmp_path)} == {"README.md", "evidence.md"}
    assert "| **UnHype** | 0.0 | 100.0 | 43.2 |" in (tmp_path / "README.md").read_text(encoding="utf-8")
    (tmp_path / "new.json").write_text('{"command": "by hand"}', encoding="utf-8")
    with pytest.raises(ValueError, match="by hand"):
        pages.take(tmp_path / "new.json", tmp_path)


@pytest.mark.parametrize(
    "block, words",
    [
        ("<!-- figures: demmo (python dev.py demo) -->\n<!-- end -->", "one of demo"),
        ("<!-- figures: demo (python dev.py test) -->\n<!-- end -->", r"expected \(python dev.py demo\)"),
        ("<!-- figures: demo (python dev.py demo) -->\n| 1 |\n", "ends with"),
        ("<!-- figures: demo -->\n<!-- end -->", "begins like"),
    ],
)
def test_a_block_of_another_name_or_command_or_without_an_end_is_refused(block, words):
    with pytest.raises(ValueError, match=words):
        pages.with_figures(f"a\n\n{block}\n\nb", "x.md")


def anchors(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", pages.pages(), ids=name)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text(encoding="utf-8")), target


def test_the_readme_is_for_a_newcomer():
    """Short, and on its first screen: what it does, the picture, where to see it, where to train, and what is not known."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 150
    first = "\n".join(lines[: lines.index("## Two commands")])
    assert first.count("\n") < 30
    for part in ("demo/grid.png", "one node", "to the last bit", "#your-first-workflow", "#train-your-own-eraser", "#limits"):
        assert part in first
    readme = "\n".join(lines)
    assert all(f"docs/{page}.md" in readme for page in ("method", "evidence", "training", "compatibility", "troubleshooting"))


def test_every_test_that_a_page_names_is_there():
    sources = [p.read_text(encoding="utf-8") for p in (ROOT / "tests").rglob("test_*.py")]
    files = {p.stem for p in (ROOT / "tests").rglob("test_*.py")}
    for page in pages.pages():
        for name in re.findall(r"`(?:tests/(?:host/)?)?(test_\w+?)(?:\.py|_?\.\.\.)?`", page.read_text(encoding="utf-8")):
            assert name in files or any(f"def {name}" in source for source in sources), (page.name, name)
