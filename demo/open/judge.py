"""The judge of the emoji-open base: as emoji-sd's, with one score for each of its nouns, and more layers."""

from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from .. import judge
from .nouns import NOUNS

WEIGHTS = Path(__file__).resolve().parents[2] / "benchmarks" / "open" / "judge.safetensors"
NAMES = list(NOUNS)


class Judge(judge.Judge):
    """Pictures (N, 3, H, W) in 0..1 -> logits (N, nouns): the highest that any place in the picture gives."""

    names, present = NAMES, judge.PRESENT

    def __init__(self):
        nn.Module.__init__(self)
        self.features = nn.Sequential(
            judge.block(3, 32, 2),
            judge.block(32, 64, 2),
            judge.block(64, 96, 1),
            judge.block(96, 160, 2),
            judge.block(160, 224, 1),
            judge.block(224, 320, 2),
            nn.Dropout(0.2),
        )
        self.place = nn.Conv2d(320, len(NAMES), 4)  # sees a whole 64-pixel cell
        nn.init.constant_(self.place.bias, -5.0)  # hardly any noun is in a picture


def load_judge(path: Path = WEIGHTS) -> Judge:
    loaded = Judge()
    loaded.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return loaded.eval()
