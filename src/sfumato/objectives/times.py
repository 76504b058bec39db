"""Distributions of training times, and the stratification of a batch.

Sample i of a batch of B draws its quantile from the i-th of B equal strata, ``u_i = (i + U_i) / B``. Each time is as
likely as without strata, and the loss of a batch varies less (Kingma et al. 2021, appendix I.1). The fraction is
computed from integers: a floating-point ``arange(0, 1, 1 / B)`` has B + 1 values for some B.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from sfumato.core import Process
from sfumato.errors import InputError
from sfumato.numerics.density import Density
from sfumato.numerics.integers import whole


def stratify(uniform: Float[Tensor, "b"], index: Int64[Tensor, "b"], batch: int) -> Float[Tensor, "b"]:
    """``(index + uniform) / batch`` in (0, 1]: the quantile of sample ``index`` of a whole batch in its own stratum."""
    return (index + uniform) / batch


class TimeSampler(ABC):
    """A distribution over t, given by its quantile function: from uniform numbers in (0, 1) to times in (0, 1]."""

    @abstractmethod
    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles, float64."""

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """``-d logsnr / du`` at ``t``, where u is the quantile of the even distribution."""
        return process.rate(t)

    def importance_weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """The importance weight of a loss at ``t``, so that the mean stays that over even times; None for 1."""
        return None

    def variance_surrogate(self, values: Float[Tensor, "b"], t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """``Density.variance_surrogate`` of the ``values`` computed at ``t``; None for times that are not learned."""
        return None

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles of the even distribution, which losses are evaluated at."""
        return self(uniform)


@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """t uniform on (``first``, 1)."""

    first: float = 0.0

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.first + (1 - self.first) * uniform

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return (1 - self.first) * process.rate(t)


@dataclass(frozen=True)
class OneTime(TimeSampler):
    """Always the same time ``t``."""

    t: float

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.full_like(uniform, self.t)


@dataclass(frozen=True)
class LogNormalTimes(TimeSampler):
    """Times at which ``log(sigma / alpha)`` is normal, truncated to the noise levels of ``process``.

    This is the training noise of EDM. On a straight path with its own clock it is the logit-normal t of rectified flow.

    Arguments:
        process: the process whose noise levels limit the distribution.
        mean: mean of ``log(sigma / alpha)`` before truncation.
        std: standard deviation of ``log(sigma / alpha)`` before truncation.
        first: earliest time; noise levels below it are left out as well.

    Raises:
        InputError: less than a millionth of the distribution lies within the process.

    References:
        Karras et al. 2022, table 1; Esser et al. 2024, section 3.1.
    """

    process: Process
    mean: float = -1.2
    std: float = 1.2
    first: float = 0.0

    def __post_init__(self) -> None:
        low, high = self._quantiles
        if not high - low > 1e-6:
            raise InputError(
                f"log_ratio_mean: with {self.mean:g} and log_ratio_std {self.std:g} hardly one in a million values of "
                "sigma / alpha occurs in this process; change them, or the schedule"
            )

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        """The quantiles of both ends in the distribution before truncation."""
        ends = self.process.level(torch.tensor([self.first, 1.0], dtype=torch.float64)).logsnr.detach()
        low, high = torch.special.ndtr((-ends / 2 - self.mean) / self.std).tolist()
        return low, high

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        low, high = self._quantiles
        z = torch.special.ndtri(low + (high - low) * uniform.double())
        t = self.process.schedule.time(-2 * (self.mean + self.std * z))
        return t.clamp(self.first, 1)

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        low, high = self._quantiles
        z = (-process.level(t).logsnr / 2 - self.mean) / self.std
        return 2 * self.std * (high - low) * math.sqrt(2 * math.pi) * torch.exp(z**2 / 2)


@dataclass(frozen=True)
class ChainTimes(TimeSampler):
    """t = k / steps with k uniform on 1 .. steps: the noise levels of a chain (Ho et al. 2020, algorithm 1)."""

    steps: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", whole("steps", self.steps, 1))

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return ((uniform * self.steps).floor() + 1).clamp(max=self.steps) / self.steps

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return process.rate(t * (1 - 1e-9))  # the rate jumps at each level: take that of the step to it


class LossAware(nn.Module, TimeSampler):
    """Times drawn more often where the loss is large: p ~ sqrt(E[loss^2]).

    This p minimises the variance of the weighted loss. The paper computes it from a table of the last ten losses at
    each time. Here it is a learned ``Density`` on cells of [0, 1] that follows the gradient of that variance, so it is
    saved in checkpoints like any weight, and it also works in continuous time.

    Arguments:
        base: the even times, which ``even`` returns.
        cells: number of cells; on a chain, the largest number up to this that divides its length.

    References:
        Nichol & Dhariwal 2021, eq. 18.
    """

    def __init__(self, base: "UniformTimes | ChainTimes", cells: int = 64) -> None:
        super().__init__()
        self.base = base
        # Cells with a whole number of times give each time of a cell the same probability.
        steps = base.steps if isinstance(base, ChainTimes) else cells
        self.density = Density(max(k for k in range(1, min(cells, steps) + 1) if steps % k == 0))

    def forward(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.base(self.density.quantile(uniform))

    def importance_weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return (-self.log_prob(t)).exp().detach()

    def log_prob(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The log-density of ``t`` relative to even times, differentiable by the density's cells."""
        inside = t - 0.5 / self.base.steps if isinstance(self.base, ChainTimes) else t
        return self.density.log_prob(inside)

    def variance_surrogate(self, values: Float[Tensor, "b"], t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.density.variance_surrogate(values, self.log_prob(t))

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.base(uniform)

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return self.base.rate(process, t)
