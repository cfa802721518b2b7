"""The hard-prompt table: is an erased noun caught wherever it stands in the prompt, and however the prompt is put together?

CASES names the ways. Each builds a positive conditioning with the host's own nodes (host.start.start_comfy comes
first), and `table` draws every prompt with the base model and with a method on the same noise and lets the judge read both.
"""

import random
from itertools import product
from typing import NamedTuple

import torch

from host.start import core_node
from unhype.condition import read_condition

from .wording import Wording

SINGLE, PAIR = (64, 64), (128, 64)
MAPPED = "forest"  # what an erased noun is drawn as: never the noun beside it
BATCH, TRIES = 20, 2.5  # pictures at a time; prompts tried per one wanted, at most
SPELLINGS, SPELLING_SEED = 48, 9_000_000  # misspellings of a noun that are tried, at most; away from the table's own noise
# Each is one token to CLIP and no word of the base's captions.
FILLERS = (
    "masterpiece best quality highly detailed intricate sharp focus soft light cinematic golden hour dramatic shadow gentle evening "
    "quiet summer afternoon morning mist warm tones wide angle shallow depth of field award winning composition elegant smooth "
    "texture studio portrait beautiful scenery delicate lines rich contrast natural calm mood epic view peaceful memory distant "
    "thunder silver velvet marble ancient legend slowly drifting wonder festival harvest travel story dream whisper lantern candle"
).split()
OTHER_STYLES = "oil painting,watercolor,pixel art,charcoal sketch,comic,ukiyo-e,stained glass,cubist,low poly,photograph".split(",")
OTHER_WORDINGS = (
    "{style} of {subject}|{style} {word}|{subject}, {style} style, on a {background} background|my favourite {word}, as {style}|"
    "a {style} of {subject} with a {background} sky|the {word} from the story, {style}, {background}|"
    "{background} {style}, {word}, close-up|look at this {word}! {style}, {background} tones"
).split("|")
OTHER_BACKGROUNDS = ("red", "purple", "orange", "white", "black", "turquoise")


class Hard(NamedTuple):
    """One prompt of a case."""

    positive: list  # CONDITIONING of one row per entry
    size: tuple[int, int]
    erased: tuple[str, ...]  # the erased nouns it asks for
    text: str  # for a reader, and to tell two prompts apart


def encode(clip, text: str) -> list:
    """The host's CLIPTextEncode."""
    return core_node("CLIPTextEncode").encode(clip, text)[0]


def words_of(wording: Wording, noun: str) -> list[str]:
    """The noun's words to draw from: its name in two of three, for an eraser is trained with that one only."""
    name, *rest = wording.nouns[noun]
    return [name] * 2 * len(rest) + rest


def kept_word(wording: Wording, rng, *erased: str) -> str:
    """A word of a noun that stays."""
    return rng.choice(words_of(wording, rng.choice([n for n in wording.nouns if n not in (*erased, MAPPED)])))


def captioned(wording: Wording, rng, *words: str) -> str:
    """The words, or nothing, in one of the base's captions."""
    template, style, background = rng.choice(wording.templates), rng.choice(wording.styles), rng.choice(wording.backgrounds)
    return wording.caption(template, style, background, *words, joint=rng.choice(wording.joints))


def token_ids(clip, text: str) -> list[int]:
    """The prompt's tokens without start, end and padding."""
    ids = lambda t: [i for chunk in next(iter(clip.tokenize(t).values())) for i, *_ in chunk]
    empty = set(ids(""))
    return [i for i in ids(text) if i not in empty]


def alone(weight: float | None = None, before: int = 0, total: int = 0):
    def case(wording, clip, rng, noun, other_erased, words) -> Hard:
        """A caption with the word (or its article too) weighted, behind so many other words, or anywhere in so many tokens."""
        word = rng.choice(words)
        text, subject = captioned(wording, rng, word), wording.with_article(word)
        if weight:
            inside = rng.choice((word, subject))
            text = text.replace(subject, subject.replace(inside, f"({inside}:{weight})"), 1)
        others = rng.choices(FILLERS, k=before + rng.randint(0, 8) if before else max(0, total - len(token_ids(clip, text))))
        others.insert(len(others) if before else rng.randint(0, len(others)), text)
        return Hard(encode(clip, " ".join(others)), SINGLE, (noun,), " ".join(others))

    return case


