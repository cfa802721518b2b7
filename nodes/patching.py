"""MODEL + eraser + conditioning -> a patched clone, each batch row erased by its own prompt.

The sampler mixes conditional and unconditional rows of several prompts in one forward, and neither their order
nor their uuids tell which is which. So while positive and negative are still apart (OUTER_SAMPLE) every
conditioning entry is labelled with the numbers of its prompts; the host batches, repeats and area-copies the
labels with the rows; and they are taken out again where the denoiser is called (APPLY_MODEL).
"""

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import comfy.conds
import comfy.model_sampling
import torch
from comfy.patcher_extension import WrappersMP

from ..unhype.adapter import Term, adapter
from ..unhype.checkpoint import Eraser
from ..unhype.condition import Condition, read_condition, stack_conditions
from ..unhype.hypernetwork import Factors, at_strength, rows_of
from ..unhype.layers import FAMILIES, Layer, check_layers, family_of
from ..unhype.onset import acting, onset, scaled
from ..unhype.text import shown
from .base import Model, warn_of_another_base
from .prompts import refuse_boxes, unconditional, warn_of_another_encoder, warn_of_the_negative
from .tell import Seen, account_of, sources, tell
from .watch import Watch

KEY = "unhype"
NOBODY = -1  # the pair of a prompt that is not erased: one that does not fire, a negative, an empty one
Prompt = tuple[str, dict[str, Any], torch.Tensor]  # role, conditioning, the numbers of its rows
log = logging.getLogger("unhype")


class Entry(NamedTuple):
    """One eraser on a model."""

    eraser: Eraser
    strength: float
    fixed: Condition | None  # where a conditioning is wired, it decides for every prompt
    off: torch.Tensor  # (K,) bool: concepts of the file that are switched off
    node: str | None  # id of the node that shows what was erased


def erase(
    model: Model,
    eraser: Eraser,
    strength: float,
    conditioning: list[list[Any]] | None = None,
    concepts: str = "",
    node: str | None = None,
) -> Model:
    """A clone of MODEL with the eraser; at strength 0 the MODEL itself.

    Several erasers add up. Of one file each concept counts once per prompt, at the highest strength at which it fires.
    What fired is shown on `node` at every sampling. Raises ValueError when the eraser does not fit the model, the
    conditioning cannot be read, or a concept is not in the file.
    """
    check_strength(strength)
    if strength == 0:
        tell(node, eraser.source, "strength 0: nothing is erased")
        return model
    check_fits(eraser, model)
    fixed = None if conditioning is None else read_conditioning(conditioning, "the connected conditioning", eraser)
    clone = model.clone()
    entries = [*entries_of(model), Entry(eraser, strength, fixed, switched_off(eraser, concepts), node)]
    for kind in (WrappersMP.OUTER_SAMPLE, WrappersMP.APPLY_MODEL):
        clone.remove_wrappers_with_key(kind, KEY)
    clone.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, KEY, LabelPrompts(entries))
    clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, apply_labelled)
    return clone


def check_strength(strength: object) -> None:
    """Raise ValueError unless a node's strength is a number from 0 up."""
    if not isinstance(strength, int | float) or not math.isfinite(strength) or strength < 0:
        raise ValueError(f"strength is {strength!r}, expected a number from 0 up: 0 leaves the model as it is, 1 erases as trained")


def check_fits(eraser: Eraser, model: Model) -> None:
    """Raise ValueError unless the eraser was made for models like this one; warn where it is another base of the kind."""
    diffusion_model = model.get_model_object("diffusion_model")
    family = family_of(diffusion_model)
    if family.name != eraser.family:
        raise ValueError(
            f"{eraser.source} was trained for {FAMILIES[eraser.family].title}, this model is {family.title}: "
            "choose an eraser that was made for this model, or the model that it was made for"
        )
    check_layers(eraser.network.shape.layers, diffusion_model, family, eraser.source)
    warn_of_another_base(model, eraser)


def named(concepts: str | None) -> list[str]:
    """The names in a text with commas between them, in small letters."""
    return [name.strip().lower() for name in (concepts or "").split(",") if name.strip()]


def refuse_unknown(wanted: list[str], erasers: Sequence[Eraser]) -> None:
    """Raise ValueError, listing all that there are, for a name that is no concept of the erasers."""
    names = [c.name for eraser in erasers for c in eraser.concepts]
    for name in wanted:
        if name not in [n.lower() for n in names]:
            files = " or ".join(eraser.source for eraser in erasers)
            raise ValueError(
                f"concepts: {shown(name)!r} is not in {files}, which erases {shown(', '.join(names), 400)}; "
                "write some of these, separated by commas, or nothing for all of them"
            )


def switched_off(eraser: Eraser, concepts: str | None) -> torch.Tensor:
    """Which of the file's concepts are not among the names in `concepts`, (K,) bool; without a name none is off."""
    wanted = named(concepts)
    refuse_unknown(wanted, [eraser])
    return torch.tensor([bool(wanted) and c.name.lower() not in wanted for c in eraser.concepts])


