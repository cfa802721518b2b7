"""The language benchmark at work: a quick run on MiniLM, its report's layout and figures that make sense."""

import json

import pytest
import torch

SHARES = ("misses", "false_alarms", "false_alarms_prompts", "missed_long", "missed_tags")
NAMES = ["cat", "dog", "gun", "car", "horse", "pizza", "church", "Van Gogh", "nudity", "Barack Obama"]


@pytest.fixture(scope="module")
def quick(comfy, tmp_path_factory):
    from benchmarks.language import bench

    out = tmp_path_factory.mktemp("language")
    said = []
    result = bench.run(bench.HERE / "quick_captions.txt", bench.HERE / "quick_prompts.txt", out, list(bench.FILES), True, said.append)
    return result, out, said


def test_the_report_has_the_layout_of_the_issue(quick):
    result, out, _ = quick
    assert json.loads((out / "language.json").read_text(encoding="utf-8")) == result
    assert [(c["file"], c["name"]) for c in result["concepts"]] == [(1, "cat"), *((10, name) for name in NAMES)]
    assert all(0 <= c[key] <= 1 for c in result["concepts"] for key in SHARES)
    assert [a["file"] for a in result["any"]] == [10] and all(0 <= a[key] <= 1 for a in result["any"] for key in ("captions", "prompts"))
    assert result["texts"]["captions"] > 140 and result["texts"]["prompts"] > 50 and result["texts"]["made_long"] == 20 * len(NAMES)
    page = (out / "language.md").read_text(encoding="utf-8")
    assert all(f"| {name} |" in page for name in NAMES) and "hot dog" in page


def test_its_figures_are_those_of_a_switch_that_works(quick):
    result, *_ = quick
    for c in result["concepts"]:
        assert c["auc"] > 0.97 and c["misses"] < 0.2 and c["false_alarms"] < 0.2, c
    mean = lambda key: sum(c[key] for c in result["concepts"]) / len(result["concepts"])
    assert mean("misses") < 0.05 and mean("missed_long") < 0.2 and mean("missed_tags") < 0.1
    margins = [e["margin"] for e in result["examples"][0]["highest_false_alarms"]]
    assert margins == sorted(margins, reverse=True) and len(margins) == 15


def test_given_texts_are_encoded_once(quick):
    from benchmarks.language.encoder import TextOnly, encoded
    from demo.minilm import load_clip

    _, out, said = quick
    assert sum(line.startswith("encoding") for line in said) == 3
    backbone, more = TextOnly(load_clip()), []
    texts = ["a cat", "a (weighted:1.3) dog in a very long sentence that goes on", "a horse"]
    first = encoded(backbone, texts, out / "more", "key", more.append)
    again = encoded(backbone, texts, out / "more", "key", more.append)
    assert len(more) == 1 and first.lengths.tolist() == again.lengths.tolist()
    for row, text in enumerate(texts):  # each as ComfyUI encodes it alone
        states, pooled = backbone.clip.encode_from_tokens(backbone.clip.tokenize(text), return_pooled=True)
        condition = again.condition(torch.tensor([row]))
        assert condition.mask.sum() == states.shape[1]
        assert (condition.tokens[0] - states[0]).abs().max() < 2e-3 and (condition.pooled - pooled).abs().max() < 2e-3


def test_texts_that_nothing_can_be_made_of_are_an_error(comfy, tmp_path):
    from benchmarks.language import bench

    few = tmp_path / "few.txt"
    few.write_text("a cat\na dog\n")
    with pytest.raises(ValueError, match=r"few\.txt holds 2 captions .* expected at least 100"):
        bench.run(few, few, tmp_path, ["1"], True)