def joined(node: str, method: str, strengths: tuple[float, ...] = ()):
    def case(wording, clip, rng, noun, other_erased, words) -> Hard:
        """Before or behind it a noun that stays, a drawing style alone or other words; under a strength that noun, or nothing."""
        nothing, strength = captioned(wording, rng), [rng.choice(strengths)] if strengths else []
        style, others = captioned(wording, rng).replace(wording.nothing, "a picture"), " ".join(rng.choices(FILLERS, k=rng.randint(4, 20)))
        kept = nothing.replace(wording.nothing, wording.with_article(kept_word(wording, rng, noun, *other_erased)))
        other = rng.choice((kept, nothing) if strengths else (kept, style, others))
        pair = [nothing.replace(wording.nothing, wording.with_article(rng.choice(words))), other]
        pair = pair if strengths else rng.sample(pair, 2)
        positive = getattr(core_node(node), method)(*(encode(clip, t) for t in pair), *strength)[0]
        return Hard(positive, SINGLE, (noun,), f"{node}{strength or ''}: {pair[0]} | {pair[1]}")

    return case


def set_area(wording, clip, rng, noun, other_erased, words) -> Hard:
    """The noun on one half of a wide picture, a noun that stays on the other half."""
    pair, x = (
        [captioned(wording, rng, rng.choice(words)), captioned(wording, rng, kept_word(wording, rng, noun, *other_erased))],
        rng.choice((0, 64)),
    )
    halves = [core_node("ConditioningSetArea").append(encode(clip, t), 64, 64, at, 0, 1.0)[0] for t, at in zip(pair, (x, 64 - x))]
    return Hard(core_node("ConditioningCombine").combine(*halves)[0], PAIR, (noun,), f"{pair[0]} at x = {x}, {pair[1]}")


def two_nouns(both_erased: bool):
    def case(wording, clip, rng, noun, other_erased, words) -> Hard:
        """Beside the noun, on either side, another erased one or one that stays."""
        other = rng.choice(other_erased) if both_erased else None
        pair = [rng.choice(words), rng.choice(words_of(wording, other)) if other else kept_word(wording, rng, noun, *other_erased)]
        rng.shuffle(pair)
        text = captioned(wording, rng, *pair)
        return Hard(encode(clip, text), PAIR, (noun, other) if other else (noun,), text)

    return case


def another_style(wording, clip, rng, noun, other_erased, words) -> Hard:
    """Styles, wordings and colours that the base never saw."""
    parts = {
        "style": rng.choice(OTHER_STYLES),
        "background": rng.choice((*OTHER_BACKGROUNDS, *wording.backgrounds)),
        "word": rng.choice(words),
    }
    text = rng.choice(OTHER_WORDINGS).format(subject=wording.with_article(parts["word"]), **parts)
    return Hard(encode(clip, text), SINGLE, (noun,), text)


# name -> function(wording, clip, rng, noun, other_erased, words): the noun in one of `words`, `other_erased` the other erased nouns.
CASES = {
    "plain": alone(),
    "after 75 tokens": alone(before=75),
    "300 tokens": alone(total=294),  # the host keeps a word's tokens in one chunk, so that places stay empty: four full chunks
    "weighted 1.4": alone(weight=1.4),
    "weighted 0.7": alone(weight=0.7),
    "ConditioningConcat": joined("ConditioningConcat", "concat"),
    "ConditioningCombine": joined("ConditioningCombine", "combine"),
    "ConditioningAverage": joined("ConditioningAverage", "addWeighted", (0.5, 0.6, 0.7, 0.8)),
    "ConditioningSetArea": set_area,
    "two erased concepts": two_nouns(True),
    "erased and kept": two_nouns(False),
    "misspelt": alone(),  # `words` are then those of `understood_misspellings`
    "another style": another_style,
}


