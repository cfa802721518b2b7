"""The words of a base model's captions, which prompts about it are made of."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Wording:
    """What a base was taught to draw, and how its captions say it."""

    nouns: dict[str, tuple[str, ...]]  # noun -> its words, the first its name
    templates: tuple[str, ...]
    styles: tuple[str, ...]
    backgrounds: tuple[str, ...]
    joints: tuple[str, ...]  # how two nouns are joined
    nothing: str  # the subject of an empty picture
    caption: Callable  # (template, style, background, *words, joint) -> text
    with_article: Callable  # word -> "an apple"
    held_out: Callable  # (number, *(word, noun)) -> the number-th prompt of templates, style and backgrounds kept for judging
    held_out_style: str
    held_out_backgrounds: tuple[str, ...]

    @property
    def every_word(self) -> list[str]:
        return [word for words in self.nouns.values() for word in words]
