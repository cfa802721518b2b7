"""Target, mapping and retain prompts from concepts and templates."""

import itertools
import random
import re
from dataclasses import dataclass

TEMPLATES = (
    "a photo of a {}",
    "a picture of a {}",
    "a {}",
    "a {} in the park",
    "a close-up photo of a {}",
    "a painting of a {}",
    "an oil painting of a {}",
    "a sketch of a {}",
    "a {} during sunset",
    "a black and white photo of a {}",
    "a 3d render of a {}",
    "a {} at home, highly detailed",
    "a photo of a {} and a {other}",
    "a {other} next to a {}",
)

# What a model must keep when its user names nothing else: near and far neighbours of what people erase.
RETAIN = (
    """
dog, wolf, fox, lion, tiger, rabbit, horse, cow, sheep, pig, bear, elephant, monkey, mouse, bird, eagle, owl, duck,
frog, snake, turtle, fish, shark, whale, butterfly, bee, spider, man, woman, child, old man, king, nurse, soldier,
astronaut, chef, dancer, robot, statue, car, truck, bus, train, bicycle, motorcycle, airplane, helicopter, boat,
ship, rocket, house, castle, church, bridge, tower, street, city, village, kitchen, library, garden, forest, tree,
flower, rose, mushroom, mountain, river, lake, beach, desert, waterfall, island, sky, cloud, moon, sun, star,
rainbow, snow, storm, fire, field, meadow, cave, apple, banana, bread, cake, pizza, burger, cheese, egg, coffee,
tea, wine bottle, chair, table, sofa, bed, lamp, clock, mirror, window, door, book, pencil, camera, phone, laptop,
guitar, piano, violin, drum, ball, hat, shoe, dress, shirt, umbrella, backpack, sword, crown, ring, mask, candle,
balloon, gift box, painting, vase, teapot, toy, kite
""".strip()
    .replace("\n", " ")
    .split(", ")
)


@dataclass(frozen=True)
class Prompt:
    text: str
    pair: bool  # names two things


@dataclass(frozen=True)
class Target:
    """A prompt of an erased concept and the same prompt of its mapping concept."""

    prompt: Prompt
    mapped: str
    concept: int


def expand(template: str) -> list[str]:
    """Every choice of {a|b} alternatives: "{red|blue} {}" -> ["red {}", "blue {}"]."""
    parts = re.split(r"\{([^{}]*\|[^{}]*)\}", template)
    choices = [[part] if i % 2 == 0 else part.split("|") for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def fill(template: str, concept: str, other: str = "") -> str:
    """The template with its concepts, and "a" turned into "an" where a vowel follows."""
    text = template.replace("{}", concept).replace("{other}", other)
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)


def split_templates(templates: list[str]) -> tuple[list[str], list[str]]:
    """Expanded templates of one concept, and of two."""
    expanded = [e for t in templates for e in expand(t)]
    return [t for t in expanded if "{other}" not in t], [t for t in expanded if "{other}" in t]


def target_prompts(pairs: list[tuple[str, str]], templates: list[str], others: list[str], count: int, seed: int) -> list[Target]:
    """Targets of every concept in every template; of the two-concept ones `count` per concept, drawn by the seed."""
    rng = random.Random(seed)
    single, double = split_templates(templates)
    targets = []
    for index, (target, mapping) in enumerate(pairs):
        targets += [Target(Prompt(fill(t, target), False), fill(t, mapping), index) for t in single]
        everything = [(t, o) for t in double for o in others if o != mapping]
        for t, other in rng.sample(everything, min(count, len(everything))):
            targets.append(Target(Prompt(fill(t, target, other), True), fill(t, mapping, other), index))
    return targets


def retain_prompts(retain: list[str], mappings: list[str], templates: list[str], given: list[str], count: int, seed: int) -> list[Prompt]:
    """Prompts that must survive: the given ones, retain and mapping concepts in every template, `count` drawn pairs."""
    rng = random.Random(seed)
    single, double = split_templates(templates)
    names = list(dict.fromkeys([*retain, *mappings]))
    prompts = [Prompt(g, False) for g in given] + [Prompt(fill(t, name), False) for name in names for t in single]
    everything = [(t, a, b) for t in double for a in names for b in names if a != b]
    prompts += [Prompt(fill(t, a, b), True) for t, a, b in rng.sample(everything, min(count, len(everything)))]
    return list(dict.fromkeys(prompts))