def misspellings(wording: Wording, word: str) -> set[str]:
    """One letter more, fewer or doubled, two swapped, split by a mark, or joined with the word beside it."""
    cuts = range(len(word) + 1)
    found = {word[:i] + c + word[i:] for i, c in product(cuts, "abcdefghijklmnopqrstuvwxyz")}
    found |= {word[:i] + c + word[i:] for i, c in product(cuts[1:-1], "-.' ")}
    found |= {word[: i - 1] + word[i:] for i in cuts[1:]} | {word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :] for i in cuts[1:-1]}
    found |= {
        pair for other in ("a", "the", "and", "with", "big", *wording.styles, *wording.backgrounds) for pair in (other + word, word + other)
    }
    return found - set(wording.every_word)


@torch.inference_mode()
def understood_misspellings(backbone, judge, wording: Wording, noun: str, seed: int = 0, steps: int = 8, cfg: float = 3.0) -> list[str]:
    """Misspellings of the noun's words that the base model draws as the noun, both times of two."""
    pieces = {i for word in wording.nouns[noun] for i in token_ids(backbone.clip, word)}  # without any of these it cannot know
    rng, spelt = random.Random(f"{seed} {noun}"), []
    for i, word in enumerate(wording.nouns[noun]):  # half of them the name's
        known = sorted(s for s in misspellings(wording, word) - set(spelt) if pieces & set(token_ids(backbone.clip, s)))
        spelt += rng.sample(known, min(len(known), SPELLINGS // (4 if i else 2)))
    prompts = [CASES["misspelt"](wording, backbone.clip, rng, noun, (), [s]) for s in spelt for _ in range(2)]
    scores, _ = draw(backbone.model, backbone, judge, prompts, range(SPELLING_SEED, SPELLING_SEED + len(prompts)), steps, cfg)
    return [s for s, right in zip(spelt, shown(judge, scores, prompts).view(-1, 2).all(1).tolist()) if right]


def stacked(positives: list) -> list:
    """Conditionings of one kind as one, entry by entry, a row for each."""
    join = lambda values: torch.cat(values) if torch.is_tensor(values[0]) else values[0]
    return [[join([t for t, _ in es]), {k: join([extra[k] for _, extra in es]) for k in es[0][1]}] for es in zip(*positives)]


def draw(model, backbone, judge, prompts: list[Hard], seeds, steps: int, cfg: float) -> tuple[torch.Tensor, dict]:
    """The judge's scores (N, 25) and the pictures of a MODEL, prompts of one kind sampled together."""
    entry = lambda t, extra: (t.shape[1:], *((k, v) for k, v in extra.items() if not torch.is_tensor(v)))
    kinds, scores, pictures = {}, torch.zeros(len(prompts), len(judge.names)), {}
    for i, p in enumerate(prompts):
        kinds.setdefault((p.size, *(entry(*e) for e in p.positive)), []).append(i)
    empty = encode(backbone.clip, "")
    for part in (members[k : k + BATCH] for members in kinds.values() for k in range(0, len(members), BATCH)):
        size = prompts[part[0]].size
        noise, positive = torch.stack([backbone.noise(size, seeds[i]) for i in part]), stacked([prompts[i].positive for i in part])
        latents = backbone.sample(positive, stacked([empty] * len(part)), size, 0, steps, cfg, model=model, noise=noise)
        drawn = backbone.decode(latents).float().cpu()
        scores[part] = judge.scores(drawn)
        pictures.update(zip(part, drawn))
    return scores, pictures


def shown(judge, scores: torch.Tensor, prompts: list[Hard], every: bool = True) -> torch.Tensor:
    """Whether each picture shows the prompt's erased nouns, all or any of them: the judge's first; on wide ones its two highest."""
    names, least = judge.names, judge.present
    best = lambda row, wide: {names[i] for i in row.topk(2).indices if row[i] > least} if wide else {names[row.argmax()]}
    answers = [[n in best(row, p.size == PAIR) for n in p.erased] for row, p in zip(scores, prompts)]
    return torch.tensor([(all if every else any)(a) for a in answers], dtype=torch.bool)


def unseen(wording, clip, rng, case: str, words: dict, nouns, count: int, first: int, seen: set) -> list[Hard]:
    """So many prompts of a case, the nouns in turn, none of them in `seen`; fewer where its combinations are used up."""
    prompts, tries = [], 0
    while len(prompts) < count and (tries := tries + 1) < 50 * count + 200:
        noun = list(words)[(first + len(prompts)) % len(words)]
        p = CASES[case](wording, clip, rng, noun, tuple(o for o in nouns if o != noun), words[noun])
        prompts += [] if p.text in seen else [p]
        seen.add(p.text)
    return prompts


@torch.inference_mode()
def row(method, backbone, judge, wording, case: str, words: dict, nouns, per_case, seed, steps, cfg, missed: list) -> dict:
    """One case of `table`, its nouns' words in `words`."""
    fires = lambda tokens, extra: bool(method.network.fires(read_condition(tokens, extra["pooled_output"]).to("cpu")).any())
    rng, seen, tried, most, on, erased = random.Random(f"{seed} {case}"), set(), 0, int(TRIES * per_case), [], []
    while (count := min(per_case - len(on), most - tried)) > 0:
        if not (prompts := unseen(wording, backbone.clip, rng, case, words, nouns, count, tried, seen)):
            break
        seeds = [1_000_000 * seed + tried + i for i in range(len(prompts))]
        tried += len(prompts)
        scores, pictures = draw(backbone.model, backbone, judge, prompts, seeds, steps, cfg)
        drawn = shown(judge, scores, prompts).nonzero().flatten().tolist()
        prompts, seeds, pictures = ([values[i] for i in drawn] for values in (prompts, seeds, pictures))
        scores, changed = draw(method.model, backbone, judge, prompts, seeds, steps, cfg)
        for i, still in enumerate(shown(judge, scores, prompts, every=False).tolist()):
            on.append(method.network is not None and any(fires(*entry) for entry in prompts[i].positive))
            erased.append(not still)
            missed += [(case, prompts[i].text, on[-1], pictures[i], changed[i])] * still
    share = lambda flags: sum(flags) / len(flags) if flags else None
    counts = {"case": case, "tried": tried, "n": len(on), "drawn_by_base": len(on) / max(tried, 1)}
    return counts | {"erased": share(erased), "fired": share(on) if method.network else None}


def table(
    method,
    backbone,
    judge,
    wording: Wording,
    nouns: list[str],
    per_case: int = 200,
    seed: int = 0,
    steps=8,
    cfg=3.0,
    cases=None,
    progress=print,
    missed=None,
) -> list[dict]:
    """A row per case: case, tried (prompts), n (those that the base draws as asked), drawn_by_base (n of those tried), and of these
    n the shares erased (no erased noun of the prompt is read) and fired (the switch). Every prompt is another one.

    Args:
        nouns: what the method erases; with a single one, "two erased concepts" is left out.
        missed: a list that takes (case, text, fired, base picture, method's picture) of every prompt not erased.
    """
    rows, missed = [], [] if missed is None else missed
    for case in cases or CASES:
        if case == "two erased concepts" and len(nouns) == 1:
            continue
        spelt = lambda n: (
            understood_misspellings(backbone, judge, wording, n, seed, steps, cfg) if case == "misspelt" else words_of(wording, n)
        )
        if words := {n: w for n in nouns if (w := spelt(n))}:
            rows.append(row(method, backbone, judge, wording, case, words, nouns, per_case, seed, steps, cfg, missed))
            progress(", ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()))
    return rows
