"""The samplers that ``benchmarks/processes.py`` calls the truth, against sums over a grid of all increments."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "gibbs.py"
pytestmark = pytest.mark.skipif(not PATH.exists(), reason="a source distribution has no benchmarks")

A = np.array([[1.0, 0.4, -0.3], [0.2, -0.5, 0.8]])
NOISE = 0.5
Y = np.array([[0.3, 0.9], [2.2, -1.0], [-0.1, 0.1]])
GRID, STEP = np.linspace(-12, 12, 121, retstep=True)


@pytest.fixture(scope="module")
def gibbs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gibbs", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gibbs"] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def mass(name: str) -> np.ndarray:
    """The probability of each point of the grid, from the density of the increments itself."""
    laplace = np.exp(-np.abs(GRID) / 0.8) / 1.6 * STEP
    if name == "Gaussian":
        return np.exp(-0.5 * (GRID / 0.8) ** 2) * STEP
    if name == "Student":
        return (1 + (GRID / 0.8) ** 2 / 3) ** -2.0 * STEP
    return laplace if name == "Laplace" else 0.3 * laplace + 0.7 * np.equal(GRID, 0.0)


def by_grid(name: str, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Posterior mean and standard deviation of x_0, x_1, x_2."""
    one = mass(name)
    u = np.meshgrid(GRID, GRID, GRID, indexing="ij", sparse=True)
    x = (u[0], u[0] + u[1], u[0] + u[1] + u[2])
    gaps = [a[0] * x[0] + a[1] * x[1] + a[2] * x[2] - b for a, b in zip(A, y, strict=True)]
    weights = np.exp(-0.5 * (gaps[0] ** 2 + gaps[1] ** 2) / NOISE**2)
    weights *= one[:, None, None] * one[:, None] * one
    weights /= weights.sum()
    means = np.array([(weights * value).sum() for value in x])
    return means, np.array([(weights * value**2).sum() for value in x]) - means**2


@pytest.mark.parametrize("name", ["Gaussian", "Laplace", "Student", "BernoulliLaplace"])
def test_posterior_is_that_of_a_grid(gibbs: ModuleType, name: str) -> None:
    settings = {"scale": 0.8} | ({"share": 0.3} if name == "BernoulliLaplace" else {})
    law, copies = getattr(gibbs, name)(**settings), 150
    found = gibbs.posterior(law, A, NOISE, np.repeat(Y, copies, 0), 200, 100, np.random.default_rng(0))
    for i, y in enumerate(Y):
        mean, variance = by_grid(name, y)
        rows = slice(i * copies, (i + 1) * copies)
        means = found.mean[rows]
        error = means.std(0) / copies**0.5
        assert np.abs(means.mean(0) - mean).max() < 0.01 * variance.max() ** 0.5 + 3 * error.max()
        assert found.draws[rows].mean((0, 1)) == pytest.approx(mean, abs=0.06 * variance.max() ** 0.5)
        assert found.draws[rows].var((0, 1)) == pytest.approx(variance, rel=0.08)
        assert found.power[rows].mean() == pytest.approx(variance.sum(), rel=0.05)


def test_jumps_move_where_nothing_was_measured(gibbs: ModuleType) -> None:
    """A jump between two readings is as likely at each place between them, and no chain stays where it began."""
    size, ends = 12, [1, 10]
    matrix = np.eye(size)[ends]
    law = gibbs.BernoulliLaplace(0.002, 1.0)
    y = np.tile([0.0, 4.0], (30, 1))
    found = gibbs.posterior(law, matrix, 0.05, y, 250, 125, np.random.default_rng(1))
    middle = found.draws.reshape(-1, size)
    below = (middle[:, 1:11] < 2).mean(0)  # before most of the jump
    assert below == pytest.approx(np.linspace(1, 0, 10), abs=0.07)
    assert (found.draws[:, :, 5] < 2).mean(1).std() < 0.15  # of chains, each of its own


def test_prior_has_the_variance_that_it_says(gibbs: ModuleType) -> None:
    for law in (gibbs.Gaussian(0.5), gibbs.Laplace(0.5), gibbs.BernoulliLaplace(0.2, 0.5), gibbs.Student(9, 0.5)):
        x = law.sample(4000, 5, np.random.default_rng(2))
        assert x.var(0) == pytest.approx(law.variance * np.arange(1, 6), rel=0.12)
