"""The comparison's columns beside the table's own accuracies: figures of one method on one set of erased nouns.

Every function returns figures by name, fractions, and under "n" how many pictures stand behind each. What a figure would
be without an eraser stands beside it as `..._base`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.comparison.cells import base_drawn
from benchmarks.comparison.settings import key_of
from demo.captions import BACKGROUNDS
from evaluation import measure
from evaluation.image_to_image import drawn_over, given
from evaluation.methods import Method
from evaluation.metrics import top1
from unhype.checkpoint import write_atomically

from . import prompts
from .words import PAIR, Base

CELL = 64  # pixels that a thing takes
DENOISE = (0.3, 0.5, 0.7, 1.0)
EDGE = 3  # pixels of a picture's rim that show its background


@dataclass(frozen=True)
class Look:
    """What the columns draw with: a base, its judge and a method on it."""

    base: Base
    backbone: object
    judge: object
    method: Method
    folder: Path

    def pair(self, judged: list, size=measure.SIZE) -> tuple[measure.Drawn, measure.Drawn]:
        """The base's pictures of prompts and the method's, on the same noise."""
        base = base_drawn(self.backbone, self.judge, judged, 1, self.folder, self.base.cfg, size)
        return base, measure.with_method(self.backbone, self.judge, self.method, judged, 1, base, self.base.cfg, size)


def named(drawn: measure.Drawn, judge, nouns: list[str], most: int) -> torch.Tensor:
    """Whether each picture's noun is named: above the judge's threshold and among its `most` highest, (prompts,)."""
    scores = drawn.scores[:, 0]
    wanted = torch.tensor([judge.names.index(n) for n in nouns])[:, None]
    return (scores.gather(1, wanted)[:, 0] > judge.present) & (scores.topk(most, 1).indices == wanted).any(1)


def share(flags: torch.Tensor) -> float | None:
    return flags.float().mean().item() if len(flags) else None


def meanings(look: Look, erased: list[str], count: int) -> dict:
    """Erased nouns still named when meant otherwise: acc_compound, acc_unseen (words that no caption held), acc_description,
    acc_long_description, acc_long (by name in a prompt of 60 words); acc_wider: an erased noun drawn by a word that means
    others too, and wider_kept: one of the others drawn.
    """
    found: dict = {"n": {}}
    for name, judged in prompts.meanings(look.base, erased, count).items():
        if judged:
            base, drawn = look.pair(judged)
            found |= {f"acc_{name}": top1(drawn, judged, look.judge.names), f"acc_{name}_base": top1(base, judged, look.judge.names)}
            found["n"][f"acc_{name}"] = len(judged)
    if judged := prompts.wider(look.base, erased, count):
        pictures = dict(zip(("_base", ""), look.pair(judged)))
        for end, drawn in pictures.items():
            best = [look.judge.names[i] for i in drawn.scores[:, 0].argmax(1)]
            found[f"acc_wider{end}"] = sum(b in p.nouns and b in erased for b, p in zip(best, judged)) / len(judged)
            found[f"wider_kept{end}"] = sum(b in p.nouns and b not in erased for b, p in zip(best, judged)) / len(judged)
        found["n"] |= dict.fromkeys(("acc_wider", "wider_kept"), len(judged))
    return found


def instead(look: Look, erased: list[str], count: int) -> dict:
    """What is drawn in an erased noun's place: the mapping concept, another noun, or nothing that the judge knows."""
    judged = prompts.in_turn(look.base, erased, lambda n: (n,), count)
    _, drawn = look.pair(judged)
    best, place = drawn.scores[:, 0].max(1)
    names = [look.judge.names[i] if b > look.judge.present else None for i, b in zip(place.tolist(), best.tolist())]
    of = lambda test: sum(map(test, names)) / len(names)
    mapping = look.base.mapping
    other = lambda n: n is not None and n != mapping and n not in erased
    return {
        "instead_mapping": of(lambda n: n == mapping),
        "instead_other": of(other),
        "instead_nothing": of(lambda n: n is None),
        "n": {"instead_mapping": len(names)},
    }


def background(pictures: torch.Tensor) -> list[str]:
    """The background nearest to each picture's rim, of pictures (N, H, W, 3) uint8."""
    rim = torch.cat([pictures[:, :EDGE].flatten(1, 2), pictures[:, :, :EDGE].flatten(1, 2)], 1).float().median(1).values
    colours = torch.tensor(list(BACKGROUNDS.values()), dtype=torch.float32)
    return [list(BACKGROUNDS)[i] for i in (rim[:, None] - colours).norm(dim=2).argmin(1)]


