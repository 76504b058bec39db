"""The rows that a learner is trained on: real ones, and what is put beside those of the rare class."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sfumato.errors import InputError

from .overlap import overlapping

NEIGHBOURS = 5  # of SMOTE
BORDER = 10  # neighbours that say whether a row is at the border

Numbers = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Numbered = npt.NDArray[np.int64]
Make = Callable[[Numbered, Numbered, int, int], Numbers]
"""From the numbers of training rows, of those among them that get a label of their own, a count and a seed to so many
rows of the rare class."""

ROWS = ("real", "weighted", "oversampled", "smote", "borderline", "synthetic", "overlap")
DEFAULT = ("real", "weighted", "oversampled", "smote", "synthetic")


@dataclass(frozen=True, eq=False)
class Table:
    """What a learner is trained on.

    Arguments:
        x: rows (n, d).
        rare: which are of the rare class.
        weights: of the rows; None for equal ones.
    """

    x: Numbers
    rare: Labels
    weights: Numbers | None = None

    @property
    def share(self) -> float:
        """The share of the rare class, as the learner sees it."""
        return float(np.average(self.rare, weights=self.weights))


def require(ways: tuple[str, ...]) -> tuple[str, ...]:
    """The ways in their order, with those that the verdict needs. Raises InputError: an unknown one."""
    for way in ways:
        if way not in ROWS:
            raise InputError(f"--rows {way}: there are none; choose from {', '.join(ROWS)}")
    return tuple(way for way in ROWS if way in (*ways, "real", "synthetic"))


def rows(way: str, x: Numbers, rare: Labels, train: Numbered, make: Make, seed: int) -> Table:
    """The rows of ``way`` (one of ``ROWS``), from the training rows ``train`` of x alone."""
    real = Table(x[train], rare[train])
    if way == "real":
        return real
    if way == "weighted":
        return Table(real.x, real.rare, np.where(real.rare, 0.5 / real.share, 0.5 / (1 - real.share)))
    few, generator = train[rare[train]], np.random.default_rng(seed)
    lacking = max(len(train) - 2 * len(few), 0)
    if way == "oversampled":
        added = x[generator.choice(few, lacking)]
    elif way == "smote":
        added = _smote(x[few], x[few], lacking, generator)
    elif way == "borderline":
        added = _smote(_at_the_border(x[train], rare[train]), x[few], lacking, generator)
    elif way == "synthetic":
        added = make(train, train[:0], lacking, seed)
    else:
        apart = overlapping(real.x, real.rare)
        real = Table(real.x[~apart], real.rare[~apart])
        added = make(train, train[apart], max(len(real.x) - 2 * len(few), 0), seed)
    return Table(np.concatenate([real.x, added]), np.r_[real.rare, np.ones(len(added), bool)])


def _smote(start: Numbers, few: Numbers, count: int, generator: np.random.Generator) -> Numbers:
    """Points between rows of ``start`` and one of their nearest neighbours in ``few`` (Chawla et al. 2002)."""
    from sklearn.neighbors import NearestNeighbors

    scale = np.where(few.std(0) > 0, few.std(0), 1)
    beside = min(NEIGHBOURS, len(few) - 1)
    near = NearestNeighbors(n_neighbors=beside + 1).fit(few / scale).kneighbors(start / scale, return_distance=False)
    first = generator.integers(0, len(start), count)
    other = near[first, generator.integers(1, beside + 1, count)]  # number 0 is the row itself
    found: Numbers = start[first] + generator.random((count, 1)) * (few[other] - start[first])
    return found


def _at_the_border(x: Numbers, rare: Labels) -> Numbers:
    """The rare rows of whose neighbours at least half, but not all, are of the other class; all rare rows if none is.

    References:
        Han, Wang & Mao 2005, "Borderline-SMOTE".
    """
    from sklearn.neighbors import NearestNeighbors

    scale = np.where(x.std(0) > 0, x.std(0), 1)
    count = min(BORDER, len(x) - 1)
    near = NearestNeighbors(n_neighbors=count + 1).fit(x / scale).kneighbors(x[rare] / scale, return_distance=False)
    other = (~rare[near[:, 1:]]).sum(1)
    at = (other >= count / 2) & (other < count)
    found: Numbers = x[rare][at] if at.any() else x[rare]
    return found
