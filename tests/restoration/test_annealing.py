"""The annealed posterior against closed forms: Gaussians, modes, evidence."""

import pytest
import torch

from sfumato.core import Process
from sfumato.core.scalings import VE, VP
from sfumato.core.schedules import Cosine, geometric
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.restoration import Function, Matrix, Measurement, anneal

G = torch.Generator().manual_seed(5)
MEANS = torch.tensor([[-1.5, 0.0], [1.5, 1.0], [1.5, -1.0]], dtype=torch.float64)
MODES = GaussianMixture.isotropic(MEANS, 0.3, torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64))


def exact(measured: Measurement, prior: GaussianMixture) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Weights, means and covariances of the posterior's components, and log p(y), by gains instead of precisions."""
    matrix, y = measured.operator.matrix, measured.y[0]
    noise = torch.diag(torch.as_tensor(measured.noise).expand(len(y)) ** 2)
    spread = matrix @ prior.covariances @ matrix.T + noise
    gain = prior.covariances @ matrix.T @ torch.linalg.inv(spread)
    of_y = torch.distributions.MultivariateNormal(prior.means @ matrix.T, spread)
    log_weights = prior.weights.log() + of_y.log_prob(y)
    means = prior.means + torch.einsum("kdm,km->kd", gain, y - prior.means @ matrix.T)
    return (
        log_weights.softmax(0),
        means,
        prior.covariances - gain @ matrix @ prior.covariances,
        log_weights.logsumexp(0),
    )


@pytest.mark.parametrize("process", [Process(VP(), Cosine()), Process(VE(), geometric(1e-4, 100.0))], ids=["vp", "ve"])
def test_weights_of_modes_moments_and_evidence_are_those_of_the_closed_form(process):
    measured = Measurement(Matrix(torch.tensor([[1.0, 0.1]]), (2,)), torch.tensor([[1.0]]), 0.5)
    weights, means, covariances, evidence = exact(measured, MODES)
    found = anneal(ExactDenoiser(process, MODES), measured, 4096, 30, seed=1, dtype=torch.float64)
    assert found.log_evidence == pytest.approx(float(evidence), abs=0.05)
    mode = torch.cdist(found.particles, means).argmin(1)
    assert torch.allclose(torch.bincount(mode, minlength=3) / 4096, weights.float(), atol=0.03)
    for k in (1, 2):
        part = found.particles[mode == k]
        std = covariances[k].diagonal().sqrt()
        assert ((part.mean(0) - means[k]).abs() < 0.15 * std).all()
        assert ((part.std(0) / std - 1).abs() < 0.1).all()


def test_readings_outside_of_the_operators_range_count_in_the_evidence():
    """Three readings of two numbers, of unequal noise: the third dimension of y is noise alone."""
    measured = Measurement(
        Matrix(torch.randn(3, 2, generator=G), (2,)), torch.randn(1, 3, generator=G), torch.tensor([0.3, 0.5, 1.0])
    )
    prior = GaussianMixture.gaussian(torch.zeros(2).double(), torch.eye(2).double())
    _, means, covariances, evidence = exact(measured, prior)
    found = anneal(ExactDenoiser(Process(VP(), Cosine()), prior), measured, 4096, 30, dtype=torch.float64)
    assert found.log_evidence == pytest.approx(float(evidence), abs=0.07)
    assert torch.allclose(found.particles.mean(0), means[0], atol=0.03)
    assert torch.allclose(found.particles.T.cov(), covariances[0], atol=0.02)


def test_a_measurement_that_says_nothing_leaves_the_prior():
    measured = Measurement(Matrix(torch.tensor([[1.0, 0.0]]), (2,)), torch.zeros(1, 1), 1e4)
    found = anneal(ExactDenoiser(Process(VP(), Cosine()), MODES), measured, 2048, 30)
    assert found.widths == ()
    assert torch.allclose((found.particles[:, 0] > 0).double().mean(), torch.tensor(0.8).double(), atol=0.03)


def test_the_size_of_the_batch_does_not_matter():
    measured = Measurement(Matrix(torch.tensor([[1.0, 0.1]]), (2,)), torch.tensor([[1.0]]), 0.5)
    denoiser = ExactDenoiser(Process(VP(), Cosine()), MODES)
    one, other = (anneal(denoiser, measured, 64, 8, batch=batch, dtype=torch.float64) for batch in (7, 64))
    assert torch.allclose(one.particles, other.particles)
    assert one.log_evidence == pytest.approx(other.log_evidence)


@pytest.mark.parametrize(
    ("operator", "y", "particles", "message"),
    [
        (Matrix(torch.ones(1, 2), (2,)), torch.zeros(2, 1), 10, "single measurement"),
        (Matrix(torch.ones(1, 2), (2,)), torch.zeros(1, 1), 1, "at least 2"),
        (Function(lambda x: x.abs(), (2,)), torch.zeros(1, 2), 10, "not linear"),
    ],
)
def test_what_cannot_be_sampled_is_refused(operator, y, particles, message):
    with pytest.raises(InputError, match=message):
        anneal(ExactDenoiser(Process(VP(), Cosine()), MODES), Measurement(operator, y, 0.1), particles, 10)
