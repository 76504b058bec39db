"""A control variate for the terms of a bound: what a Gaussian denoiser would pay."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level
from sfumato.core.levels import expand


@dataclass(frozen=True, eq=False)
class Control:
    """N(mean, variance) for each number of a sample, both of a sample's shape and float64.

    Its denoiser is off by ``e = (alpha^2 v eps - alpha sigma (x_0 - m)) / (alpha^2 v + sigma^2)``, so over the noise
    ``E e^2 = ((alpha^2 v)^2 + (alpha sigma (x_0 - m))^2) / (alpha^2 v + sigma^2)^2``, whatever x_0 is.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, x_0: Float[Tensor, "b *s"]) -> "Control":
        """The means and variances of these samples."""
        x = x_0.double()
        return cls(x.mean(0), x.var(0, unbiased=False) + 1e-12)

    def excess(self, x_0: Float[Tensor, "b *s"], noise: Float[Tensor, "b *s"], level: Level) -> Float[Tensor, "b"]:
        """``sum_d e_d^2 - E e_d^2``, of mean zero over the noise, at a level of shape () or (B,)."""
        x, z = x_0.double(), noise.double()
        alpha, sigma = expand(level.alpha, x), expand(level.sigma, x)
        total = alpha**2 * self.variance + sigma**2
        from_noise = alpha**2 * self.variance / total
        from_data = alpha * sigma / total * (x - self.mean)
        square = (from_noise * z - from_data).square() - from_noise**2 - from_data**2
        return torch.flatten(square, 1).sum(1)

    def mean_errors(self, x_0: Float[Tensor, "b *s"], levels: Level) -> Float[Tensor, "b n"]:
        """``sum_d E e_d^2`` of each sample at each of the ``levels``, of shape (N,)."""
        alpha, sigma = levels.alpha[:, None].to(x_0.device), levels.sigma[:, None].to(x_0.device)
        variance = self.variance.flatten()
        total = alpha**2 * variance + sigma**2
        from_noise = (alpha**2 * variance / total).square().sum(1)
        squares = (x_0.double() - self.mean).square().flatten(1)
        return from_noise + squares @ (alpha * sigma / total).square().T