def same_file(eraser: Eraser) -> str | int:
    """What erasers of one file have in common."""
    return eraser.digest or id(eraser)


def entries_of(model: Model) -> list[Entry]:
    """The erasers already on a MODEL."""
    wrappers = model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)
    return wrappers[0].entries if wrappers else []


def read_conditioning(conditioning: list[list[Any]], where: str, eraser: Eraser) -> Condition:
    """The condition of all entries of a conditioning, one under the other; a warning where another text encoder seems to have made it.

    Raises ValueError where an entry cannot be read.
    """
    for _, extra in conditioning:
        refuse_boxes(extra, where)
    condition = stack_conditions([read_entry(tokens, extra, where, eraser) for tokens, extra in conditioning])
    warn_of_another_encoder(condition, where, eraser, set())
    return condition


def read_entry(tokens: torch.Tensor, extra: dict[str, Any], where: str, eraser: Eraser) -> Condition:
    """The condition on the CPU of a conditioning entry's token states and what else is in it, its widths checked against the eraser's."""
    shape, family = eraser.network.shape, FAMILIES[eraser.family]
    mask = extra.get("attention_mask") if family.masked else None
    condition = read_condition(tokens, extra.get("pooled_output"), where, mask, shape.pooled_dim > 0).to("cpu")
    found, expected = (condition.tokens.shape[2], condition.pooled.shape[1]), (shape.token_dim, shape.pooled_dim)
    if found != expected:
        widths = f"its tokens are {found[0]} wide, expected {expected[0]}"
        widths += f", its pooled embedding {found[1]}, expected {expected[1]}" if shape.pooled_dim else ""
        raise ValueError(
            f"{where} comes from another kind of text encoder than {eraser.source} reads: {widths}. "
            f"Use the text encoder (CLIP) that belongs to the {family.title} model that the eraser was made for"
        )
    return condition


class Plan:
    """For one sampling: which prompts carry which adapters, and from which noise level on; None: from the start."""

    def __init__(self, device: torch.device, watch: Watch):
        self.device, self.watch = device, watch
        # Layers, factors, prompt -> pair or -1, noise level.
        self.terms: list[tuple[tuple[Layer, ...], list[Factors], torch.Tensor, float | None]] = []
        self.made: dict[tuple[int, ...], tuple[list[Term], list[float | None]]] = {}  # by labels: the same from step to step

    def add(self, layers: tuple[Layer, ...], factors: list[Factors], pair_of_prompt: torch.Tensor, begin: float | None) -> None:
        if any(f.down.device != self.device for f in factors[:1]):
            factors = [f.to(self.device) for f in factors]
        self.terms.append((layers, factors, pair_of_prompt, begin))

    def for_rows(self, labels: list[int], sigma: torch.Tensor, schedule: torch.Tensor | None, flow: bool) -> list[Term]:
        """Terms for a forward whose rows belong to the prompts `labels`, at `sigma` (N,) of the sampler's schedule.

        An adapter that has not begun yet is there with zeros, so that a compiled model sees the same layers in every step.
        """
        if tuple(labels) not in self.made:
            numbers = torch.tensor(labels)
            made = [(self.term(numbers, layers, factors, pairs), begin) for layers, factors, pairs, begin in self.terms]
            acts = [(term, begin) for term, begin in made if len(term.rows)]
            self.made[tuple(labels)] = [term for term, _ in acts], [begin for _, begin in acts]
        terms, begins = self.made[tuple(labels)]
        if all(begin is None for begin in begins):
            return terms
        late = []
        for term, begin in zip(terms, begins):
            if begin is not None:
                share = acting(sigma.to(self.device), schedule, begin, flow)[term.rows.to(self.device)]
                term = term._replace(factors=scaled(term.factors, share))
            late.append(term)
        return late

    def term(self, labels: torch.Tensor, layers: tuple[Layer, ...], factors: list[Factors], pair_of_prompt: torch.Tensor) -> Term:
        pairs = pair_of_prompt[labels]
        rows = (pairs >= 0).nonzero().flatten()
        pick = pairs[rows].to(self.device)
        return Term(rows, layers, rows_of(factors, pick))


