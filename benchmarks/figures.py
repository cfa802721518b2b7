"""Reports of the measuring commands as Markdown: what stands in the figure blocks of the pages (pages.py)."""

from .comparison.report import percent, table
from .language.report import summary

ARMS = {  # title -> where the report has it
    "no adapter": ("controls", "none"),
    "**UnHype, switch calibrated**": ("eraser",),
    "UnHype, forced": ("forced", "eraser"),
    "ordinary LoRA (forced)": ("controls", "lora"),
    "that LoRA behind our switch": ("controls", "lora_switched"),
    "static mean adapter": ("controls", "static"),
    "static mean, forced": ("forced", "static"),
    "shuffled conditions": ("controls", "shuffled"),
    "shuffled conditions, forced": ("forced", "shuffled"),
}
SHORT = ("no adapter", "**UnHype, switch calibrated**", "ordinary LoRA (forced)", "that LoRA behind our switch")
FULL_SIZE = {
    "sd15": "SD 1.5",
    "sdxl": "SDXL",
    "flux": "Flux.1",
    "flux-1+2": "Flux, 1 double and 2 single blocks of 19 and 38",
    "flux-3+6": "Flux, 3 double and 6 single blocks",
}


def lines(*texts: str) -> str:
    return "\n".join(f"- {text}" for text in texts)


def share(x: float) -> str:
    return f"{percent(x)} %"


def arm(report: dict, title: str) -> dict:
    for key in ARMS[title]:
        report = report[key]
    return report


def demo(report: dict) -> str:
    """All arms of a demo report, and what else it says."""
    noun, own, base = report["concept"], report["eraser"], report["base"]
    columns = {
        f"{noun} drawn": "erased_top1",
        "held-out words drawn": "heldout_words_top1",
        "other nouns right": "others_top1",
        "others moved": "others_change",
        "pairs: erased one gone": "pair_erased_gone",
        "pairs: other kept": "pair_other_kept",
    }
    cells = [[title, *(percent(arm(report, title)[k]) for k in columns.values()), f"{arm(report, title)['fid']:.1f}"] for title in ARMS]
    behind = ", ".join(str(own["n"].get(k, own["n"]["others_top1"])) for k in columns.values())
    return "\n".join(
        [
            table(["", *columns, "FID of others"], cells),
            lines(
                f"Samples behind a figure: {behind} (the pairs of which the base draws both); behind an FID {own['n']['fid']}. "
                f"The base's own FID at other seeds is {own['fid_base_other_seeds']:.1f}.",
                f"Of {own['n']['safe_bit_identical']} pictures of prompts without a {noun}, {share(own['safe_bit_identical'])} are "
                "bit-identical to the base's.",
                *report["remarks"],
                f"Training took {own['train_seconds']} s, without the import of ComfyUI, and at most {own['train_peak_mb']} MB; the file "
                f"has {own['file_mb']:.1f} MB. Judging everything took {report['seconds']} s.",
                f"The base draws {share(base['single_top1'])} of single nouns (every word, {base['n']['single_top1']} pictures) and both "
                f"nouns of {share(base['pair_both_top1'])} of pairs ({base['n']['pair_both_top1']}).",
            ),
        ]
    )


def demo_short(report: dict) -> str:
    """The README's table."""
    own, noun = report["eraser"], report["concept"]
    columns = {f"{noun} drawn": "erased_top1", "other nouns right": "others_top1", "others moved": "others_change"}
    cells = [[title.replace(", switch calibrated", ""), *(percent(arm(report, title)[k]) for k in columns.values())] for title in SHORT]
    equal = f"{share(own['safe_bit_identical'])} of {own['n']['safe_bit_identical']} pictures without a {noun}"
    below = (
        f"{equal} are equal to the base's to the last bit. Trained in {own['train_seconds']:.0f} s; the file has {own['file_mb']:.1f} MB."
    )
    return table(["percent", *columns], cells) + "\n" + below


