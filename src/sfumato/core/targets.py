"""Targets: the output of a network as a row of a linear system.

A noisy sample is one row of a linear system in (x_0, eps), and the output of the network is another:

    x_t = alpha x_0 + sigma eps
    y   =     a x_0 +     b eps

Solving the two gives every conversion:

    det = alpha b - sigma a,    x_0 = (b x_t - sigma y) / det,    eps = (alpha y - a x_t) / det

A target is ill-posed where ``det`` is 0: the noise where alpha = 0, x_0 where sigma = 0, v and EDM's output nowhere.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from .levels import Level, expand
from .scalings import Scaling


@dataclass(frozen=True)
class Prediction:
    """The estimates E[x_0 | x_t] and E[eps | x_t] for a noisy sample.

    Both are kept, so that no caller divides by a small sigma or alpha.

    Arguments:
        x_0: the estimate of x_0, of x_t's shape.
        eps: the estimate of eps, of x_t's shape.
        variance_share: where a model has learned it, the position v in [0, 1] of the log-variance of a reverse step
            between its smallest and its largest value (Nichol & Dhariwal 2021, eq. 15).
    """

    x_0: Tensor
    eps: Tensor
    variance_share: Tensor | None = None

    def with_x_0(self, x_0: Float[Tensor, "*b"], level: Level) -> "Prediction":
        """The prediction with another x_0 and the eps that agrees with it: ``eps + alpha / sigma (old x_0 - x_0)``.

        A correction of the old eps, exact where x_0 is unchanged, however small sigma is.
        """
        ratio = expand(level.alpha / level.sigma, x_0)
        return replace(self, x_0=x_0, eps=self.eps + (self.x_0 - x_0) * ratio)


class Target(ABC):
    """A row ``y = a x_0 + b eps``."""

    @abstractmethod
    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        """The coefficients (a, b) at a level, of the level's shape."""

    def det(self, level: Level) -> Tensor:
        """``alpha b - sigma a``: zero where the target does not determine x_0 and eps."""
        a, b = self.row(level)
        return level.alpha * b - level.sigma * a

    def encode(self, x_0: Float[Tensor, "*b"], eps: Float[Tensor, "*b"], level: Level) -> Float[Tensor, "*b"]:
        """The target ``y`` of a clean sample and its noise."""
        a, b = self.row(level)
        return expand(a, x_0) * x_0 + expand(b, x_0) * eps

    def decode(self, y: Float[Tensor, "*b"], x_t: Float[Tensor, "*b"], level: Level) -> Prediction:
        """The solution (x_0, eps) of the two rows; coefficients are formed in the level's own float64."""
        a, b = self.row(level)
        det = level.alpha * b - level.sigma * a
        return Prediction(
            x_0=expand(b / det, x_t) * x_t - expand(level.sigma / det, x_t) * y,
            eps=expand(level.alpha / det, x_t) * y - expand(a / det, x_t) * x_t,
        )


@dataclass(frozen=True)
class X0(Target):
    """The clean sample, ``y = x_0``."""

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.ones_like(level.alpha), torch.zeros_like(level.alpha)


@dataclass(frozen=True)
class Noise(Target):
    """The noise, ``y = eps`` (Ho et al. 2020, eq. 14)."""

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), torch.ones_like(level.alpha)


@dataclass(frozen=True)
class Score(Target):
    """The score of q(x_t | x_0), ``y = -eps / sigma`` (Vincent 2011; Song & Ermon 2019). Infinite at data."""

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(level.alpha), -1 / level.sigma


@dataclass(frozen=True)
class V(Target):
    """``y = (alpha eps - sigma x_0) / sqrt(alpha^2 + sigma^2)`` (Salimans & Ho 2022, appendix D, in any units)."""

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        norm = torch.hypot(level.alpha, level.sigma)
        return -level.sigma / norm, level.alpha / norm


@dataclass(frozen=True)
class Velocity(Target):
    """The velocity of the path: eps in VE, v in VP, eps - x_0 on straight paths (Lipman et al. 2023).

    Arguments:
        scaling: the path.
    """

    scaling: Scaling

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        return self.scaling.tangent(level)


@dataclass(frozen=True)
class EDM(Target):
    """The output of EDM's preconditioned network (Karras et al. 2022, eq. 7 and table 1), in any units.

    ``y = (sigma / (s n)) x_0 - (alpha s / n) eps`` with ``s = sigma_data`` and ``n^2 = alpha^2 s^2 + sigma^2``: for
    data of standard deviation s it has unit variance at every level. For s = 1 it is -v.

    Arguments:
        sigma_data: the standard deviation s of the data.
    """

    sigma_data: float = 0.5

    def row(self, level: Level) -> tuple[Tensor, Tensor]:
        norm = torch.hypot(level.alpha * self.sigma_data, level.sigma)
        return level.sigma / (self.sigma_data * norm), -level.alpha * self.sigma_data / norm
