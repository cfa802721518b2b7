"""Settings: every wrong one is refused by a message that says where, what was found and what was expected."""

import json

import pytest
import yaml

from trainer.config import Config, ConfigError, from_mapping, parse_arguments, read_yaml

GOOD = {"base": "demo", "erase": ["cat -> forest"], "out": "out/cat.safetensors", "retain": ["dog", "forest"]}


def test_good_settings_and_their_defaults():
    erase = ["cat -> forest", " red car->bus "]
    config = from_mapping({**GOOD, "erase": erase, "guidance": 2, "size": "64x128", "pair_size": "96x64"}, "a.yaml")
    assert config.pairs() == [("cat", "forest"), ("red car", "bus")]
    assert config.guidance == 2.0 and type(config.guidance) is float
    assert config.size_of(False) == (64, 128) and config.size_of(True) == (96, 64)
    assert from_mapping({**GOOD, "size": "64x128"}, "a.yaml").size_of(True) == (64, 128)
    assert config.rank == Config().rank and json.loads(config.to_json())["erase"] == config.erase


@pytest.mark.parametrize(
    "key, says",
    [
        ("learning_rat", "did you mean learning_rate?"),
        ("itertions", "did you mean iterations?"),
        ("zzz", "known settings: base, erase"),
        (3, "known settings: base"),
    ],
)
def test_unknown_settings(key, says):
    with pytest.raises(ConfigError) as error:
        from_mapping({**GOOD, key: 1}, "a.yaml")
    assert str(error.value).startswith(f"a.yaml: unknown setting {key!r}; ") and says in str(error.value)


@pytest.mark.parametrize(
    "changes, found, expected",
    [
        # concepts
        ({"erase": []}, "erase is []", 'like "cat -> forest"'),
        ({"erase": ["cat"]}, "erase is 'cat'", "a target and a mapping concept"),
        ({"erase": ["-> forest"]}, "erase is '-> forest'", "a target and a mapping concept"),
        ({"erase": ["cat -> "]}, "erase is 'cat -> '", "a target and a mapping concept"),
        ({"erase": ["cat -> dog -> bus"]}, "erase is 'cat -> dog -> bus'", "a target and a mapping concept"),
        ({"erase": ["cat -> Cat"]}, "erase is 'cat -> Cat'", "a mapping concept that is not the target"),
        ({"erase": ["cat -> bus", "Cat -> forest"]}, "'Cat -> forest'", "each target once"),
        ({"erase": ["cat -> lion", "lion -> forest"]}, "'lion -> forest'", "mapping concepts that are not erased themselves (lion is)"),
        ({"retain": ["dog", "Cat "]}, "retain is 'Cat '", "take it out of retain or out of erase"),
        ({"retain_prompts": ["a dog", "two Cats and a cat."]}, "retain_prompts is 'two Cats and a cat.'", "do not name a target"),
        ({"templates": ["a photo"]}, "templates is ['a photo']", "{}"),
        ({"templates": ["a {} and a {other}"]}, "templates is", "at least one of them without {other}"),
        # types
        ({"erase": "cat -> forest"}, "erase is 'cat -> forest'", "a list"),
        ({"retain": ["dog", 7]}, "retain is ['dog', 7]", "a list of texts"),
        ({"clip_skips": ["1"]}, "clip_skips is ['1']", "a list of whole numbers"),
        ({"rank": "4"}, "rank is '4'", "a whole number"),
        ({"rank": 4.5}, "rank is 4.5", "a whole number"),
        ({"rank": True}, "rank is True", "a whole number"),
        ({"base": None}, "base is None", "a text"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'", "a number"),
        ({"guidance": float("nan")}, "guidance is nan", "a number"),
        ({"cfg": float("inf")}, "cfg is inf", "a number"),
        # values
        ({"rank": -1}, "rank is -1", "above 0"),
        ({"batch": 0}, "batch is 0", "above 0"),
        ({"learning_rate": -1e-3}, "learning_rate is -0.001", "above 0"),
        ({"guidance": -0.5}, "guidance is -0.5", "0 or more"),
        ({"retain_weight": -1}, "retain_weight is -1", "0 or more"),
        ({"seed": -1}, "seed is -1", "0 or more"),
        ({"clip_skips": [0]}, "clip_skips is [0]", "1 or more"),
        ({"objective": "magic"}, "objective is 'magic'", "direct or trajectory"),
        ({"autocast": "fp8"}, "autocast is 'fp8'", "none or bf16"),
        ({"base": ""}, "base is ''", '"demo"'),
        ({"out": "out/cat.pt"}, "out is 'out/cat.pt'", ".safetensors"),
        ({"kept_steps": 30}, "kept_steps is 30", "at most sampling_steps, which is 20"),
        ({"size": "100x64"}, "size is '100x64'", "multiples of 8"),
        ({"size": "64x8"}, "size is '64x8'", "multiples of 8"),
        ({"pair_size": "64"}, "pair_size is '64'", "width and height"),
        ({"size": ""}, "size is ''", "width and height"),
    ],
)
def test_wrong_settings(changes, found, expected):
    with pytest.raises(ConfigError) as error:
        from_mapping({**GOOD, **changes}, "a.yaml")
    message = str(error.value)
    assert message.startswith(f"a.yaml: {next(iter(changes))} is ") and found in message and expected in message.split(", expected ", 1)[1]


def test_a_target_inside_another_word_is_no_target():
    prompts = ["a caterpillar", "concatenation"]
    assert from_mapping({**GOOD, "retain_prompts": prompts}, "a.yaml").retain_prompts == prompts


@pytest.mark.parametrize(
    "text, says",
    [
        ("", "found NoneType"),
        ("- a\n- b", "found list"),
        ("base: [", "cannot be read as YAML"),
        (None, "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_mapping(tmp_path, text, says):
    path = tmp_path / "a.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert str(error.value).startswith(f"{path}: ") and says in str(error.value)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(yaml.safe_dump({**GOOD, "rank": 8}))
    return str(path)


def test_options_override_the_file(path):
    config, arguments = parse_arguments(
        [
            "--config",
            path,
            "--rank",
            "2",
            "--erase",
            "ship -> bus",
            "car -> bus",
            "--learning-rate",
            "1e-3",
            "--clip-skips",
            "1",
            "--resume",
        ],
        "",
    )
    assert (config.rank, config.learning_rate, config.clip_skips, config.base) == (2, 1e-3, [1], "demo")
    assert config.pairs() == [("ship", "bus"), ("car", "bus")] and config.retain == ["dog", "forest"]
    assert arguments.resume and arguments.comfyui is None
    assert parse_arguments(["--config", path], "")[0].rank == 8


def test_options_alone_are_enough():
    config, _ = parse_arguments(["--base", "demo", "--erase", "cat -> forest", "--out", "cat.safetensors", "--seed", "3"], "")
    assert (config.base, config.pairs(), config.out) == ("demo", [("cat", "forest")], "cat.safetensors")
    assert (config.seed, config.rank) == (3, Config().rank)


def test_a_wrong_option_is_named(path, capsys):
    with pytest.raises(ConfigError, match="^command line: base is ''"):
        parse_arguments(["--erase", "cat -> forest"], "")
    with pytest.raises(ConfigError) as error:
        parse_arguments(["--config", path, "--learning-rate", "-1", "--rank", "2"], "")
    assert str(error.value) == f"{path} with --rank --learning-rate: learning_rate is -1.0, expected a number above 0"
    with pytest.raises(SystemExit):
        parse_arguments(["--config", path, "--rank", "many"], "")
    assert "--rank: invalid int value: 'many'" in capsys.readouterr().err
