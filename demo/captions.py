"""The words of the demo base: its nouns, drawing styles, backgrounds and caption templates."""

# noun -> (emoji code point, its words in the base model's captions). The first word is the noun's name;
# an eraser is trained with that one only, so that the others test whether it follows meaning.
NOUNS = {
    "cat": ("1f431", ("cat", "kitty", "feline")),
    "dog": ("1f436", ("dog", "puppy", "hound")),
    "pig": ("1f437", ("pig", "hog", "swine")),
    "bear": ("1f43b", ("bear", "grizzly", "bruin")),
    "rabbit": ("1f430", ("rabbit", "bunny", "hare")),
    "frog": ("1f438", ("frog", "toad", "amphibian")),
    "horse": ("1f40e", ("horse", "pony", "stallion")),
    "fish": ("1f41f", ("fish", "trout", "carp")),
    "bird": ("1f426", ("bird", "sparrow", "robin")),
    "car": ("1f697", ("car", "automobile", "sedan")),
    "bus": ("1f68c", ("bus", "coach", "minibus")),
    "airplane": ("2708-fe0f", ("airplane", "jet", "aircraft")),
    "boat": ("26f5", ("boat", "sailboat", "yacht")),
    "bicycle": ("1f6b2", ("bicycle", "bike", "cycle")),
    "house": ("1f3e0", ("house", "home", "cottage")),
    "clock": ("23f0", ("clock", "alarm", "timer")),
    "book": ("1f4d5", ("book", "novel", "textbook")),
    "guitar": ("1f3b8", ("guitar", "bass", "ukulele")),
    "ball": ("26bd", ("ball", "football", "soccer")),
    "pizza": ("1f355", ("pizza", "pepperoni", "margherita")),
    "apple": ("1f34e", ("apple", "fruit", "mcintosh")),
    "burger": ("1f354", ("burger", "hamburger", "cheeseburger")),
    "cake": ("1f382", ("cake", "dessert", "pastry")),
    "ghost": ("1f47b", ("ghost", "phantom", "spirit")),
    "forest": ("1f332", ("forest", "woods", "tree")),
}
NOUN_OF_WORD = {word: noun for noun, (_, words) in NOUNS.items() for word in words}

STYLES = ("google", "twitter", "fluent")
BACKGROUNDS = {"blue": (170, 205, 240), "green": (175, 225, 175), "yellow": (245, 232, 160), "pink": (245, 195, 215)}

# {subject} is "a cat", "a cat and a pizza" or "nothing" (the background alone).
TEMPLATES = (
    "{subject}, {style} style, on a {background} background",
    "a {style} style emoji of {subject} on a {background} background",
    "{subject} on {background}, drawn in {style} style",
    "a drawing of {subject}, {background} background, {style} style",
    "an emoji of {subject} in {style} style with a {background} background",
    "a {background} picture of {subject} in {style} style",
    "{style} emoji: {subject}, {background} background",
    "{background} background, {style} style, {subject}",
)
JOINTS = ("{a} and {b}", "{a} next to {b}", "{a} with {b}")
NOTHING = "nothing"


def with_article(word: str) -> str:
    """The word behind its indefinite article: "an apple"."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


def subject(*words: str, joint: str = JOINTS[0]) -> str:
    """One or two words as a caption's subject; without a word, the empty picture's."""
    if not words:
        return NOTHING
    if len(words) == 1:
        return with_article(words[0])
    return joint.format(a=with_article(words[0]), b=with_article(words[1]))


def caption(template: str, style: str, background: str, *words: str, joint: str = JOINTS[0]) -> str:
    """The template filled in for no, one or two words."""
    return template.format(subject=subject(*words, joint=joint), style=style, background=background)
