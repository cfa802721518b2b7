"""The page beside an eraser: what it says of a training, in a file that stands alone and that nobody's text can break."""

import dataclasses
import json
import re
from html.parser import HTMLParser

import pytest
import torch

from trainer.config import Config
from trainer.page import curves
from trainer.page.html import Facts, Row, page
from trainer.page.keeper import Page, in_words, rows_of
from trainer.run.beside import log_path, page_path
from trainer.run.health import Finding
from unhype.checkpoint import Concept

EVIL = "</title><script>alert(1)</script>\"'&<img src=http://evil.example/x.png onerror=alert(1)>"


class Read(HTMLParser):
    """Tags with their attributes, and all text, of a page whose tags are all closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def facts(**changes) -> Facts:
    pictures = torch.rand(6, 8, 8, 3, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(
        Facts(
            name="cat",
            concepts=[("cat", "forest")],
            about=[("base model", "demo")],
            settings=[("rank", "4")],
            iterations=300,
            done=150,
            status="Training: step 150 of 300",
            written="2026-01-02 03:04",
            curves={"task": [(1, 1.0), (150, 0.25)], "retain": [(1, 0.0)], "gradient": [(1, 0.0), (150, 0.0)]},
            findings=[Finding("kept", "leaks nothing"), Finding("learning", "the gradient is zero", True)],
            rows=rows_of(["erased: a cat", "kept: a dog"], ["no eraser", "half", "full"], pictures),
            pictured=100,
            verdict=["verdict:", "  FAILED 'cat': 3% reached"],
        ),
        **changes,
    )


def test_it_shows_all_that_there_is_and_needs_nothing_else():
    text = page(facts())
    read = Read(text)
    said = " ".join(read.text)
    for words in (
        "cat \N{RIGHTWARDS ARROW} forest",
        "step 150 of 300",
        "The gradient is zero",
        "FAILED 'cat': 3% reached",
        "a dog",
        "demo",
    ):
        assert words in said, words
    names = [tag for tag, _ in read.tags]
    assert names.count("svg") == 3 and names.count("img") == 6 and "script" not in names
    bad = re.findall(r'<li class="bad">(.*?)</li>', text)
    assert bad == ["FAILED &#x27;cat&#x27;: 3% reached", "The gradient is zero"]
    links = [value for _, attributes in read.tags for name, value in attributes.items() if name in ("src", "href", "srcset", "data")]
    assert links and all(link.startswith("data:image/jpeg;base64,") for link in links)
    assert "http" not in re.sub(r"http-equiv", "", text) and "default-src 'none'" in text


def test_every_text_is_escaped():
    evil = facts(
        name=EVIL,
        concepts=[(EVIL, EVIL)],
        about=[(EVIL, EVIL)],
        settings=[(EVIL, EVIL)],
        status=EVIL,
        written=EVIL,
        findings=[Finding(EVIL, EVIL, True)],
        rows=[Row(EVIL, {EVIL: b""}, False)],
        verdict=[EVIL],
    )
    plain, read = Read(page(facts(rows=facts().rows[:1]))), Read(page(evil))
    kinds = lambda r: {(tag, *sorted(attributes)) for tag, attributes in r.tags}
    assert kinds(read) <= kinds(plain) | {("img", "alt", "src")}
    assert "".join(read.text).count("<script>alert(1)</script>") == 14


def test_a_page_that_has_just_begun_has_no_empty_parts():
    text = page(Facts("cat", [("cat", "forest")], [], [], 300))
    assert not re.search("Verdict|Health|Before and after|Curves", text) and 'http-equiv="refresh"' in text
    assert 'http-equiv="refresh"' not in page(facts(running=False))


# Curves


def test_a_log_is_read_into_means(tmp_path):
    log = tmp_path / "cat.jsonl"
    lines = [{"iteration": i, "task": float(i % 2), "retain": 2.0, "seconds": i} for i in range(1, 1601)]
    lines[3] = {"iteration": 4, "left_out": True, "seconds": 4}
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"verdict": {}}\n[1]\n{"iteration": 1601, "task": NaN}\n{"iterat'
    log.write_text(text, encoding="utf-8")
    found = curves.read(log, 1600)
    assert found.keys() == {"task", "retain"} and len(found["task"]) == curves.POINTS
    assert {value for _, value in found["retain"]} == {2.0} and {value for _, value in found["task"][1:]} == {0.5}
    assert found["task"][1][0] == 15.5 and found["task"][0][1] == pytest.approx(5 / 9)


@pytest.mark.parametrize("highest", [0.0, 1e-12, 0.0031, 0.99, 1.0, 7.2, 123456.0])
def test_numbers_of_an_axis_are_round_and_reach_beyond_the_curve(highest):
    marks = curves.ticks(highest)
    assert 2 <= len(marks) <= 5 and marks[0] == 0 and marks[-1] >= highest * (1 - 1e-6)
    assert f"{marks[1]:.6e}".partition("e")[0].rstrip("0") in ("1.", "2.", "5.")


@pytest.mark.parametrize("points", [[(1, 0.5)], [(1, 0.0), (2, 0.0)], [(1, 1.0), (300, 0.0)]])
def test_a_curve_stays_inside_its_picture(points):
    svg = curves.chart(points, 300, "words")
    numbers = re.findall(r"points=\"([^\"]*)\"|cx=\"([\d.]+)\" cy=\"([\d.]+)\"", svg)
    assert numbers
    pairs = re.findall(r"(-?[\d.]+),(-?[\d.]+)", numbers[0][0]) or [numbers[0][1:]]
    assert len(pairs) == len(points)
    for x, y in pairs:
        assert curves.LEFT <= float(x) <= curves.WIDTH - curves.RIGHT and curves.TOP <= float(y) <= curves.HEIGHT - curves.BOTTOM


# While it is trained


@pytest.fixture
def kept(tmp_path):
    """A page of a training, what it said, and its text as it is on the disk."""
    config = Config(
        base="/home/me/models/painter.safetensors", erase=["cat -> forest"], out=str(tmp_path / "cat.safetensors"), iterations=300
    )
    log_path(config.out).write_text('{"iteration": 1, "task": 1.0, "seconds": 1}\n')
    said = []
    new = lambda done=0: Page(config, "Stable Diffusion 1.x", [Concept("cat", "forest")], done, said.append)
    return new, said, lambda: page_path(config.out).read_text(encoding="utf-8")


def test_it_says_how_far_the_training_is_and_how_it_ended(kept, tmp_path):
    new, said, text = kept
    with new() as own:
        assert "Training: step 0 of 300" in text() and "/home/me" not in text() and "painter.safetensors" in text()
        own.refresh(100, [Finding("kept", "all is well")], None, (90.0, 30.0))
        assert "step 100 of 300, about 2 minutes left until the verdict" in text() and "All is well" in text()
        own.refresh(300, [])
        own.heard("verdict: passed")
    assert "Passed:" in text() and said == ["verdict: passed"] and '"status good"' in text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat.html", "cat.jsonl"]


@pytest.mark.parametrize(
    "error, words",
    [(KeyboardInterrupt(), "and saved: resume it to go on"), (ValueError("<b>dis</b>k"), "an error after step 7: &lt;b&gt;dis&lt;/b&gt;k")],
)
def test_a_training_that_ends_early_leaves_its_reason(kept, error, words):
    new, _, text = kept
    with pytest.raises(type(error)), new(7):
        raise error
    assert words in text() and 'http-equiv="refresh"' not in text()


def test_a_missed_bar_is_said_at_the_top(kept):
    new, _, text = kept
    with new() as own:
        own.heard("  FAILED 'cat': nothing")
    assert "FAILED: do not rely on this eraser" in text() and '"status bad"' in text()


def test_a_page_that_cannot_be_written_ends_no_training(kept, tmp_path):
    new, said, _ = kept
    (tmp_path / "cat.html").mkdir()
    with new() as own:
        own.refresh(1, [])
    assert len(said) == 1 and "cat.html could not be written" in said[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cat.html", "cat.jsonl"]


def test_pictures_lie_with_their_prompts_and_large_ones_are_made_smaller():
    from io import BytesIO

    from PIL import Image

    pictures = torch.stack([torch.full((640, 320, 3), i / 6) for i in range(6)])
    rows = rows_of(["a", "b"], ["no eraser", "half", "full"], pictures)
    grey = lambda data: round(Image.open(BytesIO(data)).getpixel((5, 5))[0] / 255 * 6)
    assert [[grey(data) for data in row.pictures.values()] for row in rows] == [[0, 2, 4], [1, 3, 5]]
    assert Image.open(BytesIO(rows[0].pictures["full"])).size == (160, 320) and not rows[0].small


@pytest.mark.parametrize("seconds, words", [(0.2, "1 seconds"), (89, "89 seconds"), (100, "2 minutes"), (7200, "2.0 hours")])
def test_times_in_words(seconds, words):
    assert in_words(seconds) == words
