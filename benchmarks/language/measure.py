"""What a file's switch does on texts: misses where a concept is named, false alarms where it is not mentioned."""

from collections.abc import Callable

import torch

from .concepts import Concept
from .fit import Fitted
from .texts import PLACES, tags

SHOWN = 15
KINDS: dict[str, Callable[[str], bool]] = {  # of prompts; one may be of several
    "up to four words": lambda text: len(text.split()) <= 4,
    "tags": lambda text: bool(tags(text)),
    "no tags": lambda text: not tags(text) and len(text.split()) > 4,
    "more than 45 words": lambda text: len(text.split()) > 45,
    "two sentences or more": lambda text: len([part for part in text.split(". ") if len(part.split()) > 2]) > 1,
    "an artist": lambda text: " by " in f" {text.lower()}" or "artstation" in text.lower(),
    "a no": lambda text: any(word in f" {text.lower()} " for word in (" no ", " not ", " without ")),
}


def share(flags: torch.Tensor) -> float | None:
    """Of True, in 0..1; None of nothing."""
    return round(flags.float().mean().item(), 5) if len(flags) else None


def mean(values: list[float | None]) -> float | None:
    """Of the values that there are."""
    known = [v for v in values if v is not None]
    return round(sum(known) / len(known), 5) if known else None


def auc(target: torch.Tensor, safe: torch.Tensor) -> float | None:
    """The chance that a text which names a concept scores higher than one that does not mention it."""
    if not len(target) or not len(safe):
        return None
    ordered = safe.sort().values
    below = torch.searchsorted(ordered, target) + torch.searchsorted(ordered, target, right=True)
    return round((below.double() / 2 / len(safe)).mean().item(), 6)


class Sides:
    """On which side of each concept every given text is: "none", "named", "synonym", "homonym" or "negated"."""

    def __init__(self, concepts: list[Concept], texts: list[str]):
        self.sides = {c.name: [c.side(text) for text in texts] for c in concepts}

    def on(self, name: str, *sides: str) -> torch.Tensor:
        return torch.tensor([side in sides for side in self.sides[name]], dtype=torch.bool)

    def of_none(self, names: list[str], *also: str) -> torch.Tensor:
        """Texts that mention none of the concepts; `also`: those that only hold a homonym."""
        return torch.stack([self.on(name, "none", *also) for name in names]).all(0)


