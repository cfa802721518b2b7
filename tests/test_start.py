"""--init: a file of settings that the trainer accepts as it is, and that explains each of them."""

import re
import textwrap
from dataclasses import fields

import pytest

from trainer.config import DEFAULT, Config, ConfigError, begin, from_mapping, new_parser, options, parse_arguments, read_yaml
from trainer.settings import start
from trainer.train import main


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return "my.yaml"


def read(path) -> Config:
    return parse_arguments(["--config", path], "")[0]


def test_it_is_accepted_as_it_is_and_gives_the_defaults(path, capsys):
    assert main(["--init", path]) == 0
    assert capsys.readouterr().out == "wrote my.yaml: look through it, and see what it takes with --config my.yaml --dry-run\n"
    assert read(path) == from_mapping({"base": "demo", "erase": ["cat -> forest"], "out": "my"}, "as given")


def test_every_setting_has_the_words_of_the_table_and_can_be_taken(path):
    start.write(path, start.asked({}, path, terminal=False))
    text = open(path, encoding="utf-8").read()
    plain = " ".join(line.removeprefix("# ") for line in text.splitlines())
    place = 0
    for f in fields(Config):
        words = " ".join(textwrap.fill(f.metadata["words"], start.WIDTH).split())
        assert words in plain, f.name
        found = re.search(rf"^#?{f.name}: ", text, re.M)
        assert found and found.start() > place, f.name
        place = found.start()
    open(path, "w", encoding="utf-8").write(re.sub("^#(?! )", "", text, flags=re.M))  # every one taken
    taken = read_yaml(path)
    for f in fields(Config):
        if f.name not in ("base", "erase", "out"):
            assert taken[f.name] == getattr(DEFAULT, f.name), f.name
    read(path)


STRANGE = [
    "a: b",
    "# no",
    "yes",
    "2026-01-02",
    "1e3",
    "- x",
    "'\"",
    "\N{CAT FACE}",
    "{} [x]",
    "C:\\new\\x",
    "=",
    "<<",
    "*a",
    "!b",
    "%c",
    "@d",
]


def test_what_is_given_is_read_back_as_it_was(path):
    given = {"base": "C:\\models\\it's #1.safetensors", "erase": [f"{s} cat" for s in STRANGE], "out": "x", "retain": STRANGE}
    given |= {"learning_rate": 1e-5, "rank": 7, "text_encoders": ["a b.safetensors"], "seed": 2**62}
    start.write(path, given)
    found = read_yaml(path)
    assert found == given and {k: type(v) for k, v in found.items()} == {k: type(v) for k, v in given.items()}


def test_options_beside_it_are_written(path):
    assert main(["--init", path, "--base", "p.safetensors", "--erase", "dog -> car", "gun", "--out", "z", "--learning-rate", "0.001"]) == 0
    config = read(path)
    assert (config.base, config.erase, config.out, config.learning_rate) == ("p.safetensors", ["dog -> car", "gun"], "z.safetensors", 1e-3)


def test_nothing_is_overwritten_and_nothing_wrong_is_written(path, tmp_path, capsys):
    (tmp_path / path).write_text("mine")
    assert main(["--init", path]) == 1 and "my.yaml is there already: give another name" in capsys.readouterr().err
    assert (tmp_path / path).read_text() == "mine"
    assert main(["--init", "no/such/my.yaml"]) == 1 and "cannot be written" in capsys.readouterr().err
    assert main(["--init", "new.yaml", "--rank", "-1"]) == 1 and "rank is -1" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == [path]
    with pytest.raises(SystemExit):
        new_parser("").parse_args(["--init", path, "--config", path])


def test_a_terminal_is_asked_for_what_is_missing(path):
    answers, questions = (
        ["flux1.safetensors", "cat -> forest", "gun", "", "", "clip_l.safetensors", "t5.safetensors", "", "ae.safetensors"],
        [],
    )
    found = start.asked({}, path, lambda text: questions.append(text) or answers.pop(0), terminal=True)
    assert not answers and found == {
        "base": "flux1.safetensors",
        "erase": ["cat -> forest", "gun"],
        "out": "my",
        "text_encoders": ["clip_l.safetensors", "t5.safetensors"],
        "vae": "ae.safetensors",
    }
    assert all(Config.__dataclass_fields__[name].metadata["words"] in " ".join(questions) for name in found)
    assert start.asked(found, path, None, terminal=True) == found  # nothing is missing
    given = {"base": "demo", "erase": ["a -> b"]}
    assert start.asked(given, path, lambda text: "", terminal=True)["out"] == "my"


def test_what_a_file_to_go_on_from_says_is_not_said_again(path):
    given, arguments = options(["--init", path, "--add-to", "cat.safetensors", "--erase", "dog -> car", "--out", "two"], "")
    begin(given, arguments.init)
    assert read_yaml(path) == {"add_to": "cat.safetensors", "erase": ["dog -> car"], "out": "two"}


def test_an_error_names_where_it_is():
    with pytest.raises(ConfigError, match="^--init: erase is"):
        begin({"base": "demo", "erase": ["cat -> "], "out": "x"}, "never.yaml")
