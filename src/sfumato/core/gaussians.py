"""Isotropic Gaussians N(mean, variance I): the kernels of a diffusion."""

import math
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """N(mean, variance I).

    Arguments:
        mean: the means (B, *).
        variance: the variances; they broadcast against the mean.
    """

    mean: Tensor
    variance: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """``mean + sqrt(variance) noise`` for standard normal ``noise`` of the mean's shape."""
        return self.mean + self.variance.sqrt() * noise

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density in nats, summed over all axes but the first: shape (B,). Needs ``variance > 0``."""
        terms = (x - self.mean) ** 2 / self.variance + self.variance.log() + math.log(2 * math.pi)
        return -0.5 * terms.flatten(1).sum(1)

    def kl(self, other: "Gaussian") -> Tensor:
        """KL(self || other) in nats, summed over all axes but the first: shape (B,).

        ``(r - 1 - ln r + (mean - mean')^2 / variance') / 2`` with ``r = variance / variance'``.
        """
        excess = (self.variance - other.variance) / other.variance  # r - 1, exact where r is nearly 1
        terms = excess - excess.log1p() + (self.mean - other.mean) ** 2 / other.variance
        return 0.5 * terms.flatten(1).sum(1)
