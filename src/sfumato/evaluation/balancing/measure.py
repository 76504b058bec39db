"""Whether synthetic rows of a rare class help learners: nested folds, with all choices inside the training part.

The rows are divided into 5 folds, and that again with other folds. For fold i, learners are trained on the other four
and tested on i. Their threshold comes from the same four alone: learners that were trained without folds i and j say
what they think of j, for each j, and the threshold is the best one for all of that. Rows are made from the rows that a
learner is trained on and no others, so for 5 folds there are 5 + 10 sets of rows: those without {i, j} serve the
threshold of i and that of j.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sfumato.errors import InputError

from . import learners as learning
from . import rows as made_of
from .rows import Labels, Make, Numbered, Numbers
from .scores import free, mean, threshold, tuned
from .verdict import Help, difference

FOLDS = 5
FEWEST = 10  # rows of the rare class: two in each fold
RATIO = 1 / (FOLDS - 1)  # of tested rows by trained ones
_PLAIN = ("real", "weighted", "synthetic")  # ways whose scores at 0.5 are shown too


def measure(
    x: Numbers,
    rare: Labels,
    name: str,
    make: Make,
    splits: int = 10,
    seed: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
    learners: Sequence[str] = learning.DEFAULT,
    rows: Sequence[str] = made_of.DEFAULT,
) -> Help:
    """Measure whether rows that ``make`` makes of the rare class help.

    Arguments:
        x: the rows (n, d) as learners take them, without gaps; those that are there twice should be left out.
        rare: which of them are of the rare class, at most half.
        name: of the class.
        make: makes rows of the rare class from training rows alone.
        splits: the number of tests, a multiple of ``FOLDS``.
        seed: random seed.
        watch: called with the number of sets of training rows that are done, and of all.
        learners: names of ``learners.LEARNERS`` and ``learners.BALANCED``.
        rows: names of ``rows.ROWS``; "real" and "synthetic" are always there.

    Raises:
        InputError: fewer than ``FEWEST`` rows of the class; a number of splits, a learner or rows that there are not.
    """
    least = int(rare.sum())
    if least < FEWEST:
        raise InputError(f"--evaluate: class '{name}' has {least} different rows; at least {FEWEST} can be divided")
    if splits < FOLDS or splits % FOLDS:
        raise InputError(f"--splits {splits}: give a multiple of {FOLDS}, such as 10")
    learning.require(tuple(learners))
    ways = made_of.require(tuple(rows))
    found: dict[tuple[str, str], list[Mapping[str, float]]] = {}
    pairs, done = FOLDS * (FOLDS + 1) // 2, 0
    for repeat in range(splits // FOLDS):
        divided = _Divided(x, rare, seed + repeat)
        for i in range(FOLDS):
            for j in range(i, FOLDS):
                divided.train(i, j, ways, tuple(learners), make)
                done += 1
                watch(done, pairs * (splits // FOLDS))
        for key, scores in divided.scores().items():
            found.setdefault(key, []).extend(scores)
    return _summary(name, found, [k for k in learners if k in learning.LEARNERS], splits)


@dataclass(eq=False)
class _Divided:
    """One division into folds, and what learners said of the rows that they were not trained on."""

    x: Numbers
    rare: Labels
    seed: int
    said: dict[tuple[str, str, int, int], Numbers] = field(default_factory=dict)
    """By learner, way, tested fold and the other fold that was left out (the same one in the last training)."""
    shares: dict[tuple[str, int], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from sklearn.model_selection import StratifiedKFold

        self.fold: npt.NDArray[np.int64] = np.zeros(len(self.x), np.int64)
        for i, (_, test) in enumerate(
            StratifiedKFold(FOLDS, shuffle=True, random_state=self.seed).split(self.x, self.rare)
        ):
            self.fold[test] = i

    def train(self, i: int, j: int, ways: tuple[str, ...], names: tuple[str, ...], make: Make) -> None:
        """Train all learners on all rows without the folds i and j, and keep what they say of these."""
        train: Numbered = np.flatnonzero((self.fold != i) & (self.fold != j))
        held = np.flatnonzero((self.fold == i) | (self.fold == j))
        seed = self.seed * 1000 + i * FOLDS + j
        for way in ways:
            table = made_of.rows(way, self.x, self.rare, train, make, seed)
            if i == j:
                self.shares[way, i] = table.share
            for name in names:
                if name in learning.BALANCED and way != "real":
                    continue
                p = learning.probability(name, table, self.x[held], seed)
                self.said[name, way, i, j] = p[self.fold[held] == i]
                self.said[name, way, j, i] = p[self.fold[held] == j]

    def scores(self) -> dict[tuple[str, str], list[dict[str, float]]]:
        """By learner and way, the scores of each fold."""
        found: dict[tuple[str, str], list[dict[str, float]]] = {}
        for name, way in dict.fromkeys((name, way) for name, way, _, _ in self.said):
            for i in range(FOLDS):
                p, rare = self.said[name, way, i, i], self.rare[self.fold == i]
                others = [j for j in range(FOLDS) if j != i]
                inner = np.concatenate([self.said[name, way, j, i] for j in others])
                inner_rare = np.concatenate([self.rare[self.fold == j] for j in others])
                share = float(inner_rare.mean())
                seen = 0.5 if name in learning.BALANCED else self.shares[way, i]
                without = free(p, rare, share, seen)
                at = {f"{way}, threshold": threshold(inner, inner_rare)}
                if way in _PLAIN:
                    at = {way: 0.5, **at}
                if way == "real" and name in learning.LEARNERS:
                    at["logit adjustment"] = share  # p / pi is highest (Menon et al. 2021), so p > pi
                for label, value in at.items():
                    found.setdefault((name, label), []).append({**without, **tuned(p, rare, value)})
        return found


def _summary(
    name: str, found: Mapping[tuple[str, str], list[Mapping[str, float]]], judged: list[str], splits: int
) -> Help:
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for (learner, way), values in found.items():
        scores.setdefault(learner, {})[way] = mean(values)

    def accuracies(learner: str, way: str) -> Numbers:
        return np.array([each["balanced_accuracy"] for each in found[learner, way]])

    gains = np.stack([accuracies(k, "synthetic, threshold") - accuracies(k, "real, threshold") for k in judged], 1)
    by_learner = {k: difference(gains[:, column], RATIO) for column, k in enumerate(judged)}
    return Help(name, scores, by_learner, difference(gains.mean(1), RATIO), splits)
