"""Frechet, kernel and energy distances, and measures of single features, by closed forms and other routes."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from scipy.stats import ks_2samp, wasserstein_distance
from torch import Tensor

from sfumato.errors import InputError
from sfumato.evaluation import quality
from sfumato.evaluation.quality import Sets


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def whitened(*shape: int, seed: int = 0) -> Tensor:
    """Points whose mean is 0 and whose covariance is the unit matrix, exactly."""
    points = normal(*shape, seed=seed)
    points -= points.mean(0)
    return points @ torch.linalg.inv(torch.linalg.cholesky(points.mT @ points / (len(points) - 1))).mT


def test_frechet_of_known_moments() -> None:
    """|difference of means|^2 + sum of (difference of deviations)^2, where the covariances commute."""
    scales, shift = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 0.0, 4.0]).double()
    x, y = whitened(50, 3) * scales + shift, whitened(40, 3, seed=1)
    assert quality.frechet(Sets(x, y)) == pytest.approx(25 + 1 + 0.25, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(60, 40), (8, 60), (7, 8)])
def test_frechet_against_a_matrix_root(n: int, m: int) -> None:
    """The textbook's formula, by scipy's matrix root; also with fewer points than features."""
    x, y = normal(n, 12) @ normal(12, 12, seed=2), normal(m, 12, seed=1)
    a, b = np.cov(x.T), np.cov(y.T)
    root = sqrtm(a)
    middle = root @ b @ root
    expected = float(((x.mean(0) - y.mean(0)) ** 2).sum()) + np.trace(a + b - 2 * sqrtm(middle).real)
    assert quality.frechet(Sets(x, y)) == pytest.approx(expected, rel=1e-5)


def test_frechet_of_infinitely_many_points() -> None:
    """In 8 features of 100 points the bias is larger than the error of 40 repetitions, and the line takes it away."""
    found = torch.tensor(
        [
            [f(Sets(1.3 * normal(100, 8, seed=2 * i), normal(100, 8, seed=2 * i + 1))) for i in range(40)]
            for f in (quality.frechet, quality.frechet_infinite)
        ]
    )
    truth, error = 8 * 0.3**2, found.std(1) / math.sqrt(40)
    assert found[0].mean() > truth + 8 * error[0]
    assert float(found[1].mean()) == pytest.approx(truth, abs=4 * float(error[1]))


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (0.5, 1.5)])
def test_the_kernel_distance_is_unbiased(shift: float, scale: float) -> None:
    """In one dimension MMD^2 = sum of C(3, j) (difference of moment j)^2, as (x y + 1)^3 = sum of C(3, j) x^j y^j."""
    moments = shift, shift**2 + scale**2 - 1, shift**3 + 3 * shift * scale**2
    truth = sum(math.comb(3, j) * m**2 for j, m in enumerate(moments, 1))
    x, y = shift + scale * normal(200, 30, 1), normal(200, 20, 1, seed=1)
    found = torch.tensor([quality.kernel_distance(Sets(a, b)) for a, b in zip(x, y, strict=True)])
    assert float(found.mean()) == pytest.approx(truth, abs=3.5 * float(found.std()) / math.sqrt(200))


def test_kernels_against_loops() -> None:
    x, y = normal(5, 3) + 1, normal(4, 3, seed=1)

    def by_hand(kernel: Callable[[Tensor, Tensor], float]) -> float:
        def mean(a: Tensor, b: Tensor) -> float:
            pairs = [kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(b) if a is not b or i != j]
            return sum(pairs) / len(pairs)

        return mean(x, x) + mean(y, y) - 2 * mean(x, y)

    cubic = by_hand(lambda a, b: (float(a @ b) / 3 + 1) ** 3)
    assert quality.kernel_distance(Sets(x, y)) == pytest.approx(cubic, rel=1e-9)
    assert quality.energy_distance(Sets(x, y)) == pytest.approx(-by_hand(lambda a, b: float((a - b).norm())), rel=1e-9)
    apart = sorted(float((y[i] - y[j]).norm()) for i in range(4) for j in range(4) if i != j)
    assert apart[5] == pytest.approx(apart[4], rel=1e-12)  # each distance twice: the third of six is the lower median
    expected = by_hand(lambda a, b: math.exp(-float((a - b).square().sum()) / 2 / apart[5] ** 2))
    assert quality.mmd(Sets(x, y)) == pytest.approx(expected, rel=1e-9)


def test_marginals_against_scipy() -> None:
    x, y = normal(40, 3) * 2, normal(30, 3, seed=1)
    differences = [ks_2samp(x[:, i], y[:, i]).statistic for i in range(3)]
    assert quality.kolmogorov_smirnov(Sets(x, y)) == pytest.approx(np.mean(differences), rel=1e-9)
    moved = [wasserstein_distance(y[:, i], y[:, i] + 0.7) / float(y[:, i].std()) for i in range(3)]
    assert quality.marginals(Sets(y + 0.7, y)) == pytest.approx(np.mean(moved), rel=1e-9)


def test_correlations_against_numpy() -> None:
    x, y = normal(40, 3) @ normal(3, 3, seed=2), normal(30, 3, seed=1)
    away = (np.corrcoef(x.T) - np.corrcoef(y.T))[np.triu_indices(3, 1)]
    assert quality.correlations(Sets(x, y)) == pytest.approx(np.sqrt((away**2).mean()), rel=1e-9)
    with_constant = torch.cat((y, torch.ones(30, 1)), 1)
    assert quality.correlations(Sets(with_constant, with_constant)) == 0
    assert quality.correlations(Sets(y[:, :1], y[:, :1])) == 0


def test_spectra() -> None:
    """Ten times the amplitude is 20 dB at every frequency; a tone that is missing is seen where it should be."""
    y = normal(50, 2, 16)
    assert quality.spectra(Sets(10 * y, y), 16) == pytest.approx(20, rel=1e-9)
    spectrum = torch.fft.rfft(y)
    spectrum[..., 3] /= 10
    assert quality.spectra(Sets(torch.fft.irfft(spectrum, 16), y), 16) == pytest.approx(20 / 3, rel=1e-9)  # 1 of 9


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="give at least 2"):
        Sets(normal(1, 3), normal(5, 3))
    with pytest.raises(InputError, match="of 3 numbers and real data of 4"):
        Sets(normal(5, 3), normal(5, 4))
    with pytest.raises(InputError, match="NaN or infinite"):
        Sets(normal(5, 3) / 0, normal(5, 3))
