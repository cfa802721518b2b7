"""The help pages: every node has one, and what they quote is what the nodes say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "web" / "docs"
NODES = ("UnHypeLoader", "UnHypeEraser", "UnHypeTrain", "UnHypeInspect", "UnHypeMerge", "UnHypeToLora", "UnHypeDemoModel")


@pytest.mark.parametrize("node", NODES)
def test_every_input_and_every_node_is_explained(pack, node):
    page = (PAGES / f"{node}.md").read_text()
    for item in getattr(pack, node).define_schema().inputs:
        assert re.search(rf"\| {item.id}( \(optional\))? \|", page), item.id
        assert item.tooltip
    assert "## Messages" in page and f"]({node}.webp)" in page and (PAGES / f"{node}.webp").is_file()


@pytest.mark.parametrize("node", NODES)
def test_messages_of_the_help_pages_are_the_codes_own(node):
    """Quoted in pieces, with ... for what changes from one to the next."""
    code = "".join(p.read_text() for folder in ("nodes", "unhype", "host", "trainer") for p in (ROOT / folder).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a message over several lines
    for row in re.findall(r"^\| (.*?) \|", (PAGES / f"{node}.md").read_text().split("## Messages")[1], re.M):
        for piece in re.split(r"\.\.\.|\(console\)|, is |[:;]", row):
            piece = re.sub(r"\bnan\b.*|^is ", "", piece.strip())
            assert piece in code or piece in ("", "it says", "---"), (row, piece)


def test_the_demo_page_lists_every_noun_and_word():
    from demo.captions import NOUNS

    page = (PAGES / "UnHypeDemoModel.md").read_text()
    for noun, (_, words) in NOUNS.items():
        assert f"| {noun} | {', '.join(words[1:])} |" in page
