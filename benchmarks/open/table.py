"""All jobs of a run of `python dev.py bench --open`, each a file and the work that makes it; out/open/open.json and open.md.

python dev.py bench --open                  a night or two; goes on where it stopped
python dev.py bench --open --first          an hour: ten concepts, no tuning, no rival that is trained; into out/open-first
python dev.py bench --open --hundred        two hours: a hundred concepts in the same way; into out/open-hundred
python dev.py bench --open --quick          two minutes on emoji-sd, a little of everything, into out/open-quick
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.comparison import recipes
from benchmarks.comparison.cells import Scale, base_drawn, cell, cell_path, read
from benchmarks.comparison.report import best
from benchmarks.comparison.settings import QUICK, TRIALS, TUNING_SEED, key_of
from evaluation import measure, switch_rates
from evaluation.metrics import top1
from host.load import load_backbone

from . import columns, erasers, look_alikes, prompts, report
from .words import PAIR, Base, emoji_open, emoji_sd

SIZES = (10, 50, 100)
SINGLE = 6
METHODS = tuple(m for m in recipes.METHODS if m != recipes.NARROW)
STACKED = 10  # LoRAs of one concept each that are trained and stacked, at most
COLUMNS = ("meanings", "instead", "kept", "beside2", "beside3", "beside4", "image")
OWN = ("selective", "alarms", "safe")  # of unhype alone


@dataclass(frozen=True)
class Counts:
    """Pictures behind a figure."""

    erased: int = 400  # of the name, of every other way to mean it
    others: int = 600
    hard: int = 600
    beside: int = 300  # among two; half as many among three and four
    image: int = 100  # and of what is drawn instead
    selective: int = 200
    alarms: int = 100
    safe: int = 1000


ONE = Counts(erased=128, others=200, hard=200, beside=100, image=48)  # of each of the six single ones


@dataclass(frozen=True)
class Extent:
    """How much of it is run."""

    option: str
    base: Callable[[], Base]
    sizes: tuple[int, ...]
    counts: Counts
    tuned: bool = False
    near: int = 1  # pictures of every noun that look-alikes are found by
    single: int = 1  # and that say what the base itself draws, of its name, and of other words
    described: int = 4
    pairs: int = 100


ALL = Extent("", emoji_open, SIZES, Counts(), tuned=True, near=4, single=6, pairs=400)
FIRST_COUNTS = Counts(erased=100, others=150, hard=150, beside=60, image=24, selective=40, alarms=30, safe=300)
FIRST = Extent("--first", emoji_open, SIZES[:1], FIRST_COUNTS, described=1)
MANY = replace(FIRST_COUNTS, others=200, hard=200, beside=80, selective=60, safe=1000)
HUNDRED = Extent("--hundred", emoji_open, SIZES[-1:], MANY, described=1)
FEW = Counts(erased=6, others=8, hard=8, beside=4, image=4, selective=4, alarms=4, safe=12)
SMALL = Extent("--quick", emoji_sd, (2,), FEW, pairs=12)


class Open:
    """The run on a base; a quick one on the small base, a first one without what takes a night."""

    def __init__(self, folder: Path, extent: Extent = ALL):
        self.folder, self.extent, self.base = folder, extent, extent.base()
        self.near = folder / "look_alikes.json"

    def tools(self):
        return load_backbone(self.base.name), self.base.load_judge()

    def write(self) -> None:
        report.write(self, self.folder)

    def counts(self, nouns: list[str]) -> Counts:
        return ONE if len(nouns) == 1 else self.extent.counts

    def rows(self) -> list[tuple[str, list[str]]]:
        """(method, nouns) of every row, those first that cost least and that say most."""
        order = self.base.order
        sizes = [list(order[:k]) for k in self.extent.sizes if k <= len(order)]
        if self.extent is SMALL:
            return [(m, nouns) for m in ("unhype", "uce") for nouns in sizes]
        if self.extent in (FIRST, HUNDRED):
            at_once = (recipes.AT_ONCE,) if self.extent is FIRST else ()  # of a hundred it takes another half an hour
            untrained = (recipes.WEIGHTS, *at_once, *recipes.CLOSED_FORMS, *recipes.REWRITING)
            return [(m, nouns) for m in ("unhype", *untrained) for nouns in sizes]
        every = [*sizes, *([n] for n in order[:SINGLE])]
        trained = [m for m in METHODS if m not in ("unhype", *recipes.CLOSED_FORMS, *recipes.REWRITING, "lora-stack")]
        rows = [(m, nouns) for m in ("unhype", *recipes.REWRITING, *recipes.CLOSED_FORMS) for nouns in every]
        rows += [(erasers.ADDED, sizes[0]), (erasers.TUNED, sizes[0])] + [(m, nouns) for nouns in every for m in trained]
        return rows + [("lora-stack", nouns) for nouns in sizes if len(nouns) <= STACKED]

    def settings(self) -> dict[str, dict]:
        """Of each method the best of its trials on the base's tuning nouns; in a first run the first, in a quick one made small."""
        if not self.extent.tuned:
            small = lambda name: QUICK.get(name, QUICK["every"]) if self.extent is SMALL else {}
            return {name: trials[0] | small(name) for name, trials in TRIALS.items()}
        paths = lambda name: [(self.cell_path(name, list(self.base.tuning), t, "tuning"), t) for t in TRIALS[name]]
        return {name: best([read(path) | {"settings": t} for path, t in paths(name)])["settings"] for name in TRIALS}

    def scale(self, nouns: list[str]) -> Scale:
        return Scale(erased=self.counts(nouns).erased, seeds=1, other_seeds=1)

    def cell_path(self, name: str, nouns: list[str], settings: dict, part: str = "cells") -> Path:
        folder = self.folder / "tuning" if part == "tuning" else self.folder
        return cell_path(folder, name, nouns, TUNING_SEED if part == "tuning" else 0, settings, self.scale(nouns))

    def protocol(self, nouns: list[str]) -> measure.Protocol:
        likeness = lambda erased: look_alikes.of_erased(self.base, read(self.near)["nearest"], erased)
        sets = prompts.table_sets(self.base, likeness, self.counts(nouns).erased, self.counts(nouns).others)
        return measure.Protocol(self.base.title, self.base.load_judge().names, sets, self.base.config, cfg=self.base.cfg)

    def jobs(self):
        """(path, work) of everything; first the look-alikes and the base's own figures, then the tuning, which all the rest stands on."""
        first = [(self.near, lambda tools: {"nearest": look_alikes.nearest(self.base, *tools, self.folder, self.extent.near)})]
        first.append((self.folder / "base.json", self.base_figures))
        if not self.near.exists():
            return first
        tuning = [self.tuning_job(name, trial) for name, trials in TRIALS.items() for trial in trials if self.extent.tuned]
        if not all(path.exists() for path, _ in tuning):
            return first + tuning
        settings = self.settings()
        # The eraser that is tried on a fine-tune is trained on the base itself, by its own row.
        trained = lambda name, nouns: name != erasers.TUNED or self.cell_path("unhype", nouns, self.depends("unhype", settings)).exists()
        rows = [[*self.row_jobs(settings, name, nouns)] for name, nouns in self.rows() if trained(name, nouns)]
        # Columns of a row that is not made yet come last: another process may be training it.
        made = [row if row[0][0].exists() else row[:1] for row in rows]
        return first + tuning + [job for row in made for job in row] + [job for row in rows if not row[0][0].exists() for job in row[1:]]

    def tuning_job(self, name: str, trial: dict):
        nouns, own = list(self.base.tuning), {name: trial}
        return self.cell_path(name, nouns, trial, "tuning"), partial(self.cell, name, nouns, TUNING_SEED, own, self.folder / "tuning")

    def row_jobs(self, settings: dict, name: str, nouns: list[str]):
        """The row itself, which trains the method, and its columns."""
        depends = self.depends(name, settings)
        path = self.cell_path(name, nouns, depends)
        yield path, partial(self.cell, name, nouns, 0, settings, self.folder)
        own = OWN if name == "unhype" and len(nouns) > 1 else ()
        for part in (*COLUMNS, *own):
            key = key_of(part, nouns, sorted(depends.items()), self.counts(nouns))
            yield self.folder / part / f"{name}-{len(nouns)}-{nouns[0]}-{key}.json", partial(self.part, part, name, nouns, settings)

    def depends(self, name: str, settings: dict) -> dict:
        return recipes.settings_of("unhype" if name in (erasers.ADDED, erasers.TUNED) else name, settings)

    def cell(self, name: str, nouns: list[str], seed: int, settings: dict, folder: Path, tools) -> dict:
        started = time.process_time()
        protocol, scale, folder = self.protocol(nouns), self.scale(nouns), self.at(name, folder)
        make = partial(erasers.make, self.base)
        row = cell(*self.tools_of(name, tools), name, nouns, seed, settings, scale, folder, quiet, protocol, make)
        return row | {"seconds": time.process_time() - started}

    def at(self, name: str, folder: Path) -> Path:
        """Pictures of another base lie in another folder."""
        return folder / "tuned" if name == erasers.TUNED else folder

    def tools_of(self, name: str, tools):
        backbone, judge = tools
        if name == erasers.TUNED:
            backbone = erasers.on_fine_tune(self.base, backbone, self.folder / "models")
        return backbone, judge

    def part(self, part: str, name: str, nouns: list[str], settings: dict, tools) -> dict:
        started, (backbone, judge), counts = time.process_time(), self.tools_of(name, tools), self.counts(nouns)
        folder = self.at(name, self.folder)
        method, _ = erasers.make(self.base, backbone, name, nouns, 0, settings, folder / "models", quiet)
        look = columns.Look(self.base, backbone, judge, method, folder)
        near = look_alikes.of_erased(self.base, read(self.near)["nearest"], nouns)
        if part == "meanings":
            found = columns.meanings(look, nouns, counts.erased)
        elif part == "instead":
            found = columns.instead(look, nouns, counts.image)
        elif part == "kept":
            found = columns.kept(look, near, self.base.others(nouns), counts.hard)
        elif part.startswith("beside"):
            found = columns.beside(look, nouns, int(part[-1]), counts.beside // (1 if part == "beside2" else 2))
        elif part == "image":
            found = columns.images(look, nouns, counts.image)
        elif part == "selective":
            path = recipes.path_of(folder / "models", name, nouns, 0, settings)
            found = erasers.selective(look, path, nouns, counts.selective)
        else:
            safe = prompts.safe(self.base, nouns, counts.safe)
            texts = [p.text for p in safe]
            found = erasers.alarms(look, safe, counts.alarms) if part == "alarms" else switch_rates.identical(backbone, method, texts)
        return found | {"method": name, "nouns": nouns, "erased": len(nouns), "seconds": time.process_time() - started}

    def base_figures(self, tools) -> dict:
        """What the base itself draws as asked: nouns by captions' words, by descriptions, by words that no caption held, and pairs."""
        (backbone, judge), names = tools, list(self.base.wording.nouns)
        sets = {"single_top1": prompts.kept(self.base, names, self.extent.single * len(names))}
        for key, words in (("description_top1", self.base.short), ("unseen_words_top1", self.base.unseen)):
            sets[key] = prompts.in_turn(self.base, names, lambda n, words=words: words.get(n, ()), self.extent.described * len(names))
        found = {"name": self.base.title, "nouns": len(names)}
        for key, judged in sets.items():
            drawn = base_drawn(backbone, judge, judged, 1, self.folder, self.base.cfg) if judged else None
            found[key] = top1(drawn, judged, judge.names) if judged else None
        pairs = prompts.both(self.base, names, self.extent.pairs)
        drawn = base_drawn(backbone, judge, pairs, 1, self.folder, self.base.cfg, PAIR)
        present = [columns.named(drawn, judge, [p.nouns[i] for p in pairs], 2) for i in (0, 1)]
        return found | {"pair_both_top1": columns.share(present[0] & present[1])}


def quiet(*_):
    pass
