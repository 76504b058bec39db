"""The linear encoder against the whole joint Gaussian, and the two forms of the bound against each other."""

import numpy as np
import pytest
import torch

from sfumato.errors import InputError
from sfumato.hierarchical import LearnedEncoder, LinearEncoder

from .conftest import BETAS, apart, data, log_ratio, seeded


def joint(betas):
    """Weights of x and covariance of (z_1 .. z_T), given x, from the steps written as one linear system.

    z = A z + a x + b eps, number by number, so z = (1 - A)^-1 (a x + b eps).
    """
    steps = len(betas)
    keep, add = np.sqrt(1 - np.array(betas)), np.sqrt(np.array(betas))
    inverse = np.linalg.inv(np.eye(steps) - np.diag(keep[1:], -1))
    return inverse[:, 0] * keep[0], inverse @ np.diag(add**2) @ inverse.T


@pytest.mark.parametrize("betas", [BETAS, (0.3, 0.1, 0.9, 0.02, 0.5)], ids=len)
def test_marginals_and_posteriors_are_those_of_the_joint_gaussian(betas):
    encoder = LinearEncoder(betas)
    weights, covariance = joint(betas)
    x, z_t = data(4, 3), data(4, 3, seed=1)
    for t in range(1, len(betas) + 1):
        marginal = encoder.marginal(x, t)
        torch.testing.assert_close(marginal.mean, weights[t - 1] * x, rtol=1e-13, atol=0)
        assert float(marginal.variance) == pytest.approx(covariance[t - 1, t - 1], rel=1e-13)
        if t == 1:
            continue
        gain = covariance[t - 2, t - 1] / covariance[t - 1, t - 1]
        posterior = encoder.posterior(z_t, x, t)
        expected = weights[t - 2] * x + gain * (z_t - weights[t - 1] * x)
        torch.testing.assert_close(posterior.mean, expected, rtol=1e-12, atol=1e-13)
        variance = covariance[t - 2, t - 2] - gain * covariance[t - 1, t - 2]
        assert float(posterior.variance) == pytest.approx(variance, rel=1e-11)


def test_latents_of_the_linear_encoder_are_those_draws_of_the_marginals():
    encoder, x, noise = LinearEncoder(BETAS), data(5, 2), seeded(5)
    weights, covariance = joint(BETAS)
    for t, z in enumerate(encoder(x, noise).latents, start=1):
        expected = weights[t - 1] * x + np.sqrt(covariance[t - 1, t - 1]) * noise(t, x)
        torch.testing.assert_close(z, expected, rtol=1e-12, atol=1e-13)


def test_latents_of_a_learned_encoder_are_a_path_of_its_steps():
    torch.manual_seed(0)
    encoder, x, noise = LearnedEncoder([2, 3, 1], 8, 1).double(), data(5, 2), seeded(5)
    z = x
    for t, latent in enumerate(encoder(x, noise).latents, start=1):
        step = encoder.step(z, t)
        torch.testing.assert_close(latent, step.mean + step.variance.sqrt() * noise(t, step.mean), rtol=1e-12, atol=0)
        z = latent


def test_the_terms_have_the_mean_of_the_log_ratio_of_single_paths(hierarchy):
    """The bound's definition, one path a sample, against the closed forms: 40,000 draws of each, seeds apart.

    Four standard errors of the difference: right code would fail for one seed in 16,000. The errors are below 0.03
    nats; a term that is left out or has another sign moves the mean by more than 0.2.
    """
    x = data(8, 2).repeat(5000, 1)
    with torch.no_grad():
        closed = hierarchy.terms(x, seeded(len(x), 1)).nats
        sampled = log_ratio(hierarchy, x, seeded(len(x), 2))
    assert apart(closed, sampled) < 4
    with torch.no_grad():
        torch.testing.assert_close(hierarchy.log_ratio(x[:8], seeded(8, 2)), sampled[:8], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("betas", [[], [0.5, 1.0], [0.0], torch.full((1, 1), 0.5), [float("nan")]], ids=str)
def test_betas_of_a_linear_encoder_are_inside_zero_and_one(betas):
    with pytest.raises(InputError, match=r"^betas: .* each inside \(0, 1\)$"):
        LinearEncoder(betas)
