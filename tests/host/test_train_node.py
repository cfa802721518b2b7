"""UnHypeTrain in process: an eraser made of the graph's own model, which is afterwards what it was, whatever happened."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
TINY = """
templates: ["a {}, google style, on a blue background", "a drawing of a {}, yellow background, twitter style",
            "a {} and a {other}, google style, on a blue background"]
retain: [dog, bear, fish, bird, car, house, book, ball]
neighbours: 0
clip_skips: [1]
size: 64x64
pair_size: 128x64
pictures: 4
pair_prompts: 16
sampling_steps: 4
cfg: 3.0
kept_steps: 2
rank: 2
hidden: 16
iterations: 6
batch: 4
learning_rate: 0.003
retain_batch: 16
"""
ERASE = "pizza -> forest"


@pytest.fixture(scope="module")
def parts(pack):
    """The pack's own modules, as the node has them."""
    inside = sys.modules[f"{pack.module.__name__}.nodes.inside"]
    names = ("trainer.canvas", "trainer.train", "host.graph", "unhype.checkpoint")
    return SimpleNamespace(**{name.rpartition(".")[2]: inside.trainer_module(name) for name in names})


@pytest.fixture(scope="module")
def small(demo, tmp_path_factory):
    """The demo's MODEL with settings by which it trains in seconds."""
    settings = tmp_path_factory.mktemp("settings") / "tiny.yaml"
    settings.write_text(TINY)
    model = demo.model.clone()
    model.set_attachments("unhype_settings", str(settings))
    return model


@pytest.fixture(scope="module")
def erasers(tmp_path_factory):
    """Where these tests' erasers are saved."""
    return tmp_path_factory.mktemp("models") / "unhype"


@pytest.fixture
def folder(comfy, monkeypatch, erasers):
    import folder_paths

    monkeypatch.setattr(folder_paths, "models_dir", str(erasers.parent))
    return erasers


@pytest.fixture
def train(pack, demo, small, folder):
    """A function: run the node as the host runs it; its outputs."""

    def run(model=small, clip=demo.clip, vae=demo.vae, erase=ERASE, **widgets):
        with torch.inference_mode():
            return pack.UnHypeTrain.execute(model, clip, vae, erase, **widgets).result

    return run


def changes(model, before) -> list[str]:
    """Weights that have other bits than before, and what of a training is left on the modules."""
    hooked = lambda m: m._forward_hooks or m._forward_pre_hooks or "forward" in vars(m)
    found = [f"hooked: {name}" for name, m in model.model.named_modules() if hooked(m)]
    found += [f"changed: {name}" for name, value in model.model.state_dict().items() if not torch.equal(value, before[name])]
    return found + [f"requires grad: {name}" for name, p in model.model.named_parameters() if p.requires_grad]


@pytest.fixture(scope="module")
def before(demo):
    import comfy.model_management

    comfy.model_management.unload_all_models()  # the LoRAs of other tests are in the weights until then
    return {name: value.clone() for name, value in demo.model.model.state_dict().items()}


@pytest.fixture(scope="module")
def first():
    """The eraser that the first training made, for the others to compare with."""
    return []


@pytest.fixture
def asked(parts, monkeypatch):
    """What the trainer is asked for, in place of a training: (file name, resume, config, backbone)."""
    calls = []

    def asked(config, backbone, resume, **_):
        calls.append((Path(config.out).name, resume, config, backbone))
        raise InterruptedError

    monkeypatch.setattr(parts.canvas, "train", asked)
    return calls


def test_an_eraser_is_made_and_the_model_is_what_it_was(train, small, before, parts, folder, first):
    path = list(sys.path)
    eraser, verdict = train()
    assert type(eraser) is parts.checkpoint.Eraser and eraser.source.endswith("pizza.safetensors")
    assert [(c.name, c.mapping) for c in eraser.concepts] == [("pizza", "forest")]
    assert eraser.base["name"].startswith("a graph's model #") and eraser.training["iterations"] == 6
    assert verdict.startswith("FAILED: do not rely on this eraser\npizza is still drawn: ")  # six steps erase next to nothing
    assert verdict.endswith("saved as pizza.safetensors") and "pizza: " in verdict and "of the other prompts are left" in verdict
    assert not changes(small, before) and sys.path == path
    assert {p.suffix for p in folder.iterdir()} >= {".safetensors", ".state", ".previews"} and not (folder / "pizza.running").exists()
    first.append(eraser)


