"""The pack's door, called as older and as newer hosts do."""

import asyncio

import pytest


@pytest.mark.parametrize("calls", [["get_node_list"], ["on_load", "get_node_list"], ["on_load", "get_node_list", "get_node_list"]])
def test_folders_are_registered_once_and_before_the_nodes(pack, monkeypatch, calls):
    """ComfyUI calls on_load from 0.14.0 on."""
    import unhype_pack.nodes as nodes

    done = []
    usual = nodes.UnHypeLoader.define_schema
    monkeypatch.setattr(nodes, "register_folders", lambda: done.append("folders"))
    monkeypatch.setattr(nodes.UnHypeLoader, "define_schema", classmethod(lambda cls: done.append("schema") or usual()))

    async def load():
        extension = await pack.module.comfy_entrypoint()
        for name in calls:
            found = await getattr(extension, name)()
        return [node.define_schema().node_id for node in found]

    names = ("Loader", "Eraser", "Train", "Inspect", "Merge", "ToLora", "DemoModel")
    assert asyncio.run(load()) == [f"UnHype{name}" for name in names]
    assert done == ["folders", "schema"]
