"""The twin's posterior, against the prior weighted by the likelihood, and what is no twin."""

import pytest
import torch

from sfumato.errors import InputError
from sfumato.restoration import Matrix, Measurement, Twin


def test_the_posterior_is_the_prior_weighted_by_the_likelihood():
    g = torch.Generator().manual_seed(0)
    twin = Twin(torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 0.0], [0.5, -1.0, 1.0], [3.0, 0.0, 1.0]]).double(), 0.6)
    matrix = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.5, 1.0]]).double()
    noise = torch.tensor([0.5, 0.3]).double()
    measured = Measurement(Matrix(matrix, (3,)), torch.tensor([[0.9, 0.4]]), noise)
    x = twin.sample(400_000, g)
    weights = (-0.5 * measured.residual(x).pow(2).sum(1)).softmax(0)
    mean = weights @ x
    covariance = (x - mean).T @ (weights[:, None] * (x - mean))
    exact = twin.posterior(measured, 100_000, g)
    assert torch.allclose(exact.mean, mean, atol=0.01)
    assert torch.allclose(exact.std, covariance.diagonal().sqrt(), atol=0.01)
    assert torch.allclose(exact.draws.mean(0), exact.mean, atol=0.01)
    assert torch.allclose(exact.draws.T.cov(), covariance, atol=0.015)


def test_it_is_half_as_wide_as_samples_are_apart():
    twin = Twin.of(torch.tensor([[[0.0, 0.0]], [[3.0, 0.0]], [[6.0, 0.0]]]))
    assert twin.width == pytest.approx(1.5 / 2**0.5)
    assert torch.equal(twin.mixture.means, twin.centres)


@pytest.mark.parametrize("samples", [torch.zeros(1, 3), torch.randn(3, 300), torch.ones(4, 2)])
def test_what_is_no_twin_is_refused(samples):
    with pytest.raises(InputError, match="twin"):
        Twin.of(samples)