class LabelPrompts:
    """OUTER_SAMPLE wrapper: number the prompts, decide who fires, make the factors, label the rows."""

    def __init__(self, entries: list[Entry]):
        self.entries = entries
        self.warned: set[str] = set()

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        guider, family = executor.class_obj, FAMILIES[self.entries[0].eraser.family]
        prompts: list[Prompt] = []  # those that can be erased
        others: list[torch.Tensor] = []  # those that cannot
        states: list[torch.Tensor] = []  # token states by number
        for role, conds in guider.conds.items():
            conditional = not family.conditional_only or not unconditional(role, type(guider).__name__)
            for i, cond in enumerate(conds):
                refuse_boxes(cond, f"the {role} conditioning")
                numbers = torch.arange(len(states), len(states) + len(cond["cross_attn"]))
                states += cond["cross_attn"]
                if conditional:
                    prompts.append((role, cond, numbers))
                else:
                    others.append(cond["cross_attn"])
                labels = comfy.conds.CONDRegular(numbers[:, None])
                conds[i] = {**cond, "model_conds": {**cond["model_conds"], KEY: labels}}
        for entry in self.entries:
            if entry.fixed is not None:
                warn_of_the_negative(entry.fixed, [cond["cross_attn"] for _, cond, _ in prompts], others, self.warned)
        watch = Watch(family, states, [(e.eraser.network, e.off) for e in self.entries], self.warned)
        plan = self.plan(prompts, Plan(guider.model_patcher.load_device, watch))
        guider.model_options.setdefault("transformer_options", {})[KEY] = plan
        try:
            result = executor(*args, **kwargs)
            watch.settle()
        finally:
            watch.forget()
        return result

    def plan(self, prompts: list[Prompt], plan: Plan) -> Plan:
        if not prompts:
            return plan
        taken: dict[str | int, torch.Tensor] = {}
        firing: list[tuple[Entry, list[Factors], torch.Tensor]] = []
        seen: dict[str, tuple[Entry, list[Seen]]] = {}  # by node
        numbers = torch.cat([n for _, _, n in prompts])
        for entry in sorted(self.entries, key=lambda e: -e.strength):
            network = entry.eraser.network
            if entry.fixed is None:
                conditions = []
                for role, cond, _ in prompts:
                    where = f"the {role} conditioning"
                    conditions.append(read_entry(cond["cross_attn"], cond, where, entry.eraser))
                    warn_of_another_encoder(conditions[-1], where, entry.eraser, self.warned)
                condition = stack_conditions(conditions)
            else:
                margins = (network.scores(entry.fixed) - network.switch.threshold).masked_fill(entry.off, -torch.inf)
                condition = entry.fixed.rows([margins.amax(1).argmax().item()] * len(numbers))
            done = taken.setdefault(same_file(entry.eraser), torch.zeros(len(numbers), len(entry.off), dtype=torch.bool))
            off, scores = entry.off | done, network.scores(condition)
            fires = network.switch.fires(scores, off)
            found = Seen(entry.eraser, scores, entry.off, done.clone())
            seen.setdefault(entry.node or str(id(entry)), (entry, []))[1].append(found)
            done[fires] |= ~entry.off
            if fires.any():
                pairs = torch.full((len(plan.watch.prompts),), NOBODY)
                pairs[numbers[fires]] = torch.arange(int(fires.sum()))
                own = condition if fires.all() else condition.rows(fires)
                firing.append((entry, at_strength(network, own, max(entry.strength, 1.0), off[fires]), pairs))
        for entry, found_by_node in seen.values():
            decides = "the connected conditioning decides: " if entry.fixed is not None else ""
            tell(entry.node, sources(found_by_node), decides + account_of(found_by_node))
        # Added up in an order of their own, so that the order of the nodes does not change the rounding.
        for entry, factors, pairs in sorted(firing, key=lambda f: (-f[0].strength, f[0].eraser.digest, f[0].off.tolist())):
            begin = onset(entry.strength, entry.eraser.onset) if entry.strength < 1 else None
            plan.add(entry.eraser.network.shape.layers, factors, pairs, begin)
        return plan


def apply_labelled(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL wrapper: take the labels out and run the denoiser with its rows' adapters, watching what it reads."""
    labels = kwargs.pop(KEY, None)
    options = args[4] if len(args) > 4 else kwargs.get("transformer_options", {})
    plan = options.get(KEY)
    if plan is None:
        return executor(x, *args, **kwargs)
    model, terms = executor.class_obj.diffusion_model, []
    if labels is not None:
        labels, sigma = checked(labels, x), args[0]
        flow = isinstance(executor.class_obj.model_sampling, comfy.model_sampling.CONST)
        terms = plan.for_rows(labels, sigma.flatten().expand(len(x)), options.get("sample_sigmas"), flow)
    plan.watch.settle()
    own = plan.watch.own_in_place_of(args[2], labels) if len(args) > 2 else None
    if own is not None:
        args = (*args[:2], own.tensor, *args[3:])
    with plan.watch.during(model, labels, options, own), adapter(model, terms, len(x), own):
        return executor(x, *args, **kwargs)


def checked(labels: torch.Tensor, x: torch.Tensor) -> list[int]:
    if len(labels) != len(x):
        raise RuntimeError(
            f"UnHype: the sampler calls the model with {len(x)} rows for {len(labels)} labelled ones; "
            "a node that regroups the batch (attention couple) cannot be combined with the eraser"
        )
    numbers: list[int] = labels.flatten().tolist()
    return numbers
