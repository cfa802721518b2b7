"""A quick look at how far a training is: the verdict's own share, of a few prompts and noises that neither it nor training sees.

    erased = 1 - E || eps_theta(z_t, t, c) - eps* ||^2 / scale(t)  /  E || eps - eps* ||^2 / scale(t)
    leaked = E || eps_theta(z_t, t, c_kept) - eps ||^2 / scale(t)  /  E || eps - eps* ||^2 / scale(t)

both at s = S with the switch forced on: whether it fires is settled before the first step, and no step changes it.
"""

import random
from dataclasses import dataclass, replace
from statistics import fmean

from host.backbone import Backbone

from ..config import Config
from ..prompts import held_out
from ..prompts.concepts import Prompt, Target
from ..samples import Asked, Samples, draw_samples
from ..verdict import adapted, distance

OTHER = 224_737  # added to the seed: other noise than the training's and the verdict's
CONCEPTS = 16  # that are looked at, of more evenly spread ones
PICTURES, LEVELS, KEPT = 4, 2, 4  # of a concept, noise levels of each, and prompts that are to stay
SHARE = 0.03  # of the training's time that looks may take, by the rows that go through the denoiser
PASSES = 2  # a step's row takes as long as so many of a look, which has no backward pass
CLOSEST = 20  # steps between two looks, at least


@dataclass
class Seen:
    """What a look found."""

    erased: list[float]  # of every concept looked at
    leaked: float

    @property
    def share(self) -> float:
        return fmean(self.erased)


class Look:
    """What is looked at, drawn once while the text encoder is at hand; `at` measures a network."""

    def __init__(self, config: Config, backbone: Backbone, seen: set[str]):
        erased, rng = config.erased(), random.Random(config.seed + OTHER)
        which = held_out.spread(list(range(len(erased))), CONCEPTS)
        targets = held_out.targets([erased[k] for k in which], seen, held_out.ON_THE_WAY)
        targets = [t for k in range(len(which)) for t in some([t for t in targets if t.concept == k], PICTURES, rng)]
        safe = some(held_out.safe(erased, config.retain, config.templates, config.retain_prompts, seen, held_out.ON_THE_WAY), KEPT, rng)
        kept = [Target(Prompt(text, False), text, (0,)) for text in safe]
        count, every = len(targets), len(targets) + len(kept)
        shown = backbone.encode([*(t.prompt.text for t in targets), *safe, *(t.mapped for t in targets)])
        self.text, self.kept_text = shown.rows(slice(count)), shown.rows(slice(count, every))
        steps = -(-config.sampling_steps // 2)  # no picture is looked at
        self.config = replace(config, pictures=PICTURES, sampling_steps=steps, kept_steps=min(LEVELS, config.kept_steps, steps))
        self.config.seed = (config.seed + OTHER) % 2**63
        self.backbone, silent = backbone, lambda text: None
        draw = lambda asked, pictures: draw_samples(backbone, replace(self.config, pictures=pictures), asked, False, silent, True)
        nothing = backbone.encode([""])
        self.drawn: Samples = draw(Asked(targets, self.text, shown.rows(slice(every, None)), nothing), PICTURES)
        self.stays: Samples = draw(Asked(kept, self.kept_text, self.kept_text, nothing), KEPT)
        self.whole = distance(self.drawn.eps, self.drawn.eps_star, self.drawn.scale)
        self.stays.scale = self.drawn.scale[(self.stays.sigma[:, None] - self.drawn.sigma).abs().argmin(1)]

    @property
    def every(self) -> int:
        """Steps between two looks, so that they take SHARE of the training's time."""
        rows = len(self.drawn.x) + len(self.stays.x)
        return max(CLOSEST, round(rows / (SHARE * PASSES * self.config.batch)))

    def at(self, network) -> Seen:
        ask = lambda samples, text: adapted(self.backbone, network, self.config, samples, text, text.condition(), forced=True)
        left = distance(ask(self.drawn, self.text), self.drawn.eps_star, self.drawn.scale)
        moved = distance(ask(self.stays, self.kept_text), self.stays.eps, self.stays.scale)
        own = [self.drawn.concept == k for k in self.drawn.concept.unique()]
        share = lambda mine: 1 - (left[mine].sum() / self.whole[mine].sum().clamp_min(1e-12)).item()
        return Seen([share(mine) for mine in own], (moved.mean() / self.whole.mean().clamp_min(1e-12)).item())


def some(things: list, count: int, rng: random.Random) -> list:
    return rng.sample(things, min(count, len(things)))