def base_alone(report: dict) -> str:
    """The model card's figures of a base."""
    base = report["base"]
    return lines(
        f"The judge names the noun in {share(base['single_top1'])} of {base['n']['single_top1']} pictures of single nouns: every word of "
        "every noun, once in every style.",
        f"It names both nouns of {share(base['pair_both_top1'])} of {base['n']['pair_both_top1']} pairs.",
    )


def judge(report: dict) -> str:
    """What the judge itself can do, as it was tested when it was made."""
    found = report["judge"]
    return lines(
        f"Of {found['openmoji_n']:.0f} OpenMoji drawings of the same nouns, by artists that neither network has seen, the judge names "
        f"{share(found['openmoji_top1'])}.",
        f"Of {found['real_pairs_n']:.0f} real pairs it names both nouns of {share(found['real_pairs_top2'])}.",
    )


def language(report: dict) -> str:
    """The table of a language report, and how many texts are behind it."""
    count = report["texts"]
    made = count["made_long"] + count["made_tags"]
    return "\n".join(
        [summary(report), f"{count['captions']} captions, {count['prompts']} prompts, {made} long prompts and lists of tags made of them."]
    )


def negative(report: dict) -> str:
    """An eraser against negative prompts."""
    header = ["base", "positive against negative prompt", "pictures", "no eraser", "adapter on conditional rows", "on all rows"]
    keys = ("no_eraser", "conditional_rows", "all_rows")
    rows = [[r["base"], r["case"], r["n"], *(percent(r[k]) for k in keys)] for r in report["rows"]]
    return table(header, rows) + f"\nPercent named rightly, at cfg {report['rows'][0]['cfg']:g}."


def fullsize_counted(report: dict) -> str:
    """What the dry run counts for models of full size."""
    rows = [r for r in report["rows"] if r["train_peak_gb"] is None]
    cells = [
        [
            FULL_SIZE[r["model"]],
            r["weights"],
            r["size"],
            f"{r['card_gb']} GB",
            f"{r['estimated_peak_gb']:.1f} GB",
            r["plan"],
            f"{r['eraser_file_mb']} / {r['eraser_file_mb_100_concepts']} MB",
        ]
        for r in rows
    ]
    return table(["model", "weights", "size", "card", "peak, counted", "how", "eraser file, 1 / 100 concepts"], cells).rstrip()


def fullsize_measured(report: dict) -> str:
    """What steps of full-size shapes really took on a CPU, beside the count."""
    rows = [r for r in report["rows"] if r["train_peak_gb"] is not None]
    over = lambda r: "-" if r["sample_step_overhead"] is None else share(r["sample_step_overhead"])
    cells = [
        [
            FULL_SIZE[r["model"]],
            r["weights"],
            r["size"],
            f"{r['train_peak_gb']:.2f} GB",
            f"{r['estimated_peak_gb']:.2f} GB",
            f"{r['train_step_seconds']:.0f} s",
            over(r),
        ]
        for r in rows
    ]
    apart = [r["estimated_peak_gb"] - r["train_peak_gb"] for r in rows]
    return (
        table(["model", "weights", "size", "measured", "counted", "a training step", "a sampling step with adapter, longer by"], cells)
        + f"\nThe count lies {min(apart):.1f} to {max(apart):.1f} GB above what was measured."
    )


def speed(report: dict) -> str:
    """What the node costs."""
    titles = {"demo": "demo model", "sd15": "SD 1.5's width", "flux": "Flux's width"}
    shapes = {name: titles[name] for name in report["step_overhead"]}
    rows = {
        "step_overhead": "a sampling step with the adapter on, longer by",
        "nothing_fires": "a step where nothing fires, longer by",
        "prompt_switch_ratio": "a new prompt, of what core's LoRA loader takes",
    }
    between = lambda f: f"{share(f['median'])} ({share(f['low'])} to {share(f['high'])})"
    cells = [[title, *(between(report[what][shape]) for shape in shapes)] for what, title in rows.items()]
    started = report["import_seconds"]["demo"]
    added = f"{started['median']:.2f} s ({started['low']:.2f} to {started['high']:.2f})"
    return table(["", *shapes.values()], cells) + f"\nImporting the pack adds {added} to the host's start. In brackets 95 % confidence."


