"""Whether rows help: the interval against a formula, thresholds and scores against sums, verdicts on planted tables."""

import numpy as np
import pytest
from sklearn import metrics

from sfumato.errors import InputError
from sfumato.evaluation.balancing import Difference, Help, difference, measure
from sfumato.evaluation.balancing.rows import rows
from sfumato.evaluation.balancing.scores import free, threshold, tuned


def test_the_interval_is_that_of_nadeau_and_bengio() -> None:
    values = np.array([0.01, 0.03, -0.02, 0.05, 0.02])
    found = difference(values, 1 / 4)
    s = values.std(ddof=1)
    error = np.sqrt(1 / 5 + 1 / 4) * s
    assert found.mean == pytest.approx(0.018)
    assert (found.low, found.high) == pytest.approx((0.018 - 2.776445 * error, 0.018 + 2.776445 * error))
    assert (found.low_90, found.high_90) == pytest.approx((0.018 - 2.131847 * error, 0.018 + 2.131847 * error))


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.02, 0.05, "helped"),
        (-0.05, -0.02, "hurt"),
        (-0.004, 0.006, "none"),
        (-0.0103, 0.006, "none"),  # the interval of 90 % is within one point
        (0.001, 0.008, "none"),
        (-0.03, 0.02, "unknown"),
    ],
)
def test_verdicts(low: float, high: float, verdict: str) -> None:
    mean, reach = (low + high) / 2, 0.81 * (high - low) / 2  # Student's t with 9 degrees of freedom: 1.833 / 2.262
    found = Difference(mean, low, high, mean - reach, mean + reach)
    assert found.verdict == verdict
    words = {"helped": "rows helped", "hurt": "leave them out", "none": "no difference", "unknown": "cannot be told"}
    assert words[verdict] in Help("rare", {}, {}, found, 5).sentence()


def test_the_threshold_is_where_two_known_densities_cross() -> None:
    """Log-odds N(2, 1) and N(-1, 1): the balanced accuracy is highest at 0.5, whatever the shares."""
    generator = np.random.default_rng(0)
    rare = np.arange(40_000) < 4_000
    z = generator.normal(size=40_000) + np.where(rare, 2, -1)
    at = threshold(1 / (1 + np.exp(-z)), rare)
    assert np.log(at / (1 - at)) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("p", [np.zeros(30), np.ones(30), np.where(np.arange(30) < 10, 1.0, 0.0)])
def test_a_threshold_of_sure_learners_exists(p: np.ndarray) -> None:
    at = threshold(p, np.arange(30) < 10)
    assert 0 <= at <= 1
    if 0 < p.mean() < 1:
        assert tuned(p, np.arange(30) < 10, at)["balanced_accuracy"] == 1


def test_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(1)
    rare = generator.random(300) < 0.3
    p = np.clip(0.3 * rare + 0.6 * generator.random(300), 0.01, 0.99)
    found = tuned(p, rare, 0.4)
    assert found["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(rare, p > 0.4))
    assert found["macro_f1"] == pytest.approx(metrics.f1_score(rare, p > 0.4, average="macro"))
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(rare, p > 0.4))
    assert found["recall"] == pytest.approx(metrics.recall_score(rare, p > 0.4))
    plain = free(p, rare, 0.3, 0.3)
    assert plain["log_loss"] == pytest.approx(metrics.log_loss(rare, p))
    assert plain["brier"] == pytest.approx(metrics.brier_score_loss(rare, p))


def test_probabilities_go_back_to_the_true_share() -> None:
    """A learner that is right for equal shares is right again, and calibrated, for a share of a tenth."""
    generator = np.random.default_rng(2)
    rare = np.arange(50_000) < 5_000
    z = generator.normal(size=50_000) + np.where(rare, 1, -1)
    balanced = 1 / (1 + np.exp(-2 * z))  # p(rare | z) of N(1, 1) against N(-1, 1)
    odds = np.exp(2 * z) * 0.1 / 0.9
    found = free(balanced, rare, 0.1, 0.5)
    assert found["log_loss"] == pytest.approx(metrics.log_loss(rare, odds / (1 + odds)), rel=1e-3)
    assert found["calibration_error"] < 0.01
    assert free(balanced, rare, 0.1, 0.1)["calibration_error"] > 0.05


