"""Going on from an eraser file: concepts added to it or removed, the others replayed so that they stay as they are."""

from dataclasses import fields
from pathlib import Path

import torch

from unhype.checkpoint import Eraser, load_eraser
from unhype.fold import unfold
from unhype.hypernetwork import Hypernetwork, Shape
from unhype.text import shown

from .prompts.concepts import holds, parse_erase

ANEW = ("switch.look.", "switch.seen", "rewriting.")
OWN = ("out", "add_to", "remove")  # settings that are not taken over from the file


def inherited(values: dict) -> dict:
    """Settings for --add-to: the file's own, overridden by the given ones; its concepts and the new ones, less the removed.

    Raises ValueError where the file says nothing of its training, or a concept to be removed is not in it.
    """
    path = values["add_to"]
    eraser = load_eraser(path)
    former = {k: v for k, v in eraser.training.items() if k not in OWN}
    if not former.get("erase"):
        raise ValueError(f"{path} does not say how it was trained, so nothing can be added to it: train from the beginning")
    if values.get("out") and Path(values["out"]).resolve() == Path(path).resolve():
        raise ValueError(f"out and add_to are both {path}: give the new eraser a name of its own, so that the old one is not lost")
    removed = values.get("remove") or []
    names = [c.name for c in eraser.concepts]
    for name in removed:
        if name not in names:
            raise ValueError(f"remove: {name!r} is no concept of {path}, which erases {shown(', '.join(names), 400)}")
    kept = [entry for entry in former["erase"] if parse_erase(entry).name not in removed]
    new = [entry for entry in values.get("erase") or [] if not any(holds(former_entry, entry) for former_entry in kept)]
    freed = [w for entry in former["erase"] if entry not in kept for w in parse_erase(entry).words]
    retain = values.get("retain") or [*former.get("retain", []), *freed]
    templates_for = {**former.get("templates_for", {}), **values.get("templates_for", {})}
    return {
        **former,
        **values,
        "erase": [*kept, *new],
        "retain": list(dict.fromkeys(retain)),  # less what is erased now, as in every training
        "templates_for": {name: t for name, t in templates_for.items() if name not in removed},
    }


@torch.no_grad()
def take_over(network: Hypernetwork, names: list[str], eraser: Eraser) -> None:
    """Copy an eraser's weights into a network of the same sizes for other concepts, what belongs to one by its name.

    Raises ValueError where the sizes differ.
    """
    former_network = unfold(eraser.network)
    for size in fields(Shape):
        own, found = getattr(network.shape, size.name), getattr(former_network.shape, size.name)
        if size.name not in ("concepts", "look", "rewrite") and own != found:
            about = (lambda layers: f"{len(layers)} layers, the first {layers[0]}") if size.name == "layers" else str
            raise ValueError(
                f"add_to: {size.name} is {about(found)} in {eraser.source}, {about(own)} in this training: "
                "leave rank, hidden, queries, steps and the base model as they were"
            )
    mine, theirs = network.state_dict(), former_network.state_dict()
    per_concept = {"switch.weight", "switch.bias", "switch.threshold", "concept"}
    for key, value in mine.items():
        if key in per_concept:
            for row, name in enumerate(names):
                for former, concept in enumerate(eraser.concepts):
                    if concept.name == name:
                        value[row] = theirs[key][former]
        elif key != "least" and not key.startswith(ANEW):  # measured or fitted anew
            value.copy_(theirs[key])