def strength(report: dict) -> str:
    """How far a picture moves with the Eraser's strength."""
    shown = ["0.1", "0.3", "0.5", "0.7", "0.9", "1.5", "2"]
    rows = [(base, way, own) for base, ways in report["bases"].items() for way, own in ways.items()]
    cells = [
        [
            f"{base}, {way}",
            *(f"{own['change'][s]:.2f}" if s in own["change"] else "" for s in shown),
            *(f"{own[key]:.2f}" for key in ("worst_from_line", "single_worst_from_line", "single_largest_step")),
        ]
        for base, way, own in rows
    ]
    last = ["mean, farthest from the line", "a single picture, farthest", "its largest step"]
    return table(["change at strength", *shown, *last], cells) + f"\n{rows[0][2]['n']} pictures a row, {report['steps']} steps."


def controlnet(report: dict) -> str:
    """How often the erased noun is drawn with a ControlNet."""
    nouns = list(report["rows"][0]["named"])
    header = ["model", "hint", "strength", "prompt it reads", *(f"{n} named" for n in nouns), "edges as the hint's"]
    cells = [
        [r["model"], r["hint"], r["strength"], r["controlnet_reads"], *(percent(r["named"][n]) for n in nouns), r["edges_as_the_cats"]]
        for r in report["rows"]
    ]
    return table(header, cells) + f"\nPercent of {report['rows'][0]['n']} pictures a row; the last column is a correlation."


def sizes(report: dict) -> str:
    """What a user downloads."""
    megabytes = lambda key: f"{report[key]['download_mb']:.0f} MB to download, {report[key]['disk_mb']:.0f} MB on the disk"
    return lines(
        f"The registry's archive: {megabytes('archive')}.",
        f"`git clone --depth 1`: {megabytes('shallow_clone')}; {report['cifar10_mb']:.0f} MB of the download are for one benchmark.",
        f"The same without what only developers need: {megabytes('sparse_clone')}.",
        f"`git clone`, with the whole history: {megabytes('clone')}.",
    )


def recipes(report: dict) -> str:
    """What the recipes take: memory of a training step by the card, and how often the denoiser is asked."""
    cards = list(report["rows"][0]["cards"])
    of = lambda plan: "-" if plan is None else f"{plan['peak_gb']:.1f} GB{' *' if 'main memory' in plan['plan'] else ''}"
    count = lambda n: f"{n:,}".replace(",", " ")
    cells = [
        [
            f"`{r['recipe']}`",
            f"{FULL_SIZE[r['model']]}, {r['weights']}",
            *(of(r["cards"][gb]) for gb in cards),
            *(count(n) for n in r["evaluations"].values()),
            f"{r['pflop']:.0f}",
            f"{r['file_mb']:.0f} MB",
        ]
        for r in report["rows"]
    ]
    header = ["recipe", "base", *(f"card of {gb} GB" for gb in cards), "drawing", "training", "after", "PFLOP", "file"]
    return table(header, cells).rstrip()


def open_base(report: dict) -> str:
    """What the judge names of what the open base draws."""
    base = report["base"]
    rows = {
        "single nouns by every word that captions held": ("single", "single_top1"),
        "by their short descriptions": ("description", "description_top1"),
        "both of two nouns": ("pair", "pair_both_top1"),
        "by words that no caption held": ("unseen_words", "unseen_words_top1"),
        "by short descriptions that no caption held": ("unseen_descriptions", "unseen_descriptions_top1"),
        "by long ones, which no caption held": ("long_descriptions", "long_descriptions_top1"),
    }
    there = {title: keys for title, keys in rows.items() if keys[1] in base}
    return table(["asked for", "named rightly", "pictures"], [[t, share(base[k]), str(base[f"{n}_n"])] for t, (n, k) in there.items()])
