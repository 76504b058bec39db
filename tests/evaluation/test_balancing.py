"""Whether rows help: the interval against a simulation, and verdicts on tables whose answer is planted."""

import numpy as np
import pytest

from sfumato.errors import InputError
from sfumato.evaluation.balancing import Difference, Help, difference, measure


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    values = np.array([0.01, 0.03, -0.02, 0.05, 0.02])
    found = difference(values, 3 / 7)
    s = values.std(ddof=1)
    reach = 2.776445 * np.sqrt(1 / 5 + 3 / 7) * s  # Student's t with 4 degrees of freedom
    assert found.mean == pytest.approx(0.018)
    assert (found.low, found.high) == pytest.approx((0.018 - reach, 0.018 + reach), rel=6e-3)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.05, "helped"),
        (-0.05, -0.02, "hurt"),
        (-0.004, 0.006, "none"),
        (0.001, 0.008, "none"),
        (-0.03, 0.02, "unknown"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    found = Difference((low + high) / 2, low, high)
    assert found.verdict == verdict
    words = {"helped": "rows helped", "hurt": "leave them out", "none": "no difference", "unknown": "cannot be told"}
    assert words[verdict] in Help("rare", {}, {}, found, 5).sentence()


def planted(n: int = 240, rare: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) < rare
    return generator.normal(size=(n, 2)) + 2.0 * labels[:, None], labels


def test_rows_of_the_rare_class_are_judged_fairly() -> None:
    x, rare = planted()

    def wrong(train: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Rows on the far side of the other class."""
        return np.random.default_rng(seed).normal(size=(count, 2)) - 4.0

    def right(train: np.ndarray, count: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(count, 2)) + 2.0

    hurt = measure(x, rare, "rare", wrong, splits=5)
    assert hurt.by_learner["logistic regression"].verdict == "hurt"
    assert hurt.overall.mean < -0.05
    fair = measure(x, rare, "rare", right, splits=5)
    assert abs(fair.overall.mean) < 0.08
    assert fair.overall.mean > hurt.overall.mean + 0.05
    for ways in fair.scores.values():
        assert list(ways)[:2] == ["real", "real, threshold"]
        assert ways["real, threshold"]["recall"] > ways["real"]["recall"]
        assert 0.5 < ways["SMOTE, threshold"]["balanced_accuracy"] <= 1


def test_what_is_made_comes_from_training_rows_alone() -> None:
    x, rare = planted()
    sizes = []

    def make(train: np.ndarray, count: int, seed: int) -> np.ndarray:
        assert len(np.unique(train)) == len(train)
        assert count == len(train) - 2 * rare[train].sum()
        sizes.append(len(train))
        return x[np.random.default_rng(seed).choice(train[rare[train]], count)]

    measure(x, rare, "rare", make, splits=5)
    assert set(sizes) == {168, 126}  # the training part of 240 rows, and three quarters of it


def test_too_few_rows_are_refused() -> None:
    x, rare = planted(60, 5)
    with pytest.raises(InputError, match="class 'odd' has 5 different rows; at least 8"):
        measure(x, rare, "odd", lambda train, count, seed: x[:count])
    with pytest.raises(InputError, match="--splits 1"):
        measure(*planted(), "odd", lambda train, count, seed: x[:count], splits=1)
