"""Precision, recall, density, coverage and their clipped forms: by hand, by loops, and their lines."""

import math

import pytest
import torch
from scipy.stats import betabinom
from torch import Tensor

from sfumato.evaluation import quality
from sfumato.evaluation.quality import Sets
from sfumato.evaluation.quality.neighbourhoods import _expected_coverage


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_by_hand() -> None:
    """Real points at 0, 1, 3 and 10 with k = 1 have balls of radius 1, 1, 2 and 7; samples are at 2, 2.5 and 20."""
    sets = Sets(torch.tensor([[2.0], [2.5], [20.0]]), torch.tensor([[0.0], [1.0], [3.0], [10.0]]))
    # Around the samples are the balls of {1, 3}, {3} and none; 3 to 17 is the ball of 10.
    assert quality.precision(sets, 1) == pytest.approx(2 / 3)
    assert quality.density(sets, 1) == pytest.approx(3 / 3)
    assert quality.coverage(sets, 1) == pytest.approx(2 / 4)
    # The samples' balls have radius 0.5, 0.5 and 17.5, which reach 3, 3, and from 2.5 on.
    assert quality.recall(sets, 1) == pytest.approx(2 / 4)
    # Clipped: radii 1, 1, 1, 1 (the lower median); 2 is in the balls of 1 and 3, 2.5 in that of 3, which count once.
    # Of the real points, 0 and 1 are in each other's balls, 3 and 10 in none: 1/2.
    assert quality.clipped_density(sets, 1) == pytest.approx((2 / 3) / (2 / 4))


def test_precision_recall_density_coverage_against_loops() -> None:
    x, y, k = 1.2 * normal(30, 3), normal(25, 3, seed=1), 4

    def radius(points: Tensor, i: int) -> float:
        return sorted(float((p - points[i]).norm()) for p in points)[k]

    inside = [[float((s - y[i]).norm()) <= radius(y, i) for i in range(25)] for s in x]
    back = [[float((s - y[i]).norm()) <= radius(x, j) for j, s in enumerate(x)] for i in range(25)]
    sets = Sets(x, y)
    assert quality.precision(sets, k) == pytest.approx(sum(map(any, inside)) / 30)
    assert quality.density(sets, k) == pytest.approx(sum(map(sum, inside)) / 30 / k)
    assert quality.coverage(sets, k) == pytest.approx(sum(any(row[i] for row in inside) for i in range(25)) / 25)
    assert quality.recall(sets, k) == pytest.approx(sum(map(any, back)) / 25)


@pytest.mark.parametrize(("good", "real", "k"), [(0, 20, 5), (3, 20, 5), (40, 20, 5), (15, 30, 1), (10, 200, 8)])
def test_the_expected_coverage_against_scipy(good: int, real: int, k: int) -> None:
    counts = range(good + 1)
    expected = sum(min(1, c / k) * betabinom.pmf(c, good, k, real - k) for c in counts)
    assert float(_expected_coverage(good, real, k)[good]) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 20])
def test_clipped_scores_are_the_share_of_good_samples(dimensions: int) -> None:
    """Noise far away takes the place of a share of the samples; 8 repetitions with 200 points."""
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        found = []
        for seed in range(8):
            x, y = normal(200, dimensions, seed=seed), normal(200, dimensions, seed=100 + seed)
            x[: round(share * 200)] += 30
            found.append([quality.clipped_density(Sets(x, y)), quality.clipped_coverage(Sets(x, y))])
        means, errors = torch.tensor(found).mean(0), torch.tensor(found).std(0) / math.sqrt(8)
        for mean, error in zip(means.tolist(), errors.tolist(), strict=True):
            assert mean == pytest.approx(1 - share, abs=4 * error + 1e-9), (share, means)


def test_coverage_falls_when_modes_are_dropped_and_density_does_not() -> None:
    centres = 20 * normal(10, 4)
    y = centres[torch.arange(400) % 10] + normal(400, 4, seed=1)
    scores = []
    for kept in (10, 7, 4, 1):
        x = centres[torch.arange(400) % kept] + normal(400, 4, seed=2)
        scores.append((quality.clipped_coverage(Sets(x, y)), quality.coverage(Sets(x, y))))
        assert quality.clipped_density(Sets(x, y)) == pytest.approx(1, abs=0.2)
    for measure in zip(*scores, strict=True):
        assert list(measure) == sorted(measure, reverse=True)
        assert measure[-1] < 0.15
    assert scores[0][0] == pytest.approx(1, abs=0.2)


def test_copies_of_what_the_data_holds_many_times_are_inside() -> None:
    y = torch.cat((torch.zeros(10, 2), normal(10, 2).float()))
    assert quality.precision(Sets(torch.zeros(4, 2), y)) == 1
