"""A control variate for the terms of a bound: the squared error of a Gaussian denoiser."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level
from sfumato.core.levels import expand

WIDEST = 512  # numbers per sample, up to which the Gaussian has a full covariance


@dataclass(frozen=True, eq=False)
class ControlVariate:
    """The denoiser of N(mean, sum_d variance_d axis_d axis_d^T).

    Along an axis its error is ``e = (alpha^2 v eps - alpha sigma (x_0 - m)) / (alpha^2 v + sigma^2)``, so over the
    noise ``E e^2 = ((alpha^2 v)^2 + (alpha sigma (x_0 - m))^2) / (alpha^2 v + sigma^2)^2``, for every x_0.

    Arguments:
        mean: the mean (D,).
        variance: the variances (D,) along the axes.
        axes: the axes (D, D), one per column; None for the coordinate axes.
    """

    mean: Tensor
    variance: Tensor
    axes: Tensor | None

    @classmethod
    def of(cls, x_0: Float[Tensor, "b *s"]) -> "ControlVariate":
        """With the mean and covariance of these samples; the fewer they are, the closer to a diagonal covariance."""
        x = x_0.double().flatten(1)
        mean, (B, D) = x.mean(0), x.shape
        variance = x.var(0, unbiased=False) + 1e-12
        if D > WIDEST:
            return cls(mean, variance, None)
        covariance = (x - mean).T @ (x - mean) / B
        shrinkage = D / (B + D)
        covariance = (1 - shrinkage) * covariance + shrinkage * variance.diag()
        variances, axes = torch.linalg.eigh(covariance)
        return cls(mean, variances.clamp(min=1e-12), axes)

    def _along(self, x: Tensor) -> Tensor:
        return x if self.axes is None else x @ self.axes

    def excess(self, x_0: Float[Tensor, "b *s"], noise: Float[Tensor, "b *s"], level: Level) -> Float[Tensor, "b"]:
        """``sum_d e_d^2 - E e_d^2``, of mean zero over the noise, at a level of shape () or (B,)."""
        away = self._along(x_0.double().flatten(1) - self.mean)
        z = self._along(noise.double().flatten(1))
        alpha, sigma = expand(level.alpha, away), expand(level.sigma, away)
        total = alpha**2 * self.variance + sigma**2
        from_noise = alpha**2 * self.variance / total
        from_data = alpha * sigma / total * away
        return ((from_noise * z - from_data).square() - from_noise**2 - from_data**2).sum(1)

    def mean_errors(self, x_0: Float[Tensor, "b *s"], levels: Level) -> Float[Tensor, "b n"]:
        """``sum_d E e_d^2`` of each sample at each of the ``levels``, of shape (N,)."""
        alpha, sigma = levels.alpha[:, None].to(x_0.device), levels.sigma[:, None].to(x_0.device)
        total = alpha**2 * self.variance + sigma**2
        from_noise = (alpha**2 * self.variance / total).square().sum(1)
        squares = self._along(x_0.double().flatten(1) - self.mean).square()
        return from_noise + squares @ (alpha * sigma / total).square().T