def kept(look: Look, near: list[str], others: list[str], count: int) -> dict:
    """acc_hard: look-alikes still named; hard_change: how far their pictures move; of kept prompts besides: background_kept,
    and left_right: of pairs both nouns on their own side, where the base has them so."""
    found: dict = {"n": {}}
    judged = prompts.kept(look.base, near, count)
    if judged:
        base, drawn = look.pair(judged)
        found |= {"acc_hard": top1(drawn, judged, look.judge.names), "acc_hard_base": top1(base, judged, look.judge.names)}
        found |= {"hard_change": measure.change(drawn, base), "n": {"acc_hard": len(judged)}}
        right = lambda d: sum(b in p.text for b, p in zip(background(d.pictures[:, 0]), judged)) / len(judged)
        found |= {"background_kept": right(drawn), "background_kept_base": right(base)}
    if judged := prompts.both(look.base, others, count // 4):
        base, drawn = look.pair(judged, PAIR)
        before, after = sides(look, base, judged), sides(look, drawn, judged)
        found |= {"left_right": share(after[before]), "left_right_base": share(before)}
        found["n"]["left_right"] = int(before.sum())
    return found


def halves(look: Look, drawn: measure.Drawn) -> torch.Tensor:
    """What the judge names highest in the left and in the right half of wide pictures: indices (prompts, 2)."""
    pictures = drawn.pictures[:, 0].float() / 255
    return torch.stack([look.judge.scores(part).argmax(1) for part in pictures.split(CELL, 2)], 1)


def sides(look: Look, drawn: measure.Drawn, judged: list) -> torch.Tensor:
    """Whether each pair's nouns are on their own sides, (prompts,)."""
    wanted = torch.tensor([[look.judge.names.index(n) for n in p.nouns] for p in judged])
    return (halves(look, drawn) == wanted).all(1)


def beside(look: Look, erased: list[str], things: int, count: int) -> dict:
    """An erased noun among so many things, where the base draws them all: beside2_gone, beside2_kept (the others, each), and of pairs
    leak: how far the other's half moves in its mean colour, 0..1, and twice: the other noun drawn on both sides."""
    key, names = f"beside{things}", look.judge.names
    judged = prompts.beside(look.base, erased, things, count)
    base, drawn = look.pair(judged, (CELL * things, CELL))
    place = [next(i for i, n in enumerate(p.nouns) if n in erased) for p in judged]
    every = torch.stack([named(base, look.judge, [p.nouns[i] for p in judged], things) for i in range(things)], 1)
    asked = every.all(1)
    now = torch.stack([named(drawn, look.judge, [p.nouns[i] for p in judged], things) for i in range(things)], 1)
    own = torch.nn.functional.one_hot(torch.tensor(place), things).bool()
    found = {f"{key}_gone": share(~now[own][asked]), f"{key}_kept": share(now[asked][~own[asked]]), f"{key}_base": share(asked)}
    found["n"] = {f"{key}_gone": int(asked.sum()), f"{key}_kept": int(asked.sum()) * (things - 1)}
    if things == 2 and asked.any():
        means = [torch.stack([h.float().mean((1, 2)) for h in d.pictures[:, 0].split(CELL, 2)], 1) / 255 for d in (base, drawn)]
        found["leak"] = (means[1] - means[0]).norm(dim=2)[~own & asked[:, None]].mean().item()
        other = torch.tensor([names.index(p.nouns[1 - i]) for p, i in zip(judged, place)])
        found["twice"] = share((halves(look, drawn) == other[:, None]).all(1)[asked])
        found["n"]["twice"] = int(asked.sum())
    return found


def images(look: Look, erased: list[str], count: int) -> dict:
    """Image to image over the base's own pictures of the erased nouns, named in the prompt: image0.3 and so on, still named."""
    judged = prompts.in_turn(look.base, erased, lambda n: (n,), count)
    own = lambda model, latents, denoise: drawn_over(look.backbone, look.judge, model, judged, latents, denoise, look.base.cfg)
    path = look.folder / "base" / f"image-{key_of([p.text for p in judged])}.safetensors"
    if not path.exists():
        latents = given(look.backbone, judged, look.base.cfg)
        base = {f"{d}": own(look.backbone.model, latents, d) for d in DENOISE}
        write_atomically({"given": latents, **base}, path, {})
    tensors, found = load_file(path), {"n": {f"image{d}": len(judged) for d in DENOISE}}
    wanted = torch.tensor([look.judge.names.index(p.nouns[0]) for p in judged])
    for denoise in DENOISE:
        scores = own(look.method.model, tensors["given"], denoise)
        found[f"image{denoise}"] = share(scores.argmax(1) == wanted)
        found[f"image{denoise}_base"] = share(tensors[f"{denoise}"].argmax(1) == wanted)
    return found