def test_at_once_nothing_is_trained(train, parts, folder):
    eraser, verdict = train(preset="instant", name="at once")
    assert eraser.network.shape.rank == 0 and eraser.training["objective"] == "rewriting" and not eraser.onset
    assert verdict.splitlines()[0] in ("passed", "FAILED: do not rely on this eraser") and "pizza: " in verdict
    assert train(preset="instant", name="at once")[1].endswith("saved as at once.safetensors")
    assert not list(folder.glob("at once*.state")) and not list(folder.glob("at once*.cache"))


def test_what_was_made_is_taken_and_nobodys_file_is_overwritten(train, folder, first, asked):
    assert train()[1].endswith("saved as pizza.safetensors") and not asked
    for other in ({"seed": 1}, {"erase": "pizza -> book"}, {"preset": "thorough"}, {"retain": "clock"}):
        with pytest.raises(InterruptedError):
            train(**other)
    assert [call[:2] for call in asked] == [("pizza_2.safetensors", False)] * 4
    assert asked[2][2].iterations == 18 and "clock" in asked[3][2].retain and not (folder / "pizza_2.running").exists()


def test_what_is_no_eraser_keeps_its_name(train, folder, asked):
    folder.mkdir(exist_ok=True)
    (folder / "mine.safetensors").write_text("something else")
    with pytest.raises(InterruptedError):
        train(name="mine")
    assert asked[0][0] == "mine_2.safetensors"


def test_loras_are_trained_on_and_said_in_the_file(train, small, before, first):
    import comfy.model_management
    from comfy.weight_adapter import LoRAAdapter

    model, layer = small, "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    for _ in range(2):
        model, (rows, columns) = model.clone(), before[layer].shape
        adapter = LoRAAdapter(set(), (torch.randn(rows, 2) / 9, torch.randn(2, columns) / 9, None, None, None, None))
        assert model.add_patches({layer: adapter})
    eraser, _ = train(model, name="with")
    plain = first[0]
    assert eraser.base["name"].startswith("a graph's model with 2 LoRAs #")
    assert eraser.base["sketch"] == plain.base["sketch"]  # of what the LoRAs are put on, as the Eraser node compares it
    assert eraser.base["name"].partition("#")[2] != plain.base["name"].partition("#")[2]
    comfy.model_management.unload_all_models()
    assert not changes(small, before)


@pytest.mark.since("0.3.75")  # 0.3.52 looks for a Cancel at the progress bar only, not in the middle of a step
def test_cancel_keeps_what_was_learned_and_run_goes_on(train, small, before, folder, parts, first, monkeypatch):
    import comfy.model_management
    import comfy.utils

    step, done, cancel = parts.train.training_step, [], [True]

    def interrupted(*args, **given):
        done.append(given["iteration"])
        if len(done) == 3:
            comfy.model_management.interrupt_current_processing()  # as Cancel does, in the middle of a step
        return step(*args, **given)

    def hook(*_, **__):
        if len(done) == 5 and cancel:  # between two
            cancel.clear()
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    monkeypatch.setattr(parts.train, "training_step", interrupted)
    for _ in range(2):
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            train(name="stopped")
        assert not changes(small, before) and not (folder / "stopped.safetensors").exists()
    with monkeypatch.context() as inner:
        calls = []
        inner.setattr(parts.canvas, "train", lambda config, *_, **__: calls.append(Path(config.out).name) or 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(name="stopped", erase="pizza -> book")  # another wish does not go on with it
    assert calls == ["stopped_2.safetensors"]
    eraser, verdict = train(name="stopped")
    assert done == [0, 1, 2, 2, 3, 4, 5] and verdict.endswith("saved as stopped.safetensors")
    expected = first[0].network.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in eraser.network.state_dict().items())


def test_after_an_error_the_model_is_what_it_was(train, small, before, parts, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.train, "new_network", full)
    with pytest.raises(OSError, match="No space left"):
        train(name="full")
    assert not changes(small, before)


