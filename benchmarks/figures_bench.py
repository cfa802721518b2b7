"""The comparison's reports (bench.py, cifar10/table.py) as Markdown for the figure blocks of the pages."""

from .comparison import recipes
from .comparison.report import erased_drawn, over, percent, standing, table
from .figures import lines, share

COMPARED = [m for m in recipes.METHODS if m not in recipes.VARIANTS]


def mean(rows: list[dict], method: str, erased: int, key: str) -> float | None:
    found = over(rows, method, erased, key)
    return found and found[0]


def own_rows(report: dict) -> list[dict]:
    """The rows of the demo base; those of CIFAR-10 stand in the same report."""
    return [r for r in report["rows"] if r["base"] == recipes.EMOJI.base]


def attack_of(report: dict, method: str, forced: bool = False) -> float | None:
    """The success of the best attack on a method."""
    return max((a["success"] for a in report["attacks"] if (a["method"], a["forced"]) == (method, forced)), default=None)


def methods(report: dict) -> str:
    """The methods side by side at 1, 4 and 12 erased nouns."""
    rows, cells = own_rows(report), []
    for m in (m for m in COMPARED if over(rows, m, 4, "h_o")):  # rivals that came later have no rows in an older report
        count, pictures = erased_drawn(rows, m, 4)
        cells.append(
            [
                f"**{m}**" if m == "unhype" else m,
                *(percent(mean(rows, m, k, "h_o")) for k in (1, 4, 12)),
                percent(count / pictures),
                percent(mean(rows, m, 4, "acc_s")),
                percent(mean(rows, m, 4, "others_change")),
                percent(attack_of(report, m)),
                f"{mean(rows, m, 4, 'train_seconds'):.0f} s",
            ]
        )
    at_four = [f"{what}, 4" for what in ("drawn", "others right", "others moved", "best attack", "training")]
    header = ["method", "H_o, 1 erased", "4", "12", *at_four]
    return table(header, cells) + "\n" + "\n".join(standing(rows)).rstrip()


def findings(report: dict) -> str:
    """Hard prompts, the switch, attacks, controls and costs."""
    rows = own_rows(report)
    counts = sorted({r["erased"] for r in rows if r["method"] == "unhype"})
    seconds = ", ".join(f"{k}: {mean(rows, 'unhype', k, 'train_seconds'):.0f} s" for k in counts)
    counted = lambda method, ks: ", ".join("{} of {}".format(*erased_drawn(rows, method, k)) for k in ks)
    drawn = "; ".join(f"{m} {counted(m, (1, 4, 12))}" for m in COMPARED if over(rows, m, 1, "h_o"))
    grown = ", ".join(f"{k}: {counted('unhype', [k])}" for k in counts)
    narrow = lambda k: percent(mean(rows, recipes.NARROW, k, "h_o"))
    megabytes = lambda method: f"{mean(rows, method, 4, 'file_mb'):.2f}"
    return lines(
        hard_prompts(report),
        *(switch(report, k) for k in (4, 12)),
        attacks(report),
        *(control(report, name) for name in recipes.CONTROLS),
        f"Forced on everywhere with 4 erased, {share(mean(rows, 'unhype', 4, 'acc_s_forced'))} of the other nouns are named.",
        f"Training by number of concepts, one processor thread: {seconds}.",
        f"Erased nouns still drawn at 1, 4 and 12 erased: {drawn}.",
        f"UnHype's by number of concepts: {grown}.",
        f"{recipes.NARROW}, the same networks folded: H_o {narrow(4)} at 4 and {narrow(12)} at 12, files of "
        f"{megabytes(recipes.NARROW)} MB in place of {megabytes('unhype')}.",
    )


def hard_prompts(report: dict) -> str:
    asked = report["hard_prompts"]
    worst = min(h["erased"] for h in asked)
    where = ", ".join(h["case"] for h in asked if h["erased"] == worst)
    return f"Hard prompts, {len(asked)} kinds of {asked[0]['n']}: {share(worst)} erased at the least ({where})."


def switch(report: dict, erased: int) -> str:
    """Misses, false alarms and equal pictures with that many concepts erased."""
    rates, safe = (next(p for p in report[part] if len(p["nouns"]) == erased) for part in ("switch_all", "safe_all"))
    rate = lambda key: f"{share(rates[key])} (at most {share(rates[key + '_upper'])}, 95 %)"
    return (
        f"The switch with {erased} erased, {rates['misses_n']} prompts of either kind: missed {rate('misses')}, false alarms "
        f"{rate('false_alarms')}; {share(safe['bit_identical'])} of {safe['prompts']} pictures of safe prompts bit-identical."
    )


def attacks(report: dict) -> str:
    made = report["attacks"]
    base = [a["success"] for a in made if a["method"] == recipes.BASE]
    return (
        f"Attacks, {len({a['attack'] for a in made})} kinds of {made[0]['n']} pictures: the best succeeds on UnHype in "
        f"{share(attack_of(report, 'unhype'))}, with its switch forced on in {share(attack_of(report, 'unhype', True))}; on the base "
        f"they succeed in {share(min(base))} to {share(max(base))}."
    )


def control(report: dict, name: str) -> str:
    of = sorted((r for r in report["controls"] if r["method"] == name), key=lambda r: r["erased"])
    drawn = [f"{share(r['acc_e'])} ({share(r['acc_g'])} under held-out words) with {r['erased']} erased" for r in of]
    return f"{name}: the erased nouns are drawn in {', '.join(drawn)}."


def cifar10(report: dict) -> str:
    """The paper's own classes."""
    from .cifar10.table import rows_table

    return rows_table(report["rows"]).rstrip()
