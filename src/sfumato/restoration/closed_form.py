r"""The posterior of a linear measurement under a mixture of Gaussians: a mixture again, without particles or steps.

With ``y = A x + noise z``, prior components N(m_k, C_k) of weight w_k, ``V_k = A C_k A^T + diag(noise^2)`` and the gain
``G_k = C_k A^T V_k^-1``, component k of the posterior has

    weight      ~ w_k N(y; A m_k, V_k), whose sum is p(y)
    mean        m_k + G_k (y - A m_k)
    covariance  C_k - G_k A C_k

A draw of it is a draw (x, y') of the prior and its reading, moved by what was read: ``x + G_k (y - y')`` (Matheron's
rule).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.denoisers import GaussianMixture

from .measurement import Measurement
from .operators import dense


@dataclass(frozen=True, eq=False)
class ClosedForm:
    """What is known of one measurement, in the units of the prior.

    Arguments:
        draws: independent draws of the posterior (n, D).
        mean: its mean (D,).
        std: its standard deviations (D,).
        log_evidence: log p(y) in nats.
    """

    draws: Tensor
    mean: Tensor
    std: Tensor
    log_evidence: float


def closed_form(prior: GaussianMixture, measurement: Measurement, count: int, generator: torch.Generator) -> ClosedForm:
    """The posterior of one measurement (M = 1), and ``count`` draws of it.

    Raises:
        InputError: an operator that is not linear or is too large to write as a matrix.
    """
    A, y = dense(measurement.operator), measurement.y[0].flatten()
    noise = torch.as_tensor(measurement.noise).expand(measurement.operator.output_shape).flatten()
    moved = A @ prior.covariances  # (K, R, D)
    roots = torch.linalg.cholesky(moved @ A.T + torch.diag(noise**2))
    half = torch.linalg.solve_triangular(roots, moved, upper=False)  # the gain is half^T roots^-1
    scaled = torch.linalg.solve_triangular(roots, (y - prior.means @ A.T)[..., None], upper=False)[..., 0]
    logs = prior.weights.log() - 0.5 * scaled.square().sum(1) - roots.diagonal(dim1=1, dim2=2).log().sum(1)
    weights = logs.softmax(0)
    means = prior.means + torch.einsum("kr,krd->kd", scaled, half)
    mean = weights @ means
    within = (prior.covariances.diagonal(dim1=1, dim2=2) - half.square().sum(1)).clamp(min=0)
    std = (weights @ (within + (means - mean).square())).sqrt()
    k = torch.multinomial(weights, count, replacement=True, generator=generator)
    x = prior.sample_from(k, generator)
    read = x @ A.T + noise * torch.randn(count, len(y), generator=generator, dtype=torch.float64)
    gap = torch.linalg.solve_triangular(roots[k], (y - read)[..., None], upper=False)[..., 0]
    draws = x + torch.einsum("nr,nrd->nd", gap, half[k])
    return ClosedForm(draws, mean, std, float(logs.logsumexp(0)) - 0.5 * len(y) * math.log(2 * math.pi))
