"""Judge an eraser of the demo base beside its controls, with the switch calibrated and with it forced on.

Every concept of the file that the base draws is measured, alone and together; what is erased is not among the others.

    python benchmarks/evaluate.py --config trainer/configs/demo_cat.yaml [--seeds 6]

Reads the eraser that the config wrote, trains the ordinary LoRA that it is compared with, and writes report.json and
grid.png beside it. Every figure is a fraction of 1 and stands with the number of samples behind it.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from safetensors import safe_open

from benchmarks import demo_grid
from demo import prompts
from demo.captions import NOUN_OF_WORD
from demo.judge import NAMES, WEIGHTS, load_judge
from evaluation import controls
from evaluation.metrics import fid_from_base, figures, per_concept, per_noun, present, top1
from evaluation.studio import FIRST_SEED, Arm, Studio
from host.load import load_backbone
from host.start import comfy_version, find_comfy, start_comfy
from trainer.config import from_mapping, read_yaml
from trainer.data import Data
from unhype.checkpoint import load_eraser
from unhype.text import shown

COMMANDS = {"demo": "python dev.py demo", "demo-flux": "python dev.py demo --flux"}
TIE = 0.005  # a lead of less than half a point
PAIRS_JUDGED, PAIR_SEEDS, WORD_SEEDS = 60, 2, 1  # of the base model alone


def drawn_nouns(names: list[str], path: str) -> list[str]:
    """The demo base's nouns among a file's concepts, each once. Raises ValueError, naming the file, without one."""
    nouns = list(dict.fromkeys(NOUN_OF_WORD[name.lower()] for name in names if name.lower() in NOUN_OF_WORD))
    if not nouns:
        raise ValueError(f"{path} erases {shown(', '.join(names))}, nothing that the demo base draws: it draws {', '.join(NAMES)}")
    return nouns


def prompt_sets(nouns: list[str], mappings: list[str]) -> dict[str, list[prompts.Judged]]:
    """Prompts by what they ask for: the erased nouns, their other words, what is not erased, an erased one beside one that is not."""
    left_out = [*nouns, *(NOUN_OF_WORD[m.lower()] for m in mappings if m.lower() in NOUN_OF_WORD)]
    return {
        "erased": [p for noun in nouns for p in prompts.erased_prompts(noun)],
        "heldout_words": [p for noun in nouns for p in prompts.heldout_word_prompts(noun)],
        "others": prompts.other_prompts(*nouns),
        "pairs": [p for noun in nouns for p in prompts.pair_prompts(noun, *left_out)],
    }


def judge_base(backbone, eraser, config, judge) -> dict:
    """The base model alone: every word of every noun, and pairs."""
    sets = {"words": prompts.every_word(), "pairs": prompts.random_pairs(PAIRS_JUDGED)}
    words = Studio(backbone, eraser, config, judge, {"words": sets["words"]}, WORD_SEEDS).draw("words", Arm("none", None), False, False)
    pairs = Studio(backbone, eraser, config, judge, {"pairs": sets["pairs"]}, PAIR_SEEDS).draw("pairs", Arm("none", None), False, False)
    wanted = torch.tensor([sorted(NAMES.index(n) for n in p.nouns) for p in sets["pairs"]])
    both = (pairs.scores.topk(2, -1).indices.sort(-1).values == wanted[:, None]).all(-1)
    by_noun = {}
    for i, p in enumerate(sets["words"]):
        by_noun.setdefault(p.nouns[0], []).append((words.scores[i].argmax(-1) == NAMES.index(p.nouns[0])).float().mean())
    return {
        "single_top1": top1(words, sets["words"], NAMES),
        "pair_both_top1": both.float().mean().item(),
        "pair_both_present": (present(pairs, sets["pairs"], 0, judge) & present(pairs, sets["pairs"], 1, judge)).float().mean().item(),
        "n": {"single_top1": words.scores[..., 0].numel(), "pair_both_top1": both.numel(), "pair_both_present": both.numel()},
        "single_top1_per_noun": {noun: torch.stack(v).mean().item() for noun, v in by_noun.items()},
    }


def evaluate(config, seeds: int, progress=print) -> dict:
    """The report of an eraser of the demo base; see the module's first lines."""
    started = time.time()
    backbone = load_backbone(config.base, config.text_encoders, config.vae)
    config = config.for_family(backbone.family)
    eraser = load_eraser(config.out)
    nouns, judge = drawn_nouns([c.name for c in eraser.concepts], config.out), load_judge()
    sets = prompt_sets(nouns, [c.mapping for c in eraser.concepts])
    studio = Studio(backbone, eraser, config, judge, sets, seeds)
    folder = Path(config.out).parent
    demo_grid.write_grid(backbone, eraser, config, nouns, folder / "grid.png")
    progress(f"{folder / 'grid.png'} is ready to look at; measuring")

    none, ours = Arm("none", None), Arm("eraser", eraser.network)
    base = studio.base = {name: studio.draw(name, none, False, False) for name in sets}
    mine = {name: studio.draw(name, ours, False, False) for name in sets}
    fid = fid_from_base(studio, progress)
    measure = lambda drawn: figures(sets, drawn, base, nouns, judge, fid)
    progress("training the ordinary LoRA")
    data = Data(config, backbone, progress)
    arms = [
        ours,
        Arm("lora", controls.train_lora(config, backbone, data, eraser.network.shape)),
        Arm("static", controls.static_mean(eraser.network, data.target_conditions[0].rows(slice(len(data.targets))))),
        Arm("shuffled", eraser.network, shuffle=True),
    ]
    forced, switched = {}, {}
    for arm in arms:
        progress(f"judging {arm.name}, {time.time() - started:.0f} s")
        forced[arm.name] = measure({name: studio.draw(name, arm, True, False) for name in sets})
        if arm is not ours:
            switched[arm.name] = measure({name: studio.draw(name, arm, False, True) for name in sets})

    same = [
        bool((mine["others"].latents[i, s] == base["others"].latents[i, s]).all()) for i in range(len(sets["others"])) for s in range(seeds)
    ]
    with safe_open(WEIGHTS, framework="pt") as file:
        judged = {k: float(v) for k, v in file.metadata().items()}
    fired = {name: eraser.network.fires(studio.text[name].condition()).float().mean().item() for name in sets}
    result = measure(mine)
    report = {
        "base": judge_base(backbone, eraser, config, judge),
        "judge": judged,
        "eraser": result
        | {
            "safe_bit_identical": sum(same) / len(same),
            **eraser.metrics,
            "file_mb": Path(config.out).stat().st_size / 1e6,
            "fired": fired,
            "calibration": eraser.concepts[0].calibration,
            "per_noun": per_noun(sets, mine, base, NAMES),
        },
        "controls": {
            "none": measure(base),
            "lora": forced["lora"],
            "lora_switched": switched["lora"],
            "static": switched["static"],
            "shuffled": switched["shuffled"],
        },
        "forced": forced,
    }
    report["eraser"]["n"]["safe_bit_identical"] = len(same)
    report["remarks"] = remarks(report)
    report |= {
        "concept": ", ".join(nouns),
        "concepts": {
            noun: own | {"calibration": [c.calibration for c in eraser.concepts if NOUN_OF_WORD.get(c.name.lower()) == noun][0]}
            for noun, own in per_concept(sets, mine, base, nouns, judge).items()
        },
        "not_drawn": [c.name for c in eraser.concepts if c.name.lower() not in NOUN_OF_WORD],
        "seed": FIRST_SEED,
        "seeds": seeds,
        "prompts": {name: [p.text for p in ps] for name, ps in sets.items()},
        "seconds": round(time.time() - started),
        "versions": versions(),
    }
    return report


