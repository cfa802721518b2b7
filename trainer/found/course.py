"""How a training goes on whose settings are found on the way: what its state keeps of that."""

import json
import math
from dataclasses import dataclass

from ..run.sealed import Damaged

KEPT = "best."  # begins the name of a weight of the best look's, in the state


@dataclass
class Course:
    """How a training goes on, as its state keeps it."""

    rate: float
    iterations: int  # that it ends at, as far as is known
    since: int = 0  # the last look that missed a bar or reached a gain
    reached: float = -math.inf  # the score of the last gain
    best: float = -math.inf  # the highest score
    best_at: int = 0

    def written(self) -> str:
        return json.dumps([v if math.isfinite(v) else None for v in vars(self).values()])

    @classmethod
    def read(cls, text: str, where) -> "Course":
        """Raises Damaged, naming the file."""
        try:
            found = [-math.inf if v is None else v for v in json.loads(text)]
            course = cls(*found)
            whole = all(type(v) is int and 0 <= v <= 10**8 for v in (course.iterations, course.since, course.best_at))
            shares = all(type(v) in (int, float) and not v > 1 for v in (course.reached, course.best))
            if len(found) == len(vars(course)) and whole and shares and type(course.rate) is float and 0 < course.rate <= 1:
                return course
        except (ValueError, TypeError, RecursionError):
            pass
        raise Damaged(f"{where} is damaged: what was found so far is not as it is written")
