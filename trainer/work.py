"""How often a training asks the denoiser, counted from its settings: a row of a forward is one evaluation, whatever the batch."""

from dataclasses import dataclass, fields

from unhype.layers import Family

from . import slider, verdict
from .config import Config
from .optimizer import BACKWARD
from .previews import ROWS, SHOWN
from .prompts import drawn_alike
from .prompts.templates import split_templates
from .samples import drawn_of


@dataclass
class Work:
    """Evaluations by what they are for."""

    drawing: int  # the base's own pictures, and predictions on the way; words that it draws alike
    training: int  # each with a backward pass
    strengths: int  # how late a strength below 1 begins; some of them where the pictures decide
    verdict: int  # at most: what the switch leaves alone is not asked for
    previews: int

    @property
    def evaluations(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))

    @property
    def forwards(self) -> int:
        """All of it, backward passes counted as the forwards that they cost."""
        return self.evaluations + BACKWARD * self.training


def work(config: Config, family: Family) -> Work:
    """What a training of these settings, with the family's own in place (`Config.for_family`), takes."""
    if not config.trains():
        return Work(drawn_alike.asked_for(config), 0, 0, verdict.asked_for(config), 0)
    concepts, steps, kept = len(config.erase), config.sampling_steps, config.kept_steps
    sides = 1 if config.cfg == 1 else 2
    picture = steps * sides
    paired = any(split_templates(e.templates)[1] for e in config.erased())
    anchored = family.anchors and config.objective == "direct"
    kinds = 1 + paired
    drawing = kinds * drawn_of(config.pictures, concepts) * (picture + 2 * kept)
    drawing += anchored * drawn_of(max(1, config.pictures // 2), 1) * (picture + kept)
    drawing += drawn_alike.asked_for(config)
    rows = [config.batch, max(1, config.batch // 2)][:kinds] + [config.batch] * anchored
    turns, rest = divmod(config.most_steps(), len(rows))
    training = turns * sum(rows) + sum(rows[:rest])
    previews = (1 + (config.most_steps() - 1) // config.preview_every) if config.preview_every else 0
    erased = min(ROWS, sum(len(split_templates(e.templates)[0]) * len(e.words) for e in config.erased()))
    shown = (previews > 0) * (erased + ROWS) + previews * (len(SHOWN) - 1) * erased
    return Work(drawing, training, slider.asked_for(config), verdict.asked_for(config), shown * picture)
