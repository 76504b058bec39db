"""The Stein kernel against differentiation and quadrature; the level and the power of its test."""

import pytest
import torch

from sfumato.numerics.stein import stein_kernel, wild_bootstrap

COVARIANCE = torch.tensor([[1.0, 0.6, 0.0], [0.6, 0.8, -0.2], [0.0, -0.2, 0.3]]).double()
ROOT, PRECISION = torch.linalg.cholesky(COVARIANCE), torch.linalg.inv(COVARIANCE)


def of_normal(x):
    return stein_kernel(x, -x @ PRECISION)


def normal(n, seed):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) @ ROOT.T


def test_it_is_the_stein_operator_on_both_arguments_by_differentiation():
    x = normal(5, 0)
    width = (x[:, None] - x).abs()[~torch.eye(5, dtype=torch.bool)].median()

    def score(a):  # of no law, which is no matter here
        return torch.stack([a[0] ** 2 - a[1], torch.sin(a[2]), a.prod()])

    def k(a, b):
        return (1 + ((a - b) / width) ** 2).rsqrt()

    def h(a, b):
        total = 0.0
        for d in range(3):
            p, q = a[d].clone().requires_grad_(), b[d].clone().requires_grad_()
            (of_p,) = torch.autograd.grad(k(p, q), p, create_graph=True)
            (of_q,) = torch.autograd.grad(k(p, q), q, create_graph=True)
            (of_both,) = torch.autograd.grad(of_p, q)
            total += score(a)[d] * score(b)[d] * k(p, q) + score(a)[d] * of_q + score(b)[d] * of_p + of_both
        return total.detach()

    found = stein_kernel(x, torch.stack([score(a) for a in x]))
    wanted = torch.stack([torch.stack([h(a, b) for b in x]) for a in x])
    assert torch.allclose(found, wanted, rtol=1e-12)


def test_its_mean_under_a_mixture_is_zero_by_quadrature():
    x = torch.linspace(-12, 12, 601, dtype=torch.float64)[:, None].requires_grad_()
    means, widths, weights = torch.tensor([[-2.0, 1.0, 2.5], [0.5, 1.0, 0.3], [0.3, 0.5, 0.2]]).double()
    logs = (weights.log() - widths.log() - 0.5 * ((x - means) / widths) ** 2).logsumexp(1)
    (score,) = torch.autograd.grad(logs.sum(), x)
    means_of_h = logs.softmax(0).detach() @ stein_kernel(x.detach(), score)
    assert float(means_of_h.abs().max()) < 1e-6 * float(stein_kernel(x.detach(), score).diagonal().mean())


def test_every_number_of_large_samples_counts():
    x = torch.randn(6, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.allclose(stein_kernel(x.repeat(1, 1200), -x.repeat(1, 1200)), 1200 * stein_kernel(x, -x))


def test_p_values_of_exact_draws_are_uniform_and_the_ratio_is_1():
    g = torch.Generator().manual_seed(1)
    found = [wild_bootstrap([of_normal(normal(20, 10 * i)), of_normal(normal(12, 10 * i + 1))], g) for i in range(400)]
    p = torch.tensor([one.p_value for one in found]).sort().values
    assert float((p - (torch.arange(400) + 0.5) / 400).abs().max()) < 1.63 / 20  # Kolmogorov's test at 1 %
    ratios = torch.tensor([one.ratio for one in found])
    assert float(ratios.mean()) == pytest.approx(1, abs=0.05)
    assert float(ratios.std()) == pytest.approx(sum(one.scatter for one in found) / 400, rel=0.15)


@pytest.mark.parametrize(
    "change", [lambda x: x + 0.3, lambda x: 0.7 * x, lambda x: 1.6 * x, lambda x: x * torch.tensor([1, -1, 1])]
)
def test_draws_of_another_law_are_found(change):
    """Shifted, too narrow, too wide, and with a correlation of the other sign."""
    found = wild_bootstrap([of_normal(change(normal(300, 3)))], torch.Generator().manual_seed(0))
    assert found.p_value <= 0.01
    assert found.ratio > 1 + 2 * found.scatter