def planted(n: int = 240, rare: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    labels = np.arange(n) < rare
    return generator.normal(size=(n, 2)) + 2.0 * labels[:, None], labels


def test_rows_of_the_rare_class_are_judged_fairly() -> None:
    x, rare = planted()

    def wrong(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        """Rows on the far side of the other class."""
        return np.random.default_rng(seed).normal(size=(count, 2)) - 4.0

    def right(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(count, 2)) + 2.0

    hurt = measure(x, rare, "rare", wrong, splits=5, learners=["logistic"])
    assert hurt.by_learner["logistic"].verdict == "hurt"
    assert hurt.overall.mean < -0.05
    fair = measure(x, rare, "rare", right, splits=5, learners=["logistic", "boosting"])
    assert abs(fair.overall.mean) < 0.08
    assert fair.overall.mean > hurt.overall.mean + 0.05
    for ways in fair.scores.values():
        assert ways["real, threshold"]["recall"] > ways["real"]["recall"]
        assert 0.5 < ways["smote, threshold"]["balanced_accuracy"] <= 1
        assert ways["logit adjustment"]["average_precision"] == ways["real"]["average_precision"]


def test_no_row_is_tested_that_rows_or_thresholds_came_from() -> None:
    """Learners that know a row by heart gain nothing from it: labels are coins, and every row names itself."""
    generator = np.random.default_rng(0)
    x, rare = generator.normal(size=(600, 3)), np.arange(600) < 200
    seen = []

    def make(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        assert len(np.unique(train)) == len(train)
        assert count == len(train) - 2 * rare[train].sum()
        seen.append(len(train))
        return x[generator.choice(train[rare[train]], count)]

    found = measure(x, rare, "rare", make, splits=5, learners=["boosting"], rows=["real"])
    assert sorted(seen) == [360] * 10 + [480] * 5  # without two folds and without one
    for way in ("real, threshold", "synthetic, threshold"):
        assert found.scores["boosting"][way]["balanced_accuracy"] == pytest.approx(0.5, abs=0.07)  # 3 standard errors


def test_what_each_way_puts_beside_real_rows() -> None:
    x, rare = planted()
    train = np.arange(len(x))

    def make(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        return np.full((count, 2), 9.0)

    tables = {way: rows(way, x, rare, train, make, 0) for way in ("weighted", "oversampled", "smote", "borderline")}
    assert all(table.share == pytest.approx(0.5) for table in tables.values())
    assert all((table.x[:240] == x).all() for table in tables.values())
    added = tables["oversampled"].x[240:]
    assert {tuple(row) for row in added} <= {tuple(row) for row in x[rare]}
    # SMOTE's rows lie on segments between two rare ones: the shorter way round is no longer.
    a, b = x[rare][:, None], x[rare][None]
    for row in tables["smote"].x[240:260]:
        detour = np.linalg.norm(row - a, axis=-1) + np.linalg.norm(row - b, axis=-1) - np.linalg.norm(a - b, axis=-1)
        assert detour.min() < 1e-9
    assert (rows("synthetic", x, rare, train, make, 0).x[240:] == 9).all()
    # Rows at the border are nearer to the others, whose centre is 0.
    assert tables["borderline"].x[240:].sum(1).mean() < tables["smote"].x[240:].sum(1).mean() - 0.3


def test_overlapping_rows_are_left_out_and_known_to_what_makes_rows() -> None:
    generator = np.random.default_rng(0)
    rare = np.arange(300) < 40
    like = (np.arange(300) >= 40) & (np.arange(300) < 60)  # of the other class, where the rare one is
    x = generator.normal(size=(300, 2)) + 6.0 * (rare | like)[:, None]
    train, seen = np.flatnonzero(np.arange(300) % 5 > 0), []

    def make(train: np.ndarray, apart: np.ndarray, count: int, seed: int) -> np.ndarray:
        seen.append(apart)
        return np.full((count, 2), 9.0)

    found = rows("overlap", x, rare, train, make, 0)
    (apart,) = seen
    assert set(apart) <= set(train[like[train]])
    assert len(apart) >= 8  # of 16, which lie where twice as many, weighed 6 times, are rare
    assert len(found.x[found.x[:, 0] != 9]) == len(train) - len(apart)
    assert found.share == 0.5
    assert not any((found.x[~found.rare] == x[i]).all(1).any() for i in apart)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"splits": 7}, "--splits 7: give a multiple of 5"),
        ({"learners": ["svm"]}, "--learners svm: there is none; choose from logistic"),
        ({"learners": ["mlp", "mlp"]}, "name each once"),
        ({"rows": ["real", "adasyn"]}, "--rows adasyn: there are none"),
    ],
)
def test_choices_that_there_are_not_are_refused(options: dict, named: str) -> None:
    with pytest.raises(InputError, match=named):
        measure(*planted(), "odd", lambda train, apart, count, seed: np.zeros((count, 2)), **options)


def test_too_few_rows_are_refused() -> None:
    x, rare = planted(60, 5)
    with pytest.raises(InputError, match="class 'odd' has 5 different rows; at least 10"):
        measure(x, rare, "odd", lambda train, apart, count, seed: x[:count])


def test_learners_that_balance_their_own_rows_stand_beside() -> None:
    pytest.importorskip("imblearn.ensemble", reason="imbalanced-learn, the extra 'balance', is not installed")
    x, rare = planted()
    found = measure(
        x, rare, "rare", lambda train, apart, count, seed: x[:count], splits=5, learners=["logistic", "balanced-forest"]
    )
    assert list(found.by_learner) == ["logistic"]
    assert set(found.scores["balanced-forest"]) == {"real", "real, threshold"}
    with pytest.raises(InputError, match="give at least one of logistic"):
        measure(x, rare, "rare", lambda train, apart, count, seed: x[:count], learners=["balanced-forest"])
