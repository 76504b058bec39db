"""The learned density against its definition written out, and the surrogate's gradient against quadrature."""

import math

import pytest
import torch

from sfumato.numerics.density import LEAST, SPEED, Density


def shaped(cells: int = 7) -> Density:
    density = Density(cells)
    density.change.data = 0.1 * torch.randn(cells, generator=torch.Generator().manual_seed(0))
    return density


def test_a_fresh_one_is_uniform():
    u = torch.linspace(0, 1, 101, dtype=torch.float64)
    density = Density(9)
    torch.testing.assert_close(density.quantile(u), u, rtol=0, atol=1e-15)
    torch.testing.assert_close(density.cdf(u), u, rtol=0, atol=1e-15)
    torch.testing.assert_close(density.log_prob(u), torch.zeros_like(u), rtol=0, atol=1e-12)


@pytest.mark.parametrize("cells", [1, 2, 7, 64])
def test_quantile_and_cdf_are_inverse_and_rise(cells: int):
    density = shaped(cells)
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    x = density.quantile(u)
    assert (x.diff() > 0).all()
    assert (float(x[0]), float(x[-1])) == (0.0, pytest.approx(1.0, abs=1e-12))
    torch.testing.assert_close(density.cdf(x), u, rtol=0, atol=1e-13)


@pytest.mark.parametrize("by", [3.5, 4.0, -4.0, 1e3, -1e3, 3e38])
def test_however_far_its_parameters_go_its_quantile_is_finite_and_rises(by: float):
    density = Density(64)
    density.change.data[7] = by
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)
    x = density.quantile(u)
    assert (x.diff() > 0).all()
    assert (float(x[0]), float(x[-1])) == (0.0, pytest.approx(1.0, abs=1e-12))
    torch.testing.assert_close(density.cdf(x), u, rtol=0, atol=1e-13)
    masses = (density.log_prob((torch.arange(64) + 0.5) / 64).exp() / 64).detach()
    assert float(masses.sum()) == pytest.approx(1, abs=1e-12)
    assert float(masses.min() / masses.max()) == pytest.approx(math.exp(-LEAST), rel=1e-6)


def test_the_density_is_the_slope_of_its_distribution_function():
    density = shaped()
    x = (torch.arange(700, dtype=torch.float64) + 0.5) / 700
    slope = (density.cdf(x + 1e-6) - density.cdf(x - 1e-6)) / 2e-6
    torch.testing.assert_close(density.log_prob(x).exp(), slope, rtol=1e-7, atol=0)
    assert float(density.log_prob(x).detach().exp().mean()) == pytest.approx(1.0, rel=1e-12)


def test_only_the_log_density_has_a_gradient_in_the_cells():
    density = shaped()
    x = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(density.cdf(x).sum(), x)
    torch.testing.assert_close(slope, density.log_prob(x).exp().detach())
    assert not density.cdf(x.detach()).requires_grad
    assert not density.quantile(x.detach()).requires_grad
    (gradient,) = torch.autograd.grad(density.log_prob(x).sum(), density.change)
    masses = torch.softmax(SPEED * density.change.detach().double(), 0)
    expected = -SPEED * masses
    expected[2] += SPEED  # 0.3 is in the third of seven cells
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-6)


def test_the_surrogate_is_zero_and_pulls_down_the_second_moment():
    # integral of m^2 / p for m = x^2 on [0, 1], by a sum so fine that it is the integral
    density = shaped()
    u = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    x = density.quantile(u)
    values = x**2 / density.log_prob(x).exp().detach()
    # In two parts of another size, each of which counts for what it holds.
    for part in (slice(100_000), slice(100_000, None)):
        surrogate = density.variance_surrogate(values[part], density.log_prob(x[part]))
        assert surrogate.abs().max() == 0
        (surrogate.sum() / len(x)).backward()
    density.settle(lambda total: total)
    gradient = density.change.grad

    def moment(change: torch.Tensor) -> float:
        other = Density(7)
        other.change.data = change
        at = (torch.arange(70_000, dtype=torch.float64) + 0.5) / 70_000
        return float((at**4 / other.log_prob(at).detach().exp()).mean())

    base = moment(density.change.data)
    for k in range(7):
        push = torch.zeros(7)
        push[k] = 1e-3
        numeric = (moment(density.change.data + push) - moment(density.change.data - push)) / 2e-3 / base
        assert float(gradient[k]) == pytest.approx(numeric, rel=2e-3, abs=2e-3)


def test_its_least_second_moment_is_where_the_density_follows_the_integrand():
    density = Density(10)
    optimizer = torch.optim.Adam(density.parameters(), lr=1e-2)
    u = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    for _ in range(400):
        x = density.quantile(u)
        log_prob = density.log_prob(x)
        optimizer.zero_grad()
        density.variance_surrogate((0.2 + x) / log_prob.exp().detach(), log_prob).mean().backward()
        density.settle(lambda total: total)
        optimizer.step()
    middles = (torch.arange(10, dtype=torch.float64) + 0.5) / 10
    # p ~ sqrt(E m^2) cell by cell, here all but the middle's value
    torch.testing.assert_close(density.log_prob(middles).exp(), (0.2 + middles) / 0.7, rtol=0.03, atol=0)
