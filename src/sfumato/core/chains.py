"""Discrete chains as schedules: T variances beta_k, with level k at t = k / T.

A chain is the clock of a rate beta(t) that is constant between its levels. One formula covers the interval from data to
the first level, and both ends.
"""

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .schedules import Schedule, decay_of_logsnr, geometric, logsnr_of_decay


class Chain(Schedule):
    """A discrete chain of T steps: level k = 1..T is at t = k / T, with ``decay_k = -log alpha-bar_k``; t = 0 is data.

    Between the levels the rate is constant, so log alpha-bar is linear in t.
    """

    @property
    @abstractmethod
    def steps(self) -> int:
        """T, the number of levels."""

    @property
    @abstractmethod
    def decay(self) -> Tensor:
        """``-log alpha-bar`` (T + 1,) at data and at the levels, float64, from 0."""

    def logsnr(self, t: Tensor) -> Tensor:
        decay = self.decay.to(t.device)
        position = t * self.steps
        k = position.detach().floor().long().clamp(0, self.steps - 1)
        return logsnr_of_decay(decay[k] + (position - k) * (decay[k + 1] - decay[k]))

    def time(self, logsnr: Tensor) -> Tensor:
        decay = self.decay.to(logsnr.device)
        target = decay_of_logsnr(logsnr)
        k = (torch.searchsorted(decay.detach(), target.detach().contiguous(), right=True) - 1).clamp(0, self.steps - 1)
        return (k + (target - decay[k]) / (decay[k + 1] - decay[k])) / self.steps

    @property
    def remedy(self) -> str:
        return "use more steps, a larger last beta, or cosine betas"


@dataclass(frozen=True, eq=False)
class Tabulated(Chain):
    """A chain with given variances: ``alpha-bar_k = prod_{i <= k} (1 - beta_i)``.

    Arguments:
        betas: the variances (T,), each in (0, 1).

    Raises:
        InputError: ``betas`` is not a vector, is empty, or leaves (0, 1); names the first beta that does.

    References:
        Ho et al. 2020, section 2.
    """

    betas: Tensor
    _decay: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        betas = torch.as_tensor(self.betas, dtype=torch.float64)
        if betas.ndim != 1 or len(betas) == 0:
            raise InputError(f"betas: shape {tuple(betas.shape)} is not a chain; give one variance per step, (T,)")
        bad = ~((betas > 0) & (betas < 1))
        if bad.any():
            k = int(bad.int().argmax())
            raise InputError(
                f"betas: beta_{k + 1} = {betas[k]:.6g} of {len(betas)} is outside (0, 1); a variance of the chain must "
                "be inside: use more steps, a smaller last beta, or clip"
            )
        object.__setattr__(self, "betas", betas)
        object.__setattr__(self, "_decay", torch.cat((betas.new_zeros(1), -torch.log1p(-betas).cumsum(0))))

    @property
    def steps(self) -> int:
        return len(self.betas)

    @property
    def decay(self) -> Tensor:
        return self._decay


def linear_betas(steps: SupportsIndex, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Betas linear from ``first`` to ``last`` (Ho et al. 2020, section 4, with T = 1000)."""
    return torch.linspace(first, last, _length(steps), dtype=torch.float64)


def quadratic_betas(steps: SupportsIndex, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Betas whose square root is linear from sqrt(first) to sqrt(last) (latent diffusion's "scaled linear")."""
    return torch.linspace(math.sqrt(first), math.sqrt(last), _length(steps), dtype=torch.float64) ** 2


def sigmoid_betas(steps: SupportsIndex, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Betas ``first + (last - first) sigmoid(u)``, u linear from -6 to 6 (Xu et al. 2022, GeoDiff)."""
    return first + (last - first) * torch.sigmoid(torch.linspace(-6, 6, _length(steps), dtype=torch.float64))


def cosine_betas(steps: SupportsIndex, offset: float = 0.008, clip: float = 0.999) -> Tensor:
    """Betas of ``alpha-bar_k ~ cos^2((k/T + offset) / (1 + offset) pi/2)``, at most ``clip``.

    Without the clip the last beta is 1: no signal is left, and a noise target has no solution there (Nichol & Dhariwal
    2021, eq. 17).
    """
    T = _length(steps)
    u = torch.arange(T + 1, dtype=torch.float64) / T
    alpha_bar = torch.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=clip)


def geometric_betas(steps: SupportsIndex, sigma_min: float = 0.01, sigma_max: float = 50.0) -> Tensor:
    """NCSN's chain: at level k sigma / alpha is ``sigma_min (sigma_max / sigma_min)^((k - 1) / (steps - 1))``.

    A single level is at ``sigma_max`` (Song & Ermon 2019, section 4.2).
    """
    T = _length(steps)
    t = torch.ones(1) if T == 1 else torch.arange(T, dtype=torch.float64) / (T - 1)
    return betas_at(geometric(sigma_min, sigma_max).logsnr(t.double()))


def geometric_ratio(dimensions: SupportsIndex, most: float = 5 / 3) -> float:
    """The ratio of neighbouring sigmas at which the noise of one level reaches the next: NCSNv2's technique 2.

    In many dimensions |x - x_0| at sigma is N(sqrt(D) sigma, sigma^2 / 2); the ratio r solves ``Phi(sqrt(2D) (r - 1)
    + 3 r) - Phi(sqrt(2D) (r - 1) - 3 r) = 1/2``. In few dimensions every ratio works.

    Arguments:
        dimensions: D, at least 1.
        most: the largest ratio; the default is NCSN's (ten levels from 1 to 0.01).

    Raises:
        InputError: less than one dimension.

    References:
        Song & Ermon 2020, proposition 2.
    """
    dimensions = whole("dimensions", dimensions, 1)
    # Phi of the first argument is 1 to at least six digits, so the second argument is zero.
    root = math.sqrt(2 * dimensions)
    return most if root <= 3 else min(most, root / (root - 3))


def betas_at(logsnr: Float[Tensor, "t"]) -> Float[Tensor, "t"]:
    """The betas of the chain whose levels 1..T have these log-SNRs, falling: ``1 - alpha-bar_k / alpha-bar_(k-1)``.

    ``Tabulated(betas_at(schedule.logsnr(k / T)))`` turns a clock in continuous time into a chain. A chain can be used
    in continuous time as it is.
    """
    decay = decay_of_logsnr(logsnr.double())
    return -torch.expm1(-torch.diff(decay, prepend=decay.new_zeros(1)))


def _length(steps: SupportsIndex) -> int:
    return whole("steps", steps, 1)
