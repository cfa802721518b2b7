"""Settings: every wrong one is refused by a message that says where, what was found and what was expected."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from trainer.config import DEFAULT, EXPECTED, Config, ConfigError, from_mapping, parse_arguments, read_yaml
from trainer.objectives import OBJECTIVES
from trainer.prompts.words import RETAIN
from unhype.description import LIMITS

GOOD = {"base": "demo", "erase": ["cat -> forest"], "out": "out/cat.safetensors", "retain": ["dog", "forest"]}


def taken_apart(config: Config) -> list:
    return [(e.words, e.mapping) for e in config.erased()]


def test_good_settings_and_their_defaults():
    erase = ["cat, kitty -> forest", " red car->bus ", "owl -> ? animal", "ghost"]
    config = from_mapping({**GOOD, "erase": erase, "guidance": 2, "size": "64x128", "pair_size": "96x64"}, "a.yaml")
    assert taken_apart(config) == [(("cat", "kitty"), "forest"), (("red car",), "bus"), (("owl",), "? animal"), (("ghost",), "?")]
    assert config.guidance == 2.0 and type(config.guidance) is float
    assert config.size_of(False) == (64, 128) and config.size_of(True) == (96, 64)
    assert from_mapping({**GOOD, "size": "64x128"}, "a.yaml").size_of(True) == (64, 128)
    assert config.rank == Config().rank and config.erase == erase
    assert (config.neighbours, config.templates_for, config.add_to, config.remove) == (8, {}, "", [])


def test_a_concept_has_its_own_templates_or_the_common_ones():
    own = {"cat": ["a {} asleep"]}
    config = from_mapping({**GOOD, "erase": ["cat, kitty -> forest", "owl"], "templates": ["a {}"], "templates_for": own}, "a.yaml")
    assert [e.templates for e in config.erased()] == [("a {} asleep",), ("a {}",)]


def test_the_built_in_retain_list_leaves_out_what_shares_a_word_with_a_target():
    values = {k: v for k, v in GOOD.items() if k != "retain"}
    kept = from_mapping({**values, "erase": ["hound, dog -> forest", "Man -> woman"]}, "a.yaml").retain
    assert [name for name in RETAIN if name not in kept] == ["dog", "man", "old man"] and set(kept) < set(RETAIN)


def test_an_explicit_retain_list_loses_what_is_erased_and_says_so(capsys):
    values = {**GOOD, "erase": ["cat, Kitty -> bus"], "retain": ["dog", "Cat ", "kitty", "black cat"]}
    assert from_mapping(values, "a.yaml").retain == ["dog", "black cat"]
    assert capsys.readouterr().err == "a.yaml: 'Cat ', 'kitty' is erased, and taken out of retain\n"


def test_the_demo_settings_erase_another_of_their_nouns(capsys):
    demo = str(Path(__file__).parents[1] / "trainer/configs/demo_cat.yaml")
    config, _ = parse_arguments(["--config", demo, "--erase", "pizza"], "")
    assert "pizza" not in config.retain and "dog" in config.retain
    assert "'pizza' is erased, and taken out of retain" in capsys.readouterr().err


def test_every_objective_can_be_chosen():
    for objective in OBJECTIVES:
        assert from_mapping({**GOOD, "objective": objective}, "a.yaml").objective == objective
    assert {"direct", "trajectory", "authors"} == OBJECTIVES.keys()


def test_every_setting_is_of_a_kind_that_a_message_describes():
    assert {type(value) for value in vars(Config()).values()} == EXPECTED.keys()


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[1] / "trainer/configs").glob("*.yaml")), ids=lambda p: p.name)
def test_the_shipped_settings_are_good(path):
    assert from_mapping(read_yaml(path), path.name).erased()


@pytest.mark.parametrize(
    "key, says",
    [
        ("learning_rat", "did you mean learning_rate?"),
        ("itertions", "did you mean iterations?"),
        ("zzz", "--help lists those that there are"),
        ("z" * 5000, "unknown setting 'zzz"),
        (3, "unknown setting 3; --help lists"),
    ],
)
def test_unknown_settings(key, says):
    with pytest.raises(ConfigError) as error:
        from_mapping({**GOOD, key: 1}, "a.yaml")
    assert str(error.value).startswith("a.yaml: unknown setting ") and says in str(error.value) and len(str(error.value)) < 200
    assert len(str(key)) > 80 or f"setting {key!r}; " in str(error.value)


@pytest.mark.parametrize(
    "changes, found, expected",
    [
        # concepts
        ({"erase": []}, "erase is []", 'like "cat -> forest"'),
        ({"erase": ["-> forest"]}, "erase is '-> forest'", "a target and a mapping concept"),
        ({"erase": ["cat -> "]}, "erase is 'cat -> '", "a target and a mapping concept"),
        ({"erase": ["cat -> dog -> bus"]}, "erase is 'cat -> dog -> bus'", "a target and a mapping concept"),
        ({"erase": ["cat,, kitty -> bus"]}, "erase is 'cat,, kitty -> bus'", '"cat, kitty -> forest"'),
        ({"erase": ["cat, "]}, "erase is 'cat, '", "a target and a mapping concept"),
        ({"erase": [""]}, "erase is ''", "a target and a mapping concept"),
        ({"erase": ["cat -> ?planet"]}, "erase is 'cat -> ?planet'", "?object, ?animal, ?person, ?style, ?nudity"),
        ({"erase": ["cat -> Cat"]}, "erase is 'cat -> Cat'", "a mapping concept that is not the target"),
        ({"erase": ["cat, Kitty -> kitty"]}, "erase is 'cat, Kitty -> kitty'", "a mapping concept that is not the target"),
        ({"erase": ["cat -> bus", "Cat -> forest"]}, "'Cat -> forest'", "each target once"),
        ({"erase": ["cat, Kitty -> bus", "lion, kitty"]}, "'lion, kitty'", "each target once"),
        ({"erase": ["cat, cat"]}, "'cat, cat'", "each target once"),
        ({"erase": ["cat -> lion", "lion -> forest"]}, "'lion -> forest'", "mapping concepts that are not erased themselves (lion is)"),
        ({"erase": ["cat -> lion", "puma, Lion"]}, "'puma, Lion'", "mapping concepts that are not erased themselves (lion is)"),
        ({"retain": ["dog", " "]}, "retain is ' '", "concepts"),
        ({"retain_prompts": ["a dog", "two Cats and a cat."]}, "retain_prompts is 'two Cats and a cat.'", "do not name a target"),
        (
            {"retain_prompts": ["a kitty"], "erase": ["cat, kitty -> bus"]},
            "retain_prompts is 'a kitty'",
            "do not name a target",
        ),
        ({"templates": ["a photo"]}, "templates is ['a photo']", "{}"),
        ({"templates": ["a {} and a {other}"]}, "templates is", "at least one of them without {other}"),
        ({"templates_for": {"dog": ["a {}"]}}, "templates_for is 'dog'", "a concept of erase, by its first word"),
        ({"templates_for": {"kitty": ["a {}"]}, "erase": ["cat, kitty"]}, "templates_for is 'kitty'", "by its first word"),
        ({"templates_for": {3: ["a {}"]}}, "{3:", "a mapping of names to lists"),
        ({"remove": ["cat"]}, "remove is ['cat']", "add_to"),
        # types
        ({"erase": "cat -> forest"}, "erase is 'cat -> forest'", "a list"),
        ({"retain": ["dog", 7]}, "retain is ['dog', 7]", "a list of texts"),
        ({"templates_for": ["a {}"]}, "templates_for is ['a {}']", "a mapping of names to lists"),
        ({"remove": "cat"}, "remove is 'cat'", "a list"),
        ({"add_to": ["a.safetensors"]}, "add_to is ['a.safetensors']", "a text"),
        ({"neighbours": 2.5}, "neighbours is 2.5", "a whole number"),
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
        ({"learning_rate": -1e-3}, "learning_rate is -0.001", "0 or more"),
        ({"guidance": -0.5}, "guidance is -0.5", "0 or more"),
        ({"retain_weight": -1}, "retain_weight is -1", "0 or more"),
        ({"seed": -1}, "seed is -1", "0 or more"),
        ({"neighbours": -1}, "neighbours is -1", "0 or more"),
        ({"clip_skips": [0]}, "clip_skips is [0]", "1 or more"),
        ({"objective": "magic"}, "objective is 'magic'", "direct or trajectory or authors"),
        ({"autocast": "fp8"}, "autocast is 'fp8'", "none or bf16"),
        ({"base": ""}, "base is ''", '"demo"'),
        ({"out": "out/cat.pt"}, "out is 'out/cat.pt'", ".safetensors"),
        ({"kept_steps": 30}, "kept_steps is 30", "at most sampling_steps, which is 20"),
        ({"size": "100x64"}, "size is '100x64'", "multiples of 8"),
        ({"size": "64x8"}, "size is '64x8'", "multiples of 8"),
        ({"pair_size": "64"}, "pair_size is '64'", "width and height"),
        ({"size": "64"}, "size is '64'", "width and height"),
        ({"cfg": -1.0}, "cfg is -1.0", "0 or more"),
        ({"bottleneck": -1}, "bottleneck is -1", "0 or more"),
    ],
)
def test_wrong_settings(changes, found, expected):
    with pytest.raises(ConfigError) as error:
        from_mapping({**GOOD, **changes}, "a.yaml")
    message = str(error.value)
    assert message.startswith(f"a.yaml: {next(iter(changes))} is ") and found in message and expected in message.split(", expected ", 1)[1]


@pytest.mark.parametrize("wrong", [["a photo"], [], ["{} and {other}"], [3]])
def test_wrong_templates_of_one_concept(wrong):
    with pytest.raises(ConfigError, match="^a.yaml: templates_for is .*without {other}"):
        from_mapping({**GOOD, "templates_for": {"cat": wrong}}, "a.yaml")


@pytest.mark.parametrize("wrong", ["a {}", 5, None])
def test_templates_of_one_concept_that_are_no_list(wrong):
    with pytest.raises(ConfigError, match="^a.yaml: templates_for is .*a mapping of names to lists"):
        from_mapping({**GOOD, "templates_for": {"cat": wrong}}, "a.yaml")


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
    assert taken_apart(config) == [(("ship",), "bus"), (("car",), "bus")] and config.retain == ["dog", "forest"]
    assert arguments.resume and arguments.comfyui is None
    assert parse_arguments(["--config", path], "")[0].rank == 8


def test_options_alone_are_enough():
    config, _ = parse_arguments(["--base", "demo", "--erase", "cat -> forest", "--out", "cat.safetensors", "--seed", "3"], "")
    assert (config.base, taken_apart(config), config.out) == ("demo", [(("cat",), "forest")], "cat.safetensors")
    assert (config.seed, config.rank) == (3, Config().rank)


def test_templates_for_are_settings_of_the_file_alone(path, capsys):
    Path(path).write_text(yaml.safe_dump({**GOOD, "templates_for": {"cat": ["a {} asleep"]}}))
    assert parse_arguments(["--config", path], "")[0].erased()[0].templates == ("a {} asleep",)
    with pytest.raises(SystemExit):
        parse_arguments(["--config", path, "--templates-for", "cat"], "")
    assert "--templates-for" in capsys.readouterr().err


def test_help_explains_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        parse_arguments(["--help"], "How it is run.")
    said = " ".join(capsys.readouterr().out.split())
    for f in dataclasses.fields(Config):
        assert len(f.metadata["words"]) > 3 and " ".join(f.metadata["words"].split()) in said, f.name
    assert "noisy latents kept of each picture (default: 8)" in said and "--overwrite" in said
    for group in ("prompts:", "the hypernetwork:", "training:", "along the way:"):
        assert group in said


NUMBERS = {f.name: f.metadata for f in dataclasses.fields(Config) if type(getattr(DEFAULT, f.name)) in (int, float)}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_has_a_range_and_an_absurd_one_is_refused_with_it(name):
    most = NUMBERS[name]["most"]
    assert most > 0
    for value in (10**12, 2**64, 10**400, most * 1.5 if isinstance(getattr(DEFAULT, name), float) else most + 1):
        if value > most:
            with pytest.raises(ConfigError, match=f"a.yaml: {name} is .*, expected a(t most| number)|a.yaml: {name} is .*at most"):
                from_mapping({**GOOD, "sampling_steps": 1000, name: value}, "a.yaml")
    for value in (-1, float("nan"), float("inf"), -(10**400)):
        with pytest.raises(ConfigError, match=f"a.yaml: {name} is "):
            from_mapping({**GOOD, name: value}, "a.yaml")


@pytest.mark.parametrize("name", sorted(LIMITS.keys() & NUMBERS.keys()))
def test_a_size_is_at_most_what_the_reader_takes(name):
    assert NUMBERS[name]["most"] == LIMITS[name]
    with pytest.raises(ConfigError, match=f"{name} is {LIMITS[name] + 1}"):
        from_mapping({**GOOD, name: LIMITS[name] + 1}, "a.yaml")


@pytest.mark.parametrize("size", ["1000000000000x64", "64x99999", "0x0", "64x64x64", "-64x64", "64 x 64", "9" * 5000 + "x64"])
def test_an_absurd_size_is_refused(size):
    with pytest.raises(ConfigError, match="size is .*from 16 to 8192"):
        from_mapping({**GOOD, "size": size}, "a.yaml")


def test_more_concepts_or_prompts_than_a_file_holds_are_refused():
    with pytest.raises(ConfigError, match="erase is '10001 entries long', expected at most 10000"):
        from_mapping({**GOOD, "erase": [f"c{i} -> forest" for i in range(10_001)]}, "a.yaml")
    with pytest.raises(ConfigError, match="retain_prompts is '.* MB long'"):
        from_mapping({**GOOD, "retain_prompts": ["a dog " * 1000] * 2000}, "a.yaml")


def test_a_long_wrong_setting_makes_a_short_message():
    with pytest.raises(ConfigError) as error:
        from_mapping({**GOOD, "learning_rate": "x" * 100_000}, "a.yaml")
    assert len(str(error.value)) < 400


BOMB = "a: &a [x, x]\n" + "\n".join(f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(12))


@pytest.mark.parametrize(
    "text, says",
    [
        (BOMB, "a.yaml, line 1: holds an anchor or alias"),
        ("retain: *all", "a.yaml, line 1: holds an anchor or alias"),
        ("base: demo\nretain: " + "[" * 3000, "a.yaml, line 2: is nested 9 levels deep"),
        ("a: " * 3000, "cannot be read as YAML"),
        ("{" * 3000 + "}" * 3000, "nested"),
        ("- " * 3000, "nested"),
        ("base: demo\nrank: 4\nbase: other", "a.yaml, line 3: base is given twice, first on line 1"),
        ("templates_for:\n  cat: [a]\n  cat: [b]", "a.yaml, line 3: cat is given twice, first on line 2"),
        ("base: !!timestamp 2024-13-45", "a.yaml, line 1: holds a tag"),
        ("base: !!python/object:os.system x", "holds a tag"),
        ("seed: " + "9" * 5000, "cannot be read as YAML"),
        ("? [a]\n: b", "cannot be read as YAML"),
        ("base: a\n---\nbase: b", "cannot be read as YAML"),
        ('base: "C:\\Users\\x"', "Write a path in single quotes"),
        ("out: %HOME%/x", "Write a path in single quotes"),
        ("base: \0", "cannot be read as YAML"),
    ],
    ids=range(16),
)
def test_hostile_or_careless_yaml_is_refused_in_one_line(tmp_path, text, says):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    message = str(error.value)
    assert str(path) in message and says in message and "\n" not in message and len(message) < 500 + len(str(path))


def test_a_date_is_a_text_and_an_odd_key_an_unknown_setting(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffretain: [2024-13-45, 2024-01-01, =]\n3: x\nnull: y\n<<: {base: z}".encode())
    values = read_yaml(path)
    assert values["retain"] == ["2024-13-45", "2024-01-01", "="] and values["<<"] == {"base": "z"}
    for key in (3, None, "<<"):
        with pytest.raises(ConfigError, match="unknown setting"):
            from_mapping({**GOOD, key: values[key]}, "a.yaml")


def test_a_wrong_option_is_named(path, capsys):
    with pytest.raises(ConfigError, match="^command line: base is ''"):
        parse_arguments(["--erase", "cat -> forest"], "")
    with pytest.raises(ConfigError) as error:
        parse_arguments(["--config", path, "--learning-rate", "-1", "--rank", "2"], "")
    assert str(error.value) == f"{path} with --rank --learning-rate: learning_rate is -1.0, expected 0 or more"
    with pytest.raises(SystemExit):
        parse_arguments(["--config", path, "--rank", "many"], "")
    assert "--rank: invalid int value: 'many'" in capsys.readouterr().err
