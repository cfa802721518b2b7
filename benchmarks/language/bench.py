"""The switch on real language: one concept, ten and a hundred in a file, on captions and prompts that people wrote.

    python dev.py bench --language --captions FILE --prompts FILE    an hour or two of a core; into out/bench
    python dev.py bench --language --quick                           two minutes, on a small set of its own; into out/bench-quick
    (--files 1 10: some of the files of 1, 10, 100 concepts, and "synonyms": ten, each with two synonyms)

A file holds a text a line, none of which may stand in what the trainer bundles. The text encoder is MiniLM; the prompts, the fit
and the calibration of the switch are a training's own, and there is no denoiser. Writes language.json and language.md.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.language import report
from benchmarks.language.concepts import Concept, few, read
from benchmarks.language.encoder import Encoded, TextOnly, encoded, key_of
from benchmarks.language.fit import fitted
from benchmarks.language.measure import Measured, Sides
from benchmarks.language.texts import Made, Scale, lines, tags
from host.start import find_comfy, start_comfy

HERE = Path(__file__).parent
FILES = ("1", "10", "100", "synonyms")
SEED = 5
TEN, REST, QUICK = Scale(captions=100, long=60, others=3), Scale(captions=40, long=10, others=0), Scale(20, 20, 2)
QUICK_SETTINGS = {"neighbours": 0, "pair_prompts": 16}  # so that it takes two minutes


@dataclass
class MadeTexts:
    made: list[Made]
    texts: Encoded


class Reading:
    """Every text of a run, encoded once."""

    def __init__(self, backbone: TextOnly, concepts: list[Concept], captions: Path, prompts: Path, scale, folder: Path, say):
        given = {"captions": lines(captions), "prompts": lines(prompts)}
        if not any(map(tags, given["prompts"])) or len(given["captions"]) < 100:
            raise ValueError(
                f"{captions} holds {len(given['captions'])} captions and {prompts} {len(given['prompts'])} prompts; expected at least 100 "
                "captions, one a line, and prompts of which some are lists of five or more tags, separated by commas"
            )
        self.sides = {where: Sides(concepts, texts) for where, texts in given.items()}
        made: list[Made] = []
        for c in concepts:
            made += scale(c).texts(c, given["captions"], given["prompts"], self.sides["captions"].sides[c.name].count("named"), SEED)
        key, encode = key_of(backbone.clip), partial(encoded, backbone, folder=folder)
        self.captions, self.prompts, texts = (
            encode(texts=texts, encoder_key=key, progress=say) for texts in (*given.values(), [m.text for m in made])
        )
        self.made = MadeTexts(made, texts)

    def measured(self, fit, label) -> Measured:
        return Measured(fit, label, self.captions, self.prompts, self.made, self.sides)


def files(wanted: list[str], concepts: list[Concept], quick: bool) -> list[tuple[int | str, list[Concept], list[str]]]:
    """(label, concepts, entries) of every file that is fitted."""
    ten = few(concepts)
    plain = [(1, [c]) for c in (ten[:1] if quick else ten)] + [(10, ten)] + ([] if quick else [(100, concepts)])
    every = [(label, group, [c.entry for c in group]) for label, group in plain]
    if not quick:
        every.append(("synonyms", ten, [c.entry_with_synonyms for c in ten]))
    return [f for label in wanted for f in every if str(f[0]) == label]


def rows(measured: Measured) -> dict[str, list]:
    """What a file adds to the report."""
    found: dict[str, list] = {"concepts": [measured.concept(k) for k in range(len(measured.names))]}
    if measured.label != 1:
        found |= {"any": [measured.any()], "kinds": measured.kinds(), "places": measured.places(), "examples": [measured.extremes()]}
    if measured.label != 100:
        phrases = {"homonyms": "homonym", "synonyms": "synonym", "near": "near"}
        found |= {"beside": measured.beside()} | {key: measured.phrases(what) for key, what in phrases.items()}
    fit = measured.fitted
    return found | {"cost": [{"file": measured.label, "names": len(measured.names)} | fit.prompts | {"switch": fit.seconds}]}


def run(captions: Path, prompts: Path, out: Path, wanted: list[str], quick: bool, say=print) -> dict:
    """Fit and measure every file; returns and writes the report, after each file anew."""
    from demo.minilm import load_clip

    started = time.time()
    backbone = TextOnly(load_clip())
    concepts = read() if "100" in wanted and not quick else few(read())
    ten = {c.name for c in few(concepts)}
    scale = lambda c: QUICK if quick else TEN if c.name in ten else REST
    reading = Reading(backbone, concepts, captions, prompts, scale, out / "language", say)
    result: dict = {
        "command": "python dev.py bench --language" + " --quick" * quick,
        **{key: [] for key in ("concepts", "any", "cost")},
        "texts": {"captions": len(reading.captions.texts), "prompts": len(reading.prompts.texts), "made": len(reading.made.made)}
        | {f"made_{what}": sum(m.what == what for m in reading.made.made) for what in dict.fromkeys(m.what for m in reading.made.made)},
        "seconds_reading": round(time.time() - started, 1),
    }
    settings = QUICK_SETTINGS if quick else {}
    for label, group, entries in files(wanted, concepts, quick):
        say(f"a file of {label}: {', '.join(c.name for c in group[:10])}{', ...' * (len(group) > 10)}")
        found = rows(reading.measured(fitted(backbone, group, entries, settings, out / "language", lambda *_: None), label))
        if label == "synonyms":
            result["with_synonyms"] = found
        else:
            for key, more in found.items():
                result.setdefault(key, []).extend(more)
        out.mkdir(parents=True, exist_ok=True)
        (out / "language.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (out / "language.md").write_text(report.page(result), encoding="utf-8")
    say(report.summary(result))
    say(f"written to {out / 'language.json'} and language.md, after {time.time() - started:.0f} s")
    return result


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captions", type=Path, help="TXT, a caption a line, at least 100")
    parser.add_argument("--prompts", type=Path, help="TXT, a prompt a line")
    parser.add_argument("--quick", action="store_true", help="two minutes, on the set that lies here")
    parser.add_argument("--files", nargs="+", choices=FILES, default=FILES, help="some of the files")
    parser.add_argument("--out", type=Path, help="a folder (default: out/bench, with --quick out/bench-quick)")
    given = parser.parse_args(argv)
    if not given.quick and not (given.captions and given.prompts):
        parser.error(
            "give --captions FILE and --prompts FILE, texts that people wrote, one a line, or --quick for the small set that lies here"
        )
    out = given.out or ROOT / "out" / ("bench-quick" if given.quick else "bench")
    captions = given.captions or HERE / "quick_captions.txt"
    prompts = given.prompts or HERE / "quick_prompts.txt"
    try:
        start_comfy(find_comfy(None))
        run(captions, prompts, out, list(given.files), given.quick)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
