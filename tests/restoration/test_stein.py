"""Draws of a posterior under the score of its prior: exact ones pass, others do not."""

from dataclasses import replace

import pytest
import torch

from sfumato.core import VE, VP, Cosine, Process
from sfumato.core.schedules import geometric
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.restoration import Matrix, Measurement, closed_forms, decompose
from sfumato.restoration.stein import smoothed, stein_test

G = torch.Generator().manual_seed(0)
ROOTS = 0.5 * torch.randn(3, 3, 3, generator=G, dtype=torch.float64)
PRIOR = GaussianMixture(
    torch.tensor([0.2, 0.5, 0.3]), torch.randn(3, 3, generator=G).double(), ROOTS @ ROOTS.mT + 0.05 * torch.eye(3)
)
MATRIX = torch.tensor([[1.0, 0.5, -0.5], [0.3, -1.0, 0.2]]).double()
NOISE = torch.tensor([0.3, 0.5]).double()


def problems(count, n, seed):
    """Measurements (count) and exact draws (count, n, 3)."""
    g = torch.Generator().manual_seed(seed)
    y = PRIOR.sample(count, g).double() @ MATRIX.T + NOISE * torch.randn(count, 2, generator=g, dtype=torch.float64)
    measured = Measurement(Matrix(MATRIX, (3,)), y, NOISE)
    return measured, torch.stack([one.draws for one in closed_forms(PRIOR, measured, n, [g] * count)])


DENOISER = ExactDenoiser(Process(VP(), Cosine()), PRIOR)


def test_draws_with_noise_have_the_moments_of_their_law():
    """By algebra: p_rho(z) N(y; A z, 1 - rho^2 A A^T), with readings divided by their noise."""
    measured, draws = problems(1, 600_000, 5)
    rho, g = 0.2, torch.Generator().manual_seed(1)
    axes = decompose(measured.operator, NOISE)
    y, A = measured.y[0] / NOISE, MATRIX / NOISE[:, None]
    assert rho * float(axes.s.amax()) > 0.8
    z = smoothed(draws[0], axes, axes.u.T @ y, rho, torch.randn(draws[0].shape, generator=g, dtype=torch.float64))
    C = PRIOR.covariances + rho**2 * torch.eye(3)
    of_noise = torch.eye(2) - rho**2 * A @ A.T
    V = A @ C @ A.T + of_noise
    gain = C @ A.T @ torch.linalg.inv(V)
    means = PRIOR.means + (gain @ (y - PRIOR.means @ A.T)[..., None])[..., 0]
    logs = torch.distributions.MultivariateNormal(PRIOR.means @ A.T, V).log_prob(y) + PRIOR.weights.log()
    weights = logs.softmax(0)
    mean = weights @ means
    within = torch.einsum("k,kde->de", weights, C - gain @ A @ C)
    covariance = within + (means - mean).T @ (weights[:, None] * (means - mean))
    assert torch.allclose(z.mean(0), mean, atol=0.0025)
    assert torch.allclose(z.T.cov(), covariance, atol=0.0025)


def test_p_values_of_exact_draws_are_uniform():
    found = [stein_test(DENOISER, *problems(2, 15, seed), seed) for seed in range(100)]
    p = torch.tensor([one.discrepancy.p_value for one in found]).sort().values
    assert float((p - (torch.arange(100) + 0.5) / 100).abs().max()) < 1.63 / 10  # Kolmogorov's test at 1 %


@pytest.mark.parametrize("process", [Process(VP(), Cosine()), Process(VE(), geometric(0.02, 50.0))])
def test_many_exact_draws_pass(process):
    """Another likelihood for them, or noise of another kind, would show."""
    measured, draws = problems(1, 800, 5)
    found = stein_test(ExactDenoiser(process, PRIOR), measured, draws, 0)
    assert found.rho > 0.1
    assert found.discrepancy.p_value > 0.05


@pytest.mark.parametrize(
    "change", [lambda x: x + 0.15, lambda x: x.mean(1, keepdim=True) + 0.6 * (x - x.mean(1, keepdim=True))]
)
def test_draws_of_another_law_are_found(change):
    measured, draws = problems(6, 60, 1)
    found = stein_test(DENOISER, measured, change(draws), 0)
    assert found.discrepancy.p_value < 0.01


def test_draws_of_the_prior_are_not_those_of_the_posterior():
    measured, draws = problems(2, 60, 1)
    of_prior = PRIOR.sample(120, torch.Generator().manual_seed(0)).double().reshape(2, 60, 3)
    assert stein_test(DENOISER, measured, of_prior, 0).discrepancy.p_value < 0.01
    assert stein_test(DENOISER, measured, draws, 0).discrepancy.p_value > 0.05


def test_it_is_blind_to_the_weights_of_modes_far_apart():
    means = torch.tensor([[-20.0, 0, 0], [20.0, 0, 0]])
    prior = GaussianMixture.isotropic(means, 0.5)
    measured = Measurement(Matrix(torch.tensor([[0.0, 1.0, 0.0]]), (3,)), torch.zeros(1, 1), 0.5)
    (found,) = closed_forms(prior, measured, 400, [torch.Generator().manual_seed(0)])
    draws = found.draws
    draws[:, 0] = draws[:, 0].abs()
    denoiser = ExactDenoiser(Process(VP(), Cosine()), prior)
    assert stein_test(denoiser, measured, draws[None], 0).discrepancy.p_value > 0.05


def test_noise_finer_than_the_finest_level_has_no_test():
    measured, draws = problems(1, 10, 0)
    coarse = ExactDenoiser(Process(VE(), geometric(0.5, 50.0)), PRIOR)
    assert stein_test(coarse, measured, draws, 0) is None
    assert stein_test(coarse, replace(measured, noise=10 * NOISE), draws, 0) is not None
