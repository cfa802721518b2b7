"""What the sampler's conditionings are: whose role is to be erased, and what in them is not read."""

import logging
import re

log = logging.getLogger("unhype")

UNCONDITIONAL = ("neg", "uncond", "empty")  # beginnings of a word in the roles that guiders give their conditionings
CONDITIONAL = ("pos", "cond", "middle")
told: set[tuple[str, str]] = set()  # guider, role


def unconditional(role: str, guider: str) -> bool:
    """Whether a role of a guider's is an unconditional one, by its name; one that is not known is erased and named in the log once."""
    words = re.findall("[a-z]+", str(role).lower()) or [""]
    if any(word.startswith(UNCONDITIONAL) for word in words):
        return True
    if not words[0].startswith(CONDITIONAL) and (guider, role) not in told:
        told.add((guider, role))
        log.warning(
            "%s calls one of its conditionings %r, which the eraser does not know: it is erased like a positive one. "
            "If it is a negative one, a prompt there that names an erased concept changes the picture",
            guider,
            role,
        )
    return False


def refuse_boxes(conditioning: dict, where: str) -> None:
    """Raise ValueError where a conditioning carries GLIGEN's boxes: their texts go to the model past everything that is read."""
    if conditioning.get("gligen") is not None:
        raise ValueError(
            f"{where} has GLIGEN boxes (GLIGENTextBoxApply), whose texts the eraser cannot read: "
            "take the boxes out, or use Conditioning (Set Area) for the same places"
        )
