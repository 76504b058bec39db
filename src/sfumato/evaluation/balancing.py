"""Whether synthetic rows of a rare class help learners: repeated splits, with all choices inside the training part.

A split keeps 30 % of the rows for testing. Of the training part a quarter validates: there each learner's threshold is
chosen, for the highest balanced accuracy, with rows that were made from the other three quarters. Then rows are made
from the whole training part, and the learner is trained on it. Differences between two ways are over splits, which
share rows, so their variance is corrected (Nadeau & Bengio 2003, section 3): with S splits, n_1 rows to train on and
n_2 to test,

    standard error = sqrt((1 / S + n_2 / n_1) s^2),    s^2 the variance over splits, S - 1 degrees of freedom.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sfumato.errors import InputError

from .quality.intervals import student

TESTED = 0.3
VALIDATED = 0.25
MARGIN = 0.01
"""Balanced accuracy that makes no difference."""

NEIGHBOURS = 5  # of SMOTE
FEWEST = 8  # rows of the rare class
FEWEST_SPLITS = 5
_LEARNERS = ("logistic regression", "random forest", "boosting")
WAYS = (
    "real",
    "real, threshold",
    "class weights",
    "oversampled, threshold",
    "SMOTE, threshold",
    "synthetic",
    "synthetic, threshold",
)

Rows = npt.NDArray[np.float64]
Labels = npt.NDArray[np.bool_]
Make = Callable[[npt.NDArray[np.int64], int, int], Rows]
"""From the numbers of training rows, a count and a seed to so many rows of the rare class."""


@dataclass(frozen=True)
class Difference:
    """A difference of balanced accuracies over splits, with a 95 % interval."""

    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """One word of what the interval says, against ``MARGIN``: "none", "helped", "hurt" or "unknown"."""
        if self.low > -MARGIN and self.high < MARGIN:
            return "none"
        return "helped" if self.low > 0 else "hurt" if self.high < 0 else "unknown"


@dataclass(frozen=True)
class Help:
    """What synthetic rows did.

    Arguments:
        rare: the name of the rare class; all others together are the second class.
        scores: by learner and way, means over splits of "balanced_accuracy", "recall" of the rare class, and
            "average_precision".
        by_learner: balanced accuracy of synthetic rows less that of real rows alone, both with a tuned threshold.
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
        points = f"{100 * d.mean:+.1f} points of balanced accuracy, {100 * d.low:+.1f} to {100 * d.high:+.1f}"
        says = {
            "helped": f"Synthetic rows helped ({points}).",
            "none": f"Synthetic rows made no difference ({points}): tune the decision threshold instead.",
            "hurt": f"Synthetic rows hurt ({points}): leave them out, and tune the decision threshold.",
            "unknown": f"Whether synthetic rows help cannot be told with so few rows ({points}): tune the threshold.",
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


def measure(
    x: Rows,
    rare: Labels,
    name: str,
    make: Make,
    splits: int = 10,
    seed: int = 0,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Help:
    """Measure whether rows that ``make`` makes of the rare class help.

    Arguments:
        x: the rows (n, d) as learners take them, without gaps; those that are there twice should be left out.
        rare: which of them are of the rare class, at most half.
        name: of the class.
        make: makes rows of the rare class from training rows alone.
        splits: how often the rows are divided.
        seed: random seed.
        watch: called with the number of splits that are done, and of all.

    Raises:
        InputError: fewer than ``FEWEST`` rows of the class, or than ``FEWEST_SPLITS`` splits.
    """
    from sklearn.model_selection import StratifiedShuffleSplit

    least = int(rare.sum())
    if least < FEWEST:
        raise InputError(f"--evaluate: class '{name}' has {least} different rows; at least {FEWEST} can be divided")
    if splits < FEWEST_SPLITS:
        raise InputError(f"--splits {splits}: give at least {FEWEST_SPLITS}")
    found: list[dict[str, dict[str, dict[str, float]]]] = []
    outer = StratifiedShuffleSplit(splits, test_size=TESTED, random_state=seed)
    for i, (train, test) in enumerate(outer.split(x, rare)):
        inner = StratifiedShuffleSplit(1, test_size=VALIDATED, random_state=seed + i)
        fit, validate = (train[part] for part in next(inner.split(x[train], rare[train])))
        chosen = {learner: _validated(learner, x, rare, fit, validate, make, seed + i) for learner in _LEARNERS}
        sets = dict(_ways(x, rare, train, make, seed + i))
        found.append({k: _tested(k, sets, x[test], rare[test], chosen[k], seed + i) for k in _LEARNERS})
        watch(i + 1, splits)
    scores = {
        learner: {
            way: {key: float(np.mean([each[learner][way][key] for each in found])) for key in found[0][learner][way]}
            for way in WAYS
        }
        for learner in _LEARNERS
    }
    gains = np.array(
        [
            [
                each[k]["synthetic, threshold"]["balanced_accuracy"] - each[k]["real, threshold"]["balanced_accuracy"]
                for k in _LEARNERS
            ]
            for each in found
        ]
    )
    ratio = TESTED / (1 - TESTED)
    by_learner = {k: difference(gains[:, j], ratio) for j, k in enumerate(_LEARNERS)}
    return Help(name, scores, by_learner, difference(gains.mean(1), ratio), splits)


def difference(values: Rows, ratio: float) -> Difference:
    """The mean of ``values`` over splits with Nadeau and Bengio's interval; ``ratio`` is tested by trained rows."""
    mean, count = float(values.mean()), len(values)
    error = float(np.sqrt((1 / count + ratio) * values.var(ddof=1)))
    reach = student(float(count - 1)) * error
    return Difference(mean, mean - reach, mean + reach)


def _ways(
    x: Rows, rare: Labels, train: npt.NDArray[np.int64], make: Make, seed: int
) -> Iterator[tuple[str, tuple[Rows, Labels, bool]]]:
    """The rows, the labels, and whether classes are weighed, by the way without its threshold."""
    few = train[rare[train]]
    lacking, generator = len(train) - 2 * len(few), np.random.default_rng(seed)

    def added(rows: Rows) -> tuple[Rows, Labels, bool]:
        return np.concatenate([x[train], rows]), np.r_[rare[train], np.ones(len(rows), bool)], False

    yield "real", (x[train], rare[train], False)
    yield "class weights", (x[train], rare[train], True)
    yield "oversampled", added(x[generator.choice(few, lacking)])
    yield "SMOTE", added(_smote(x[few], lacking, generator))
    yield "synthetic", added(make(train, lacking, seed))


def _smote(few: Rows, count: int, generator: np.random.Generator) -> Rows:
    """Points between rows and one of their nearest neighbours (Chawla et al. 2002)."""
    from sklearn.neighbors import NearestNeighbors

    scale = np.where(few.std(0) > 0, few.std(0), 1)
    beside = min(NEIGHBOURS, len(few) - 1)
    near = NearestNeighbors(n_neighbors=beside).fit(few / scale).kneighbors(return_distance=False)
    first = generator.integers(0, len(few), count)
    other = near[first, generator.integers(0, near.shape[1], count)]
    found: Rows = few[first] + generator.random((count, 1)) * (few[other] - few[first])
    return found


def _learner(name: str, weighed: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    weight = "balanced" if weighed else None
    if name == "random forest":
        return RandomForestClassifier(100, class_weight=weight, random_state=seed, min_samples_leaf=2)
    if name == "boosting":
        return HistGradientBoostingClassifier(class_weight=weight, random_state=seed, max_iter=60)
    return make_pipeline(StandardScaler(), LogisticRegression(class_weight=weight, max_iter=500))


def _probability(name: str, given: tuple[Rows, Labels, bool], x: Rows, seed: int) -> Rows:
    rows, labels, weighed = given
    found: Rows = _learner(name, weighed, seed).fit(rows, labels).predict_proba(x)[:, 1]
    return found


def _validated(
    name: str,
    x: Rows,
    rare: Labels,
    fit: npt.NDArray[np.int64],
    validate: npt.NDArray[np.int64],
    make: Make,
    seed: int,
) -> dict[str, float]:
    """The thresholds, by the way without its threshold."""
    return {
        way: _best_threshold(_probability(name, given, x[validate], seed), rare[validate])
        for way, given in _ways(x, rare, fit, make, seed)
        if way != "class weights"
    }


def _best_threshold(p: Rows, rare: Labels) -> float:
    """The threshold of the highest balanced accuracy: the middle of the best ones."""
    ordered = np.unique(p)
    candidates = np.r_[0.0, (ordered[1:] + ordered[:-1]) / 2, 1.0]
    scores = np.array([((p > t)[rare].mean() + (p <= t)[~rare].mean()) / 2 for t in candidates])
    best = candidates[scores >= scores.max() - 1e-12]
    return float(best[len(best) // 2])


def _tested(
    name: str,
    sets: Mapping[str, tuple[Rows, Labels, bool]],
    x: Rows,
    rare: Labels,
    thresholds: Mapping[str, float],
    seed: int,
) -> dict[str, dict[str, float]]:
    """The scores of each way on the test rows."""
    from sklearn.metrics import average_precision_score

    found = {}
    for way, given in sets.items():
        p = _probability(name, given, x, seed)
        precision = float(average_precision_score(rare, p))
        for tuned, threshold in ((False, 0.5), (True, thresholds.get(way))):
            label = f"{way}, threshold" if tuned else way
            if threshold is None or label not in WAYS:
                continue
            recall = float((p > threshold)[rare].mean())
            accuracy = (recall + float((p <= threshold)[~rare].mean())) / 2
            found[label] = {"balanced_accuracy": accuracy, "recall": recall, "average_precision": precision}
    return found
