r"""A twin of a problem: a prior made of the user's samples under which the posterior of a linear measurement is known.

The prior is ``sum_k N(m_k, h^2 I) / K`` with samples m_k: the law of the data at a small noise h. With the whitened
operator ``A / noise = U diag(s) V^T`` and ``c = U^T y / noise``, component k of the posterior is Gaussian with

    mean        m_k + h^2 V diag(s / (1 + h^2 s^2)) (c - s V^T m_k)
    covariance  h^2 (I - V diag(h^2 s^2 / (1 + h^2 s^2)) V^T)
    weight      ~ N(c; s V^T m_k, 1 + h^2 s^2)

so that every method can be compared with exact draws on the user's own operator and noise.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.denoisers import GaussianMixture
from sfumato.errors import InputError

from .measurement import Measurement
from .operators import decompose

MOST_NUMBERS = 256  # of a sample, so that the exact denoiser stays quick
_SHARE = 0.5  # h, of the root mean square distance per number to the nearest other sample


@dataclass(frozen=True, eq=False)
class Twin:
    """``sum_k N(centres_k, width^2 I) / K``.

    Arguments:
        centres: (K, D) in model units, float64.
        width: h.
    """

    centres: Tensor
    width: float

    @classmethod
    def of(cls, samples: Float[Tensor, "k *s"]) -> "Twin":
        """The twin with these samples in model units as centres; half as wide as they are apart.

        Raises:
            InputError: fewer than 2 samples, samples of more than ``MOST_NUMBERS`` numbers, or samples that are equal.
        """
        x = samples.flatten(1).double()
        if len(x) < 2 or x.shape[1] > MOST_NUMBERS:
            raise InputError(
                f"twin: {len(x)} samples of {x.shape[1]} numbers; give at least 2, of at most {MOST_NUMBERS} numbers"
            )
        apart = torch.cdist(x, x).fill_diagonal_(torch.inf).amin(1)
        width = _SHARE * float(apart.median()) / x.shape[1] ** 0.5
        if not width > 0:
            raise InputError("twin: most samples have an equal; remove copies")
        return cls(x, width)

    @property
    def mixture(self) -> GaussianMixture:
        """The prior."""
        return GaussianMixture.isotropic(self.centres, self.width)

    def sample(self, count: int, generator: torch.Generator) -> Float[Tensor, "count d"]:
        """Independent draws of the prior, float64."""
        k = torch.randint(len(self.centres), (count,), generator=generator)
        noise = torch.randn(count, self.centres.shape[1], generator=generator, dtype=torch.float64)
        return self.centres[k] + self.width * noise

    def posterior(self, measurement: Measurement, count: int, generator: torch.Generator) -> "Exact":
        """Mean, standard deviation and independent draws of the posterior of one measurement in model units.

        Raises InputError for an operator that is not linear, or too large to decompose.
        """
        noise = torch.as_tensor(measurement.noise).expand(measurement.operator.output_shape).flatten()
        u, s, v = decompose(measurement.operator, noise)
        c, h = u.T @ (measurement.y[0].flatten() / noise), self.width
        spread = 1 + (h * s) ** 2
        gap = c - s * (self.centres @ v)
        weights = (-0.5 * (gap**2 / spread).sum(1)).softmax(0)
        means = self.centres + h**2 * (s / spread * gap) @ v.T
        mean = weights @ means
        variance = h**2 * (1 - (v**2) @ ((h * s) ** 2 / spread)) + weights @ (means - mean) ** 2
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        z = torch.randn(count, len(mean), generator=generator, dtype=torch.float64)
        draws = means[k] + h * (z - ((1 - spread.rsqrt()) * (z @ v)) @ v.T)
        return Exact(mean, variance.sqrt(), draws)


@dataclass(frozen=True, eq=False)
class Exact:
    """A posterior that is known: mean (D,), standard deviation (D,), and draws (n, D)."""

    mean: Tensor
    std: Tensor
    draws: Tensor
