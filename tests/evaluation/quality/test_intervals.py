"""Intervals cover what they say they cover, and the sets that they leave points out of are right."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import t as student_t
from torch import Tensor

from sfumato.evaluation import quality
from sfumato.evaluation.quality import Sets, interval
from sfumato.evaluation.quality.intervals import DEGREES, _variance, student


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_variance_of_a_mean_and_of_a_degenerate_measure() -> None:
    """By hand from known variances: 1/n for points that act one by one, 1/n^2 for points that act in pairs."""
    for power, expected in ((1, 1 / 2), (2, 1 / 4)):
        two, four = (
            torch.tensor([[0.0, math.sqrt(2) * 2 ** (power / 2)]] * 3)[..., None],  # variance 2^power
            torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 3)[..., None] * math.sqrt(0.75) * 4 ** (power / 2),
        )
        found = _variance(two.double(), four.double())
        assert float(found) == pytest.approx(expected * 2**power), power
    none = _variance(torch.zeros(3, 2, 1).double(), torch.zeros(3, 4, 1).double())
    assert float(none) == 0


def test_the_interval_of_a_difference_of_means() -> None:
    """The error is that of Student, and the interval that of a t distribution."""
    found = [
        interval(
            lambda s: float(s.samples.mean() - s.real.mean()), Sets(2 * normal(80, 1, seed=i), normal(40, 1, seed=-i))
        )
        for i in range(1, 30)
    ]
    error = math.sqrt(sum(each.error**2 for each in found) / len(found))
    assert error == pytest.approx(math.sqrt(4 / 80 + 1 / 40), rel=0.15)
    first = found[0]
    assert first.high - first.value == pytest.approx(student_t.ppf(0.975, DEGREES) * first.error, rel=5e-3)


def test_students_quantile() -> None:
    for degrees in (4.0, 5.5, 9.0, 18.0, 1000.0, math.inf):
        assert student(degrees) == pytest.approx(student_t.ppf(0.975, degrees), rel=5e-3)


def test_distances_are_taken_over() -> None:
    sets = Sets(normal(9, 3), normal(7, 3, seed=1))
    for name in ("among_samples", "among_real", "across"):
        getattr(sets, name)
    fewer = sets.only(torch.tensor([5, 2, 3]), torch.tensor([6, 0]))
    fresh = Sets(sets.samples[[5, 2, 3]], sets.real[[6, 0]])
    for name in ("among_samples", "among_real", "across"):
        assert name in fewer.__dict__
        torch.testing.assert_close(getattr(fewer, name), getattr(fresh, name))


@pytest.mark.parametrize(
    ("measure", "shift"),
    [(quality.frechet_infinite, 1.0), (quality.energy_distance, 1.0), (quality.energy_distance, 0.0)],
)
def test_the_error_is_the_deviation_over_new_sets(measure: Callable[[Sets], float], shift: float) -> None:
    """Also of equal distributions, where a jackknife is too large by 40 %. The error of 40 repetitions is 11 %.

    `benchmarks/evaluation_intervals.py` counts what 400 intervals cover.
    """
    found = [
        interval(measure, Sets(shift + normal(80, 2, seed=2 * seed), normal(80, 2, seed=2 * seed + 1)))
        for seed in range(40)
    ]
    deviation = float(torch.tensor([each.value for each in found]).std())
    error = float(torch.tensor([each.error for each in found]).square().mean().sqrt())
    assert error == pytest.approx(deviation, rel=0.3)


def test_few_points_have_no_error() -> None:
    found = interval(quality.energy_distance, Sets(normal(7, 2), normal(20, 2, seed=1)))
    assert math.isfinite(found.value)
    assert math.isnan(found.error)


def test_quarters_of_few_points_have_a_frechet_distance() -> None:
    """Quarters of 20 points have 5: too few to be divided by three into sets with a covariance. Those of 8 have 2."""
    found = [interval(quality.frechet_infinite, Sets(normal(n, 2), 3 + normal(n, 2, seed=1))) for n in (20, 16, 8)]
    assert [math.isfinite(each.error) for each in found] == [True, True, False]
    assert found[0].low < 18 < found[0].high  # the distance of the means, squared
