"""Every node: tooltips on all that goes in and comes out, a category, words to be found by where the host takes them."""

from dataclasses import fields

import pytest

NODES = ("UnHypeLoader", "UnHypeEraser", "UnHypeInspect", "UnHypeMerge", "UnHypeToLora", "UnHypeDemoModel")


@pytest.mark.parametrize("node", NODES)
def test_everything_has_a_tooltip(pack, node):
    schema = getattr(pack, node).define_schema()
    assert schema.node_id == node and schema.category in ("unhype", "unhype/advanced") and schema.description
    for item in (*schema.inputs, *schema.outputs):
        assert item.tooltip and len(item.tooltip) > 20


def test_search_words_are_passed_where_the_host_has_a_place_for_them(pack, monkeypatch):
    import dataclasses

    import unhype_pack.nodes.schema as schema

    newer = dataclasses.make_dataclass("Schema", ["node_id", ("search_aliases", list, None)])
    older = dataclasses.make_dataclass("Schema", ["node_id"])
    for kind in (newer, older):
        monkeypatch.setattr(schema, "io", type("io", (), {"Schema": kind}))
        made = schema.schema(node_id="x", search=schema.ERASING)
        assert getattr(made, "search_aliases", None) == (schema.ERASING if "search_aliases" in {f.name for f in fields(kind)} else None)


def test_the_list_of_files_says_what_they_erase(pack):
    (file,) = pack.UnHypeLoader.define_schema().inputs
    assert "demo_four.safetensors: cat, dog -> forest; pizza -> cake; car -> boat" in file.tooltip.splitlines()
    said = file.as_dict()["erasers"]  # for the front end
    assert said["demo_four.safetensors"]["concepts"] == ["cat", "dog", "pizza", "car"]
    assert said["demo_flux_cat.safetensors"]["text"].startswith("cat -> forest\nfor Flux.1")


def test_a_long_list_of_files_has_a_short_tooltip(pack):
    import unhype_pack.nodes.loader as loader

    many = {f"{i}.safetensors": loader.Told("x" * 400 + "\nfor y", ["x"]) for i in range(100)}
    assert len(loader.tooltip(many).splitlines()) == 14 and len(loader.tooltip(many)) < 3000


@pytest.mark.parametrize("said", ["", "[]", '{"concepts": 5}', '{"concepts": [{"name": "x"}]}', '{"concepts": [], "family": "y"}'])
def test_a_header_that_says_nothing_is_no_crash(pack, tmp_path, said):
    from safetensors.torch import save_file
    from unhype_pack.nodes.told import told_by_header

    path = tmp_path / "odd.safetensors"
    save_file({}, path, {"unhype": said})
    assert told_by_header(str(path), path.stat().st_size, hash(said)) is None


def test_the_loader_says_what_it_loaded(pack, monkeypatch):
    import unhype_pack.nodes.loader as loader

    said = []
    monkeypatch.setattr(loader, "tell", lambda node, source, text: said.append(text))
    output = pack.UnHypeLoader.execute("demo_four.safetensors")
    assert output.result[1] == said[0]
    assert said[0].startswith("cat, dog -> forest; pizza -> cake; car -> boat\nfor Stable Diffusion 1.x, trained on ")


def test_what_a_strangers_file_calls_its_concepts_is_no_html(pack, demo, prompts, s, monkeypatch):
    """The front end puts a node's text into the page as HTML."""
    import dataclasses
    import sys
    from types import SimpleNamespace

    package, sent = sys.modules[type(demo.eraser).__module__], []
    instance = SimpleNamespace(client_id="mine", send_progress_text=lambda text, node, sid: sent.append(text))
    monkeypatch.setitem(sys.modules, "server", SimpleNamespace(PromptServer=SimpleNamespace(instance=instance)))
    evil = dataclasses.replace(demo.eraser, concepts=[package.Concept("<img src=x onerror=alert(1)>", "forest")], digest="evil")
    patching = sys.modules[f"{pack.module.__name__}.nodes.patching"]
    s.sample(patching.erase(demo.model, evil, 1.0, node="7"), prompts["erased"], prompts["empty"], s.noise(), steps=1)
    assert sent and all("<" not in text and "img src" in text for text in sent)
