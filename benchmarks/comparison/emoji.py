"""The emoji bases' own part of every comparison: their words, their judge's names, their prompts."""

from demo import prompts
from demo.captions import BACKGROUNDS, JOINTS, NOTHING, NOUNS, STYLES, TEMPLATES, caption, with_article
from evaluation.wording import Wording

WORDING = Wording(
    nouns={noun: words for noun, (_, words) in NOUNS.items()},
    templates=TEMPLATES,
    styles=STYLES,
    backgrounds=tuple(BACKGROUNDS),
    joints=JOINTS,
    nothing=NOTHING,
    caption=caption,
    with_article=with_article,
    held_out=prompts.held_out,
    held_out_style=prompts.HELD_OUT_STYLE,
    held_out_backgrounds=prompts.HELD_OUT_BACKGROUNDS,
)


def prompt_sets(nouns: list[str]) -> dict[str, list[prompts.Judged]]:
    """What the three accuracies are measured on: erased nouns, their held-out words, the other nouns."""
    return {
        "erased": [p for n in nouns for p in prompts.erased_prompts(n)],
        "words": [p for n in nouns for p in prompts.heldout_word_prompts(n)],
        "others": prompts.other_prompts(*nouns),
    }
