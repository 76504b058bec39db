"""Intervals cover what they say they cover, and the sets that they leave points out of are right."""

import math
from collections.abc import Callable

import pytest
import torch
from scipy.stats import t as student_t
from torch import Tensor

from sfumato.evaluation import quality
from sfumato.evaluation.quality import Sets, jackknife
from sfumato.evaluation.quality.intervals import student


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_interval_of_a_difference_of_means() -> None:
    """Groups of two: the jackknife's variance of a mean is that of the groups' means over their number, as in Welch."""
    x, y = 2 * normal(12, 1), normal(8, 1, seed=1)
    found = jackknife(lambda sets: float(sets.samples.mean() - sets.real.mean()), Sets(x, y), groups=12)
    pairs = [torch.stack(points.chunk(2)).mean(0) for points in (x, y)]  # 12 points make 6 groups, and 8 make 4
    terms = [float(means.var()) / len(means) for means in pairs]
    assert found.error == pytest.approx(math.sqrt(sum(terms)), rel=1e-9)
    assert found.degrees == pytest.approx(sum(terms) ** 2 / (terms[0] ** 2 / 5 + terms[1] ** 2 / 3), rel=1e-9)


def test_students_quantile() -> None:
    for degrees in (4.0, 5.5, 9.0, 18.0, 1000.0, math.inf):
        assert student(degrees) == pytest.approx(student_t.ppf(0.975, degrees), rel=5e-3)


def test_distances_are_taken_over() -> None:
    sets = Sets(normal(9, 3), normal(7, 3, seed=1))
    for name in ("among_samples", "among_real", "across"):
        getattr(sets, name)
    fewer = sets.without(torch.tensor([0, 4]), torch.tensor([6]))
    fresh = Sets(sets.samples[[1, 2, 3, 5, 6, 7, 8]], sets.real[:6])
    for name in ("among_samples", "among_real", "across"):
        assert name in fewer.__dict__
        torch.testing.assert_close(getattr(fewer, name), getattr(fresh, name))


@pytest.mark.parametrize("measure", [quality.frechet_infinite, quality.energy_distance])
def test_the_error_is_the_deviation_over_new_sets(measure: Callable[[Sets], float]) -> None:
    """Of 40 repetitions a deviation is off by 11 %. `benchmarks/evaluation.py` counts what 400 intervals cover."""
    found = [
        jackknife(measure, Sets(1 + 1.3 * normal(80, 2, seed=2 * seed), normal(80, 2, seed=2 * seed + 1)))
        for seed in range(40)
    ]
    deviation = float(torch.tensor([each.value for each in found]).std())
    error = float(torch.tensor([each.error for each in found]).square().mean().sqrt())
    assert error == pytest.approx(deviation, rel=0.3)
