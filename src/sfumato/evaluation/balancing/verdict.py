"""What a difference between two ways says: intervals over splits, and the four answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rows import Numbers

MARGIN = 0.01
"""Balanced accuracy that makes no difference."""


@dataclass(frozen=True)
class Difference:
    """A difference of balanced accuracies over splits.

    It is better or worse than nothing by the interval of 95 %, and as good as nothing by two one-sided tests at 5 %,
    which is the interval of 90 % within the margin (Schuirmann 1987).

    Arguments:
        mean: of the splits.
        low: the lower end of the interval of 95 %.
        high: its upper end.
        low_90: the lower end of the interval of 90 %.
        high_90: its upper end.
    """

    mean: float
    low: float
    high: float
    low_90: float
    high_90: float

    @property
    def verdict(self) -> str:
        """One word of what the intervals say, against ``MARGIN``: "none", "helped", "hurt" or "unknown"."""
        if self.low_90 > -MARGIN and self.high_90 < MARGIN:
            return "none"
        return "helped" if self.low > 0 else "hurt" if self.high < 0 else "unknown"

    def points(self) -> str:
        """The difference in points."""
        return f"{100 * self.mean:+.1f} points of balanced accuracy, {100 * self.low:+.1f} to {100 * self.high:+.1f}"


def difference(values: Numbers, ratio: float) -> Difference:
    """The mean of ``values`` over splits with Nadeau and Bengio's intervals; ``ratio`` is tested by trained rows.

    Splits share rows, so the variance of their mean is that of S splits and of the shared rows (Nadeau & Bengio 2003,
    section 3): with n_1 rows to train on and n_2 to test,

        standard error = sqrt((1 / S + n_2 / n_1) s^2),    s^2 the variance over splits, S - 1 degrees of freedom.
    """
    from scipy import stats

    mean, count = float(values.mean()), len(values)
    error = float(np.sqrt((1 / count + ratio) * values.var(ddof=1)))
    wide, narrow = (float(stats.t.ppf(level, count - 1)) * error for level in (0.975, 0.95))
    return Difference(mean, mean - wide, mean + wide, mean - narrow, mean + narrow)


@dataclass(frozen=True)
class Help:
    """What synthetic rows did.

    Arguments:
        rare: the name of the rare class; all others together are the second class.
        scores: by learner and way, means over splits of the scores ``scores.FREE`` and ``scores.TUNED``.
        by_learner: balanced accuracy with synthetic rows less that of real rows alone, both with a tuned threshold.
        overall: the same for the mean of the learners.
        splits: their number.
    """

    rare: str
    scores: Mapping[str, Mapping[str, Mapping[str, float]]]
    by_learner: Mapping[str, Difference]
    overall: Difference
    splits: int

    def sentence(self) -> str:
        """The verdict, and what to do."""
        d = self.overall
        says = {
            "helped": f"Synthetic rows helped ({d.points()}).",
            "none": f"Synthetic rows made no difference ({d.points()}): tune the decision threshold instead.",
            "hurt": f"Synthetic rows hurt ({d.points()}): leave them out, and tune the decision threshold.",
            "unknown": f"Whether synthetic rows help cannot be told with so few rows ({d.points()}): tune the "
            "threshold.",
        }
        return says[d.verdict]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {
            "rare": self.rare,
            "splits": self.splits,
            "verdict": self.overall.verdict,
            "sentence": self.sentence(),
            "difference": vars(self.overall),
            "by_learner": {name: {**vars(d), "verdict": d.verdict} for name, d in self.by_learner.items()},
            "scores": self.scores,
        }
