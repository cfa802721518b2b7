"""UnHypeToLora: core's own nodes load and save what it gives, and it is the adapter."""

import re

import pytest
import torch

KEYS = ("kohya", "diffusers")


def lora_of(pack, eraser, conditioning, keys, strength=1.0):
    return pack.UnHypeToLora.execute(eraser, conditioning, strength, "", keys).result[0]


def loaded(s, model, lora, strength=1.0):
    """By core's Load LoRA Model."""
    from comfy_extras.nodes_train import LoraModelLoader

    return s.run(LoraModelLoader, model, lora, strength)[0]


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "flux-dev", "flux-schnell"])
def test_cores_loader_makes_of_it_what_the_weight_patch_makes(pack, s, m, caplog, name, keys):
    model = m.make_model(name)
    eraser, prompt = m.make_eraser(name, model), m.prompt(name)
    draw = lambda model: m.sample(model, prompt, prompt, m.noise(name), cfg=1.0, steps=2)
    plain, patch = draw(model), draw(pack.UnHypeEraser.execute(model, eraser, 1.0, prompt, "", "weight patch").result[0])
    baked = draw(loaded(s, model, lora_of(pack, eraser, prompt, keys)))
    assert m.distance(baked, patch) < 1e-5 < 0.01 < m.distance(patch, plain)
    assert "not loaded" not in caplog.text.lower() and "ERROR" not in caplog.text


@pytest.mark.parametrize("keys", KEYS)
def test_with_a_model_it_holds_what_the_eraser_rewrites(pack, s, m, caplog, keys):
    caplog.set_level("INFO")
    model = m.make_model("sdxl")
    eraser, prompt = m.make_eraser("sdxl", model, rewrite=4), m.prompt("sdxl")
    draw = lambda model: m.sample(model, prompt, prompt, m.noise("sdxl"), cfg=1.0, steps=2)
    patch = draw(pack.UnHypeEraser.execute(model, eraser, 1.0, prompt, "", "weight patch").result[0])
    given, without = (pack.UnHypeToLora.execute(eraser, prompt, 1.0, "", keys, wired).result[0] for wired in (model, None))
    baked, less = draw(loaded(s, model, given)), draw(loaded(s, model, without))
    assert m.distance(baked, patch) < 1e-4 < 0.01 < m.distance(less, patch)
    assert caplog.text.count("random.safetensors rewrites words too: connect model") == 1


def test_a_model_that_the_eraser_is_not_for_is_refused(pack, m):
    model = m.make_model("sd1")
    with pytest.raises(ValueError, match="random.safetensors was trained for Stable Diffusion 1"):
        pack.UnHypeToLora.execute(m.make_eraser("sd1", model), m.prompt("sd1"), 1.0, "", "kohya", m.make_model("flux-dev"))


def test_saved_by_core_and_loaded_as_a_file_it_is_the_same(pack, s, demo, prompts, tmp_path, monkeypatch):
    import comfy.utils
    import folder_paths
    from comfy_extras.nodes_train import SaveLoRA

    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    lora = lora_of(pack, demo.eraser, prompts["erased"], "kohya", 1.5)
    s.run(SaveLoRA, lora, "loras/forgets_cat")
    (file,) = tmp_path.rglob("*.safetensors")
    found = comfy.utils.load_torch_file(str(file))
    assert found.keys() == lora.keys() and all(torch.equal(found[k], lora[k]) for k in lora)
    draw = lambda model: s.sample(model, prompts["erased"], prompts["erased"], s.noise(), cfg=1.0)
    adapter = draw(pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.5).result[0])
    assert (draw(loaded(s, demo.model, found)) - adapter).norm() < 1e-3 * adapter.norm()


def test_the_names_are_those_of_whole_models(pack):
    """Against core's own tables, of Stable Diffusion 1.5, SDXL, the small one with a block a level, and Flux."""
    import comfy.utils
    from unhype_pack.unhype.hypernetwork import Factors
    from unhype_pack.unhype.layers import Layer
    from unhype_pack.unhype.lora import as_lora

    sd15 = {"num_res_blocks": [2] * 4, "channel_mult": (1, 2, 4, 4), "transformer_depth": [1] * 6 + [0] * 2, "transformer_depth_middle": 1}
    sd15["transformer_depth_output"] = [1] * 9 + [0] * 3
    sdxl = {"num_res_blocks": [2] * 3, "channel_mult": (1, 2, 4), "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10}
    sdxl["transformer_depth_output"] = [0, 0, 0, 2, 2, 2, 10, 10, 10]
    koala = {"num_res_blocks": [1] * 3, "channel_mult": (1, 2, 4), "transformer_depth": [0, 2, 5], "transformer_depth_middle": 0}
    koala["transformer_depth_output"] = [0, 0, 2, 2, 5, 5]
    pair = Factors(torch.zeros(1, 1, 8), torch.zeros(1, 8, 1))
    for config in (sd15, sdxl, koala):
        table = comfy.utils.unet_to_diffusers(config)
        names = {k: v for k, v in table.items() if re.fullmatch(r".*\.attn2\.to_[kv]\.weight", k)}
        depths = [*config["transformer_depth"], *config["transformer_depth_output"], config["transformer_depth_middle"]]
        assert len(names) == 2 * sum(depths)
        lora = as_lora({Layer(v.removesuffix(".weight"), 8, 8): pair for v in names.values()}, "diffusers")
        ours = {key.removesuffix("_lora.up.weight") for key in lora if key.endswith("_lora.up.weight")}
        assert ours == {f"unet.{k.removesuffix('.weight').replace('.to_', '.processor.to_')}" for k in names}


def test_layers_without_a_name_are_refused_with_the_other_keys_named(pack):
    from unhype_pack.unhype.hypernetwork import Factors
    from unhype_pack.unhype.layers import Layer
    from unhype_pack.unhype.lora import as_lora

    pair = Factors(torch.zeros(1, 1, 8), torch.zeros(1, 8, 1))
    with pytest.raises(ValueError, match="layer strange.layer has no diffusers name here: choose kohya keys"):
        as_lora({Layer("strange.layer", 8, 8): pair}, "diffusers")
    with pytest.raises(ValueError, match="layer strange.layer is fused .* choose diffusers keys"):
        as_lora({Layer("strange.layer", 8, 8, 16): pair}, "kohya")


def test_a_prompt_that_means_nothing_erased_is_refused(pack, demo, prompts):
    with pytest.raises(ValueError, match="there is nothing to bake: nothing fired; nearest: cat at -.*Connect a prompt that means one"):
        lora_of(pack, demo.eraser, prompts["safe"], "kohya")
    with pytest.raises(ValueError, match="conditioning: nothing is connected, but UnHype to LoRA needs the one prompt"):
        lora_of(pack, demo.eraser, None, "kohya")
    with pytest.raises(ValueError, match="unhype: nothing is connected"):
        lora_of(pack, None, prompts["erased"], "kohya")


def test_it_says_that_a_baked_lora_follows_no_prompt(pack):
    from pathlib import Path

    schema = pack.UnHypeToLora.define_schema()
    page = (Path(__file__).resolve().parents[2] / "web/docs/UnHypeToLora.md").read_text()
    for text in (schema.description, schema.outputs[0].tooltip, page):
        assert "follows the prompt no more" in text
