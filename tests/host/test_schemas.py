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
    assert "demo_four.safetensors: cat, dog -> forest; pizza -> cake; car -> boat (Stable Diffusion 1.x)" in file.tooltip
    assert "demo_flux_cat.safetensors: cat -> forest (Flux.1)" in file.tooltip


def test_the_loader_says_what_it_loaded(pack, monkeypatch):
    import unhype_pack.nodes.loader as loader

    said = []
    monkeypatch.setattr(loader, "tell", lambda node, source, text: said.append(text))
    output = pack.UnHypeLoader.execute("demo_four.safetensors")
    assert output.result[1] == said[0] == output.ui["text"][0]
    assert said[0].startswith("cat, dog -> forest; pizza -> cake; car -> boat\nfor Stable Diffusion 1.x, trained on ")
