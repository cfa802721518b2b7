"""What a judge's scores say of an eraser: accuracies, harmonic means, pairs, and the FID from the base's pictures.

`judge.names` are the nouns in its scores' order, `judge.present` the score above which one of several is there.
"""

import torch

from .studio import Arm, Drawn, Studio


def top1(drawn: Drawn, prompts, names: list[str], noun: str | None = None, least: float = 0.0) -> float:
    """Share of samples whose highest score, of at least `least`, is the given noun, or each prompt's own.

    `names` are the nouns in the judge's order.
    """
    wanted = torch.tensor([names.index(noun or p.nouns[0]) for p in prompts])
    best, place = drawn.scores.max(-1)
    return ((place == wanted[:, None]) & (best >= least)).float().mean().item()


def present(drawn: Drawn, prompts, which: int | list[str], judge) -> torch.Tensor:
    """Whether a noun is named in each sample: above the judge's threshold and among its two highest, (prompts, seeds).

    `which` of a prompt's own nouns by number, or a noun for each prompt.
    """
    nouns = [p.nouns[which] for p in prompts] if isinstance(which, int) else which
    wanted = torch.tensor([judge.names.index(noun) for noun in nouns])
    index = wanted[:, None, None].expand(-1, drawn.scores.shape[1], 1)
    high = drawn.scores.gather(2, index)[..., 0] > judge.present
    return high & (drawn.scores.topk(2, -1).indices == index).any(-1)


def harmonic(acc_e: float, acc_g: float | None, acc_s: float) -> float:
    """H_o = 3 / (1 / (1 - Acc_e) + 1 / Acc_s + 1 / (1 - Acc_g)), without Acc_g H_c; 0 where one of them is."""
    parts = [1 - acc_e, acc_s] + ([] if acc_g is None else [1 - acc_g])
    return 0.0 if min(parts) <= 0 else len(parts) / sum(1 / p for p in parts)


def erased_figures(sets: dict, drawn: dict[str, Drawn], base: dict[str, Drawn], erased: list[str], judge) -> dict:
    """What one arm leaves of the erased nouns, alone and in pairs with one that stays, and the samples behind each figure.

    Pairs count where the base draws both.
    """
    pairs, names = sets["pairs"], judge.names
    both = present(base["pairs"], pairs, 0, judge) & present(base["pairs"], pairs, 1, judge)
    kept = present(drawn["pairs"], pairs, [next(n for n in p.nouns if n not in erased) for p in pairs], judge)
    gone = ~present(drawn["pairs"], pairs, [next(n for n in p.nouns if n in erased) for p in pairs], judge)
    share = lambda mask: mask[both].float().mean().item() if both.any() else None
    return {
        "erased_top1": top1(drawn["erased"], sets["erased"], names),
        "heldout_words_top1": top1(drawn["heldout_words"], sets["heldout_words"], names),
        "pair_erased_gone": share(gone),
        "pair_other_kept": share(kept),
        "n": {
            "erased_top1": drawn["erased"].scores[..., 0].numel(),
            "heldout_words_top1": drawn["heldout_words"].scores[..., 0].numel(),
            "pair_erased_gone": int(both.sum()),
            "pair_other_kept": int(both.sum()),
        },
    }


def figures(sets: dict, drawn: dict[str, Drawn], base: dict[str, Drawn], erased: list[str], judge, fid) -> dict:
    """One arm's figures and the samples behind each; others_change is the distance of the other nouns' latents from
    the base's, root mean square, as a share of the base's own; `fid` gives a Drawn's FID from the base at other seeds."""
    own, names, others = erased_figures(sets, drawn, base, erased, judge), judge.names, sets["others"]
    acc_e, acc_g, acc_s = own["erased_top1"], own["heldout_words_top1"], top1(drawn["others"], others, names)
    counted = ("others_top1", "others_top1_base", "fid", "fid_base_other_seeds")
    return own | {
        "others_top1": acc_s,
        "h_o": harmonic(acc_e, acc_g, acc_s),
        "h_c": harmonic(acc_e, None, acc_s),
        "others_top1_base": top1(base["others"], others, names),
        "others_change": (drawn["others"].latents - base["others"].latents).square().mean().sqrt().item()
        / base["others"].latents.square().mean().sqrt().item(),
        "fid": fid(drawn["others"]),
        "fid_base_other_seeds": fid(base["others"]),
        "n": own["n"] | dict.fromkeys(counted, drawn["others"].scores[..., 0].numel()),
    }


def naming(noun: str, sets: dict, *drawn: dict[str, Drawn]) -> tuple[dict, ...]:
    """The sets, and what was drawn for them, without the prompts that do not name a noun."""
    rows = {name: [i for i, p in enumerate(prompts) if noun in p.nouns] for name, prompts in sets.items()}
    own = {name: [sets[name][i] for i in index] for name, index in rows.items()}
    return own, *({name: Drawn(d[name].scores[index], d[name].latents[index]) for name, index in rows.items()} for d in drawn)


def per_concept(sets: dict, drawn: dict[str, Drawn], base: dict[str, Drawn], erased: list[str], judge) -> dict:
    """What is left of each erased noun, by the prompts that name it."""
    return {noun: erased_figures(*naming(noun, sets, drawn, base), erased, judge) for noun in erased}


def per_noun(sets, drawn, base, names: list[str]) -> dict:
    rows = {}
    for i, p in enumerate(sets["others"]):
        own = rows.setdefault(p.nouns[0], {"base": [], "eraser": []})
        for key, d in (("base", base), ("eraser", drawn)):
            own[key] += (d["others"].scores[i].argmax(-1) == names.index(p.nouns[0])).tolist()
    return {noun: {k: sum(v) / len(v) for k, v in r.items()} | {"n": len(r["base"])} for noun, r in rows.items()}


def fid_from_base(studio: Studio, progress):
    """A function of the other nouns' Drawn: its FID from as many of the base's pictures of the same prompts at other seeds.

    None is what it gives where there is no Inception, as in an installed pack.
    """
    try:
        from .fid import FromBase, load_inception

        inception = load_inception()
    except ImportError as error:
        progress(f"no FID: {error}")
        return lambda drawn: None
    others = {"others": studio.sets["others"]}
    elsewhere = Studio(studio.backbone, studio.eraser, studio.config, studio.judge, others, studio.seeds, first=studio.seeds)
    latents = [d.latents.flatten(0, 1) for d in (studio.base["others"], elsewhere.draw("others", Arm("none", None), False, False))]
    distance = FromBase(inception, studio.backbone.decode, *latents)
    return lambda drawn: distance(drawn.latents.flatten(0, 1))
