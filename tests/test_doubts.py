"""What is said before a training of words on both sides and of a switch that cannot tell, and that it is not said for nothing."""

import pytest

from trainer.config import Config, from_mapping
from trainer.prompts.doubts import badly_told_apart, forms, holds, on_both_sides
from trainer.settings.strict_yaml import read_yaml

CONFIGS = ("demo_cat", "demo_flux_cat")


def settings(*erase: str, **others) -> Config:
    return Config(**{"base": "demo", "out": "x", "erase": list(erase), "retain": ["wolf", "house"], **others})


@pytest.mark.parametrize(
    "text, name, expected",
    [
        ("hot dog", "dog", True),
        ("two Hot Dogs", "dog", True),
        ("a church-tower", "church", True),
        ("old churches", "church", True),
        ("three puppies", "puppy", True),
        ("a puppy", "puppies", True),
        ("a box", "boxes", True),
        ("dogma", "dog", False),
        ("a bulldog", "dog", False),
        ("catfish", "cat", False),
        ("a Van Gogh sky", "van gogh", True),
        ("a van", "van gogh", False),
        ("c++ code", "c++", True),
        ("a dog's life", "dog", True),
    ],
)
def test_whole_words_and_plurals_are_found(text, name, expected):
    assert holds(text, name) is expected


def test_a_short_word_has_no_singular():
    assert "ga" not in forms("gas") and "bu" not in forms("bus")


@pytest.mark.parametrize(
    "config, says",
    [
        (settings("dog -> meadow", retain=["hot dog", "wolf"]), "retain keeps 'hot dog' with the erased word 'dog' inside: some prompts"),
        (settings("dog -> meadow", retain=["dogs"]), "retain keeps 'dogs' with the erased word 'dog'"),
        (settings("cat, puppy -> meadow", retain=["puppies", "a puppy bed"]), "retain keeps 'puppies', 'a puppy bed' with"),
        (settings("cat -> meadow", retain_prompts=["A cat on a mat"]), "retain_prompts keeps 'A cat on a mat' with the erased word 'cat'"),
        (settings("cat -> cat statue"), "erase draws 'cat statue' with the erased word 'cat' inside: give another"),
        (settings("hot dog -> meadow", retain=["dog"]), "erase: 'hot dog' holds 'dog', which is retained"),
        (settings("car -> meadow", retain=[f"car {i}" for i in range(7)]), "'car 0', 'car 1', 'car 2', 'car 3' and 3 more with"),
    ],
)
def test_a_word_on_both_sides_is_one_line(config, says):
    (line,) = on_both_sides(config)
    assert says in line and "\n" not in line


@pytest.mark.parametrize(
    "config",
    [
        settings("cat -> meadow"),
        settings("dog -> meadow", "hot dog -> meadow", retain=["hot dog"]),
        settings("cat -> ?animal", retain=["catfish", "caterpillar"]),
        from_mapping({"base": "demo", "out": "x", "erase": ["cat, bird -> forest", "Van Gogh -> ?style", "gun"]}, "x"),
        *[from_mapping(read_yaml(f"trainer/configs/{name}.yaml"), name) for name in CONFIGS],
    ],
)
def test_nothing_is_said_for_nothing(config):
    assert on_both_sides(config) == []


def measured(**changes) -> dict:
    return {"threshold": 0.4, "lowest_target": 6.0, "highest_safe": -1.5, "misses": 0.0, "false_alarms": 0.0, **changes}


@pytest.mark.parametrize(
    "found, says",
    [
        (measured(misses=0.08), "misses 8.0% of the prompts that name it and fires on 0.0% of those that do not"),
        (measured(false_alarms=0.05), "fires on 5.0%"),
        (measured(lowest_target=-1.2), "hardly room between the prompts that name it and those that do not (0.3, expected 1 and more)"),
    ],
)
def test_a_switch_that_does_badly_is_named(found, says):
    (line,) = badly_told_apart(["cat", "gun"], [measured(misses=0.01), found])
    assert line.startswith("'gun': on prompts that it was not fitted on the switch ") and says in line and "templates_for" in line
    assert "\n" not in line


def test_the_demos_erasers_are_told_apart():
    from host.start import ROOT
    from unhype.checkpoint import load_eraser

    files = sorted((ROOT / "demo" / "erasers").glob("*.safetensors"))
    assert len(files) > 1
    for file in files:
        concepts = load_eraser(file).concepts
        assert badly_told_apart([c.name for c in concepts], [c.calibration for c in concepts]) == []