@pytest.mark.parametrize(
    "widgets, text",
    [
        ({"erase": " \n"}, "erase is empty. Write what is to be forgotten, a concept a line"),
        ({"erase": "cat -> forest\n-> car"}, "erase is '-> car', expected a target and a mapping concept"),
        ({"erase": "cat -> forest\ncat -> car"}, "expected each target once"),
        ({"name": "a/cat"}, "a name without a folder: erasers are saved in models/unhype"),
        ({"name": "cat?"}, "expected one without '?'"),
        ({"name": "NUL"}, "no file's name on every system"),
        ({"preset": "long"}, "expected one of instant, quick, normal, thorough: choose it again"),
        ({"retain": "dog, pizza"}, "take it out of retain or out of erase"),
    ],
)
def test_mistakes_in_the_widgets_are_said_before_anything_is_loaded(train, widgets, text):
    with pytest.raises(ValueError) as error:
        train(model=SimpleNamespace(attachments={}, patches={}, parent=None), **widgets)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_parts_that_do_not_belong_together_are_refused(pack, train, demo, m, small, before):
    with torch.inference_mode():
        erased = pack.UnHypeEraser.execute(demo.model, demo.eraser, 1.0).result[0]
    quantised = m.make_model("sd1")
    for name, p in list(quantised.model.diffusion_model.named_parameters()):
        if name.endswith("attn2.to_k.weight"):
            owner = quantised.model.diffusion_model.get_submodule(name.removesuffix(".weight"))
            owner.weight = torch.nn.Parameter(p.to(torch.uint8), requires_grad=False)
    compiled = m.make_model("sd1")
    compiled.model.diffusion_model.compile()
    small_vae = SimpleNamespace(latent_channels=4)
    cases = [
        ({"clip": None}, "the CLIP input is empty"),
        ({"vae": None}, "the VAE input is empty"),
        ({"model": erased}, "has an UnHype Eraser on it: connect the one from before that node"),
        ({"model": quantised}, "is quantised (GGUF, NF4 or the like"),
        ({"model": compiled}, "is compiled (torch.compile)"),
        ({"model": m.make_model("sd1")}, "the CLIP belongs to another kind of model: its tokens are 128 wide"),
        ({"vae": small_vae}, "the VAE belongs to another kind of model: it has 4 latent channels"),
    ]
    for given, text in cases:
        with pytest.raises(ValueError) as error:
            train(**given)
        assert text in str(error.value), error.value
    assert not changes(small, before)


def test_a_full_disk_is_said_before_the_training(train, parts, monkeypatch, folder, small, before):
    monkeypatch.setattr(parts.canvas.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="has 0.00 GB of free space, this training writes about"):
        train(name="large")
    assert not changes(small, before) and not list(folder.glob("large*"))


def test_patches_beside_loras_are_left_out_and_said(train, small, before, first, asked, caplog):
    patched = small.clone()
    patched.set_model_attn2_patch(lambda q, k, v, extra: (0 * q, k, v))
    patched.set_model_sampler_cfg_function(lambda args: 0 * args["cond"])
    with caplog.at_level("INFO", logger="unhype"), pytest.raises(InterruptedError):
        train(patched, name="patched")
    ((_, _, config, backbone),) = asked
    assert "patches of the MODEL other than LoRAs are left out" in caplog.text
    assert config.base == first[0].base["name"] and backbone.model.model_options == {"transformer_options": {}}
    assert "attn2_patch" in patched.model_options["transformer_options"]["patches"] and not changes(small, before)


def test_names_from_the_graph(pack):
    file_of = sys.modules[f"{pack.module.__name__}.nodes.train"].file_of
    graph = {
        "1": {"inputs": {"ckpt_name": "sd/dream.safetensors"}},
        "2": {"inputs": {"model": ["1", 0], "lora_name": "x.safetensors"}},
        "3": {"inputs": {"model": ["2", 0]}},
        "4": {"inputs": {"model": ["5", 0]}},
        "5": {"inputs": {"model": ["4", 0]}},
    }
    assert file_of(graph, "3") == "dream.safetensors" and file_of(graph, "4") == file_of({}, None) == "a graph's model"


def test_a_file_name_is_made_of_the_concepts(parts):
    config = lambda *entries: SimpleNamespace(erased=lambda: [SimpleNamespace(name=e) for e in entries])
    name = parts.canvas.file_name
    assert name("", config("cat", "a dog/wolf")) == "cat_a-dog-wolf" and name("", config("con")) == "con_"
    assert name("", config(*"abcd")) == "a_b_c" and name("", config("?")) == "eraser" and name(" my cat.safetensors ", config()) == "my cat"


def test_inside_the_pack_nothing_is_at_the_top(parts):
    assert parts.train.__name__ == "unhype_pack.trainer.train" and parts.train.load_eraser is parts.checkpoint.load_eraser
    assert parts.canvas.Backbone.__module__ == "unhype_pack.host.backbone"
