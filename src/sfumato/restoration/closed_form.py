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
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.denoisers import GaussianMixture

from .measurement import Measurement
from .operators import Operator, dense


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


class Gains:
    """What the posteriors of all measurements with one operator and noise share: V_k factorised, and its gain.

    Arguments:
        prior: the prior.
        operator: A, in the units of the prior.
        noise: the standard deviation of each reading (R,), or of all.

    Raises:
        InputError: an operator that is not linear or is too large to write as a matrix.
    """

    def __init__(self, prior: GaussianMixture, operator: Operator, noise: Tensor) -> None:
        self.prior, self.matrix = prior, dense(operator)
        self.noise = noise.expand(operator.output_shape).flatten()
        moved = self.matrix @ prior.covariances  # (K, R, D)
        self._roots = torch.linalg.cholesky(moved @ self.matrix.T + torch.diag(self.noise**2))
        self._half = torch.linalg.solve_triangular(self._roots, moved, upper=False)  # the gain is half^T roots^-1
        self._log_det = self._roots.diagonal(dim1=1, dim2=2).log().sum(1)
        self._read = prior.means @ self.matrix.T
        self._within = (prior.covariances.diagonal(dim1=1, dim2=2) - self._half.square().sum(1)).clamp(min=0)

    def posterior(self, y: Float[Tensor, "r"], count: int, generator: torch.Generator) -> ClosedForm:
        """The posterior of readings y, and ``count`` draws of it."""
        prior, half = self.prior, self._half
        scaled = torch.linalg.solve_triangular(self._roots, (y - self._read)[..., None], upper=False)[..., 0]
        logs = prior.weights.log() - 0.5 * scaled.square().sum(1) - self._log_det
        weights = logs.softmax(0)
        means = prior.means + torch.einsum("kr,krd->kd", scaled, half)
        mean = weights @ means
        std = (weights @ (self._within + (means - mean).square())).sqrt()
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        x = prior.sample_from(k, generator)
        read = x @ self.matrix.T + self.noise * torch.randn(count, len(y), generator=generator, dtype=torch.float64)
        gap = torch.linalg.solve_triangular(self._roots[k], (y - read)[..., None], upper=False)[..., 0]
        draws = x + torch.einsum("nr,nrd->nd", gap, half[k])
        return ClosedForm(draws, mean, std, float(logs.logsumexp(0)) - 0.5 * len(y) * math.log(2 * math.pi))


def closed_forms(
    prior: GaussianMixture, measurement: Measurement, count: int, generators: Iterable[torch.Generator]
) -> Iterator[ClosedForm]:
    """The posterior of each measurement, and ``count`` draws of it by a generator of its own.

    Measurements with the same noise as the one before them share its factors.

    Raises:
        InputError: an operator that is not linear or is too large to write as a matrix.
    """
    gains: Gains | None = None
    for i, generator in zip(range(len(measurement)), generators, strict=True):
        row = measurement.row(i)
        noise = torch.as_tensor(row.noise)
        if gains is None or not torch.equal(gains.noise, noise.expand(row.operator.output_shape).flatten()):
            gains = Gains(prior, row.operator, noise)
        yield gains.posterior(row.y[0].flatten(), count, generator)