def remarks(report: dict) -> list[str]:
    """What the figures say of the ordinary LoRA beside the eraser, ties included."""
    texts = []
    for title, ours, theirs in (
        ("Behind the same switch", report["eraser"], report["controls"]["lora_switched"]),
        ("With the switch forced on", report["forced"]["eraser"], report["forced"]["lora"]),
    ):
        lead = ours["others_top1"] - theirs["others_top1"]
        word = "ties with" if abs(lead) < TIE else "is ahead of" if lead > 0 else "is behind"
        texts.append(
            f"{title} the eraser {word} the ordinary LoRA on the other nouns ({100 * ours['others_top1']:.1f} % and "
            f"{100 * theirs['others_top1']:.1f} % named; their latents move by {100 * ours['others_change']:.1f} % and "
            f"{100 * theirs['others_change']:.1f} %)."
        )
    return texts


def versions() -> dict:
    import safetensors

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "safetensors": safetensors.__version__,
        "comfyui": comfy_version(),
        "platform": platform.platform(),
    }


def table(report: dict) -> str:
    """The report's figures in percent, FID last, a line per arm."""
    keys = ("erased_top1", "heldout_words_top1", "others_top1", "others_change", "pair_erased_gone", "pair_other_kept")
    lines = [f"{'':22}" + "".join(f"{k:>20}" for k in (*keys, "fid"))]
    rows = {
        "eraser": report["eraser"],
        **{f"{k}": v for k, v in report["controls"].items()},
        **{f"{k} (forced)": v for k, v in report["forced"].items()},
    }
    for name, row in rows.items():
        cells = [f"{100 * row[k]:.1f}%" if row[k] is not None else "-" for k in keys]
        cells.append(f"{row['fid']:.1f}" if row["fid"] is not None else "-")
        lines.append(f"{name:22}" + "".join(f"{s:>20}" for s in cells))
    base, own = report["base"], report["eraser"]
    lines += report["remarks"]
    percent = lambda x: "-" if x is None else f"{100 * x:.1f} %"
    lines += [
        f"{noun}: {percent(c['erased_top1'])} drawn by its name, {percent(c['heldout_words_top1'])} by other words; "
        f"in pairs {percent(c['pair_erased_gone'])} gone, the other kept in {percent(c['pair_other_kept'])}"
        for noun, c in report["concepts"].items()
    ]
    if report["not_drawn"]:
        lines.append(f"not measured, the demo base does not draw them: {shown(', '.join(report['not_drawn']))}")
    lines += [
        f"base: {percent(base['single_top1'])} of single nouns, {percent(base['pair_both_top1'])} of pairs; "
        f"judge on OpenMoji {percent(report['judge']['openmoji_top1'])}",
        f"safe pictures bit-identical: {percent(own['safe_bit_identical'])}; "
        f"trained in {own['train_seconds']} s, {own['train_peak_mb']} MB, file {own['file_mb']:.1f} MB",
    ]
    return "\n".join(lines)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True)
    parser.add_argument("--comfyui")
    parser.add_argument("--eraser", help="the eraser file (default: the config's out)")
    parser.add_argument("--seeds", type=int, default=6)
    arguments = parser.parse_args(argv)
    values = read_yaml(arguments.config)
    config = from_mapping({**values, **({"out": arguments.eraser} if arguments.eraser else {})}, arguments.config)
    if config.base not in COMMANDS:
        parser.error(f"--config: base is {config.base}, expected {' or '.join(COMMANDS)}, whose nouns the judge knows")
    try:
        drawn_nouns([c.name for c in load_eraser(config.out).concepts], config.out)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    start_comfy(find_comfy(arguments.comfyui))
    report = evaluate(config, arguments.seeds) | {"command": COMMANDS[config.base]}
    path = Path(config.out).with_name("report.json")
    path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report), f"\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