class Measured:
    """The figures of one file, from the margins of every text."""

    def __init__(self, fitted: Fitted, label: int | str, captions, prompts, made, sides: dict[str, Sides]):
        self.fitted, self.label, self.sides = fitted, label, sides
        self.names = [c.name for c in fitted.concepts]
        self.captions, self.prompts, self.made = captions, prompts, made
        self.margins = {key: texts.margins(fitted.network) for key, texts in (("captions", captions), ("prompts", prompts))}
        self.made_margins = made.texts.margins(fitted.network)

    def of(self, k: int, what: str, phrase: str | None = None) -> torch.Tensor:
        """The margins of the texts made for a concept."""
        rows = [i for i, m in enumerate(self.made.made) if m.concept == self.names[k] and m.what == what and phrase in (None, m.phrase)]
        return self.made_margins[rows, k]

    def given(self, where: str, k: int, *sides: str) -> torch.Tensor:
        """The margins of the given captions or prompts on these sides of a concept."""
        return self.margins[where][self.sides[where].on(self.names[k], *sides), k]

    def concept(self, k: int) -> dict:
        target = torch.cat([self.given("captions", k, "named"), self.of(k, "captions")])
        safe, prompts = self.given("captions", k, "none"), self.given("prompts", k, "none")
        return {
            "name": self.names[k],
            "file": self.label,
            "misses": share(target <= 0),
            "false_alarms": share(safe > 0),
            "false_alarms_prompts": share(prompts > 0),
            "missed_long": share(self.of(k, "long") <= 0),
            "missed_tags": share(self.of(k, "tags") <= 0),
            "missed_prompts": share(self.given("prompts", k, "named") <= 0),
            "auc": auc(target, safe),
            "false_alarms_with_homonyms": share(self.given("captions", k, "none", "homonym") > 0),
            "named": len(target),
            "given": int(self.sides["captions"].on(self.names[k], "named").sum()),
        }

    def any(self) -> dict:
        """How many of the texts that mention none of the file's concepts some concept fires on."""
        found: dict = {"file": self.label}
        for where, margins in self.margins.items():
            fires = (margins > 0).any(1)
            found[where] = share(fires[self.sides[where].of_none(self.names)])
            found[f"{where}_with_homonyms"] = share(fires[self.sides[where].of_none(self.names, "homonym")])
        return found

    def kinds(self) -> list[dict]:
        """The same for every kind of text, and a single concept's false alarms there."""
        rows = [{"file": self.label, "kind": "captions"} | self.of_kind("captions", lambda _: True)]
        return rows + [{"file": self.label, "kind": kind} | self.of_kind("prompts", test) for kind, test in KINDS.items()]

    def of_kind(self, where: str, test) -> dict:
        texts = self.captions.texts if where == "captions" else self.prompts.texts
        own, fires = torch.tensor([test(t) for t in texts]), self.margins[where] > 0
        alarms = [share(fires[own & self.sides[where].on(name, "none"), k]) for k, name in enumerate(self.names)]
        none = own & self.sides[where].of_none(self.names)
        return {"texts": int(own.sum()), "any": share(fires[none].any(1)), "false_alarms": mean(alarms)}

    def places(self) -> list[dict]:
        """Misses by the place of the concept in a long text and a list of tags: 0 its beginning, 1 its end."""
        count = range(len(self.names))
        missed = lambda what, place: share(torch.cat([self.of(k, what, str(place)) for k in count]) <= 0)
        return [{"file": self.label, "place": p, "missed_long": missed("long", p), "missed_tags": missed("tags", p)} for p in PLACES]

    def extremes(self) -> dict:
        """The highest false alarms, of a concept's none more than a third, and the lowest hits, by name: concept, text, margin."""
        alarms, hits = [], []
        for where, texts in (("captions", self.captions.texts), ("prompts", self.prompts.texts)):
            for k, name in enumerate(self.names):
                column = self.margins[where][:, k]
                for found, side, best in ((alarms, "none", True), (hits, "named", False)):
                    rows = self.sides[where].on(name, side).nonzero().flatten()
                    order = rows[column[rows].argsort(descending=best)][: SHOWN // 3]
                    found += [(round(column[i].item(), 2), name, texts[i]) for i in order.tolist()]
        listed = lambda found: [{"concept": name, "margin": margin, "text": text} for margin, name, text in found[:SHOWN]]
        return {"file": self.label, "highest_false_alarms": listed(sorted(alarms)[::-1]), "lowest_hits": listed(sorted(hits))}

    def phrases(self, what: str) -> list[dict]:
        """Of every homonym, synonym or near thing the share of the made texts on which its concept fires."""
        rows = []
        for k, concept in enumerate(self.fitted.concepts):
            for phrase in dict.fromkeys(m.phrase for m in self.made.made if m.concept == concept.name and m.what == what):
                rows.append({"file": self.label, "concept": concept.name, "phrase": phrase, "fires": share(self.of(k, what, phrase) > 0)})
        return rows

    def beside(self) -> list[dict]:
        """How often a concept fires where it is only alluded to: given captions and made texts."""
        rows = []
        for k, name in enumerate(self.names):
            row: dict = {"file": self.label, "name": name}
            for side in ("synonym", "homonym", "negated"):
                given = self.given("captions", k, side)
                row |= {
                    side: share(torch.cat([given, self.of(k, side)]) > 0),
                    f"{side}_captions": share(given > 0),
                    f"{side}_given": len(given),
                }
            rows.append(row | {"near": share(self.of(k, "near") > 0)})
        return rows
