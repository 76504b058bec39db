"""At which noise levels to train, stratified across the batch; and which to look at more often than others.

Sample i of a batch of B draws its place from the i-th of B equal strata, ``u_i = (i + U_i) / B``: each level is as
likely as before, and the loss of a batch varies less (Kingma et al. 2021, appendix I.1). The fraction is computed from
integers: a floating-point ``arange(0, 1, 1 / B)`` has B + 1 values for some B.
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


def stratify(uniform: Float[Tensor, "b"], index: Int64[Tensor, "b"], batch: int) -> Float[Tensor, "b"]:
    """``(index + uniform) / batch`` in (0, 1]: sample ``index`` of a whole batch in its own stratum."""
    return (index + uniform) / batch


class TimeSampler(ABC):
    """A distribution over t by its inverse: from uniform numbers in (0, 1) to times in (0, 1]."""

    @abstractmethod
    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles, float64."""

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """``-d logsnr / du`` where the quantile u of the even distribution is at ``t``: of the process itself here."""
        return process.rate(t)

    def weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """What a loss at ``t`` counts for, so that the mean stays that over even times; None for 1."""
        return None

    def variance_surrogate(self, values: Float[Tensor, "b"], t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """``Density.variance_surrogate`` of what was computed at ``t``, where the times are learned; None where not."""
        return None

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles of the even distribution, by which a loss is measured."""
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
    """Always ``t``: a single level."""

    t: float

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return torch.full_like(uniform, self.t)


@dataclass(frozen=True)
class LogNormalTimes(TimeSampler):
    """Times at which ``log(sigma / alpha)`` is normal of ``mean`` and ``std``, within the levels of ``process``.

    EDM's training noise (Karras et al. 2022, table 1: -1.2, 1.2). On a straight path with its own clock this is the
    logit-normal t of rectified flow (Esser et al. 2024, section 3.1). Levels outside the process, and finer than time
    ``first``, are left out, the rest keep their ratio. Raises InputError where next to nothing is left.
    """

    process: Process
    mean: float = -1.2
    std: float = 1.2
    first: float = 0.0

    def __post_init__(self) -> None:
        low, high = self._quantiles
        if not high - low > 1e-6:
            raise InputError(
                f"log_ratio_mean: with {self.mean:g} and log_ratio_std {self.std:g} hardly one in a million ratios "
                "sigma / alpha is a level of this process; change them, or the schedule"
            )

    @cached_property
    def _quantiles(self) -> tuple[float, float]:
        """Of the untruncated distribution, at the ends."""
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
    """t = k / steps with k uniform on 1..steps: the levels of a discrete chain (Ho et al. 2020, algorithm 1)."""

    steps: int

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return ((uniform * self.steps).floor() + 1).clamp(max=self.steps) / self.steps

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return process.rate(t * (1 - 1e-9))  # a level is a kink of the rate: that of the step which leads to it


class LossAware(nn.Module, TimeSampler):
    """Times drawn where the loss is large: after Nichol & Dhariwal 2021, eq. 18, p ~ sqrt(E[loss^2]).

    That p lowers the variance of the weighted loss to its least. Theirs is read off a table of the last ten losses at
    each level; ours is a learned ``Density`` on cells of [0, 1] that goes down the gradient of that variance, so that
    it is part of a checkpoint like any weight, and a continuous time can have it too. ``even`` are the times that it
    reweights: a chain's levels, or all.
    """

    def __init__(self, base: "UniformTimes | ChainTimes", cells: int = 64) -> None:
        super().__init__()
        self.base = base
        # Cells that hold whole levels give each level of a cell the same chance.
        steps = base.steps if isinstance(base, ChainTimes) else cells
        self.density = Density(max(k for k in range(1, min(cells, steps) + 1) if steps % k == 0))

    def forward(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.base(self.density.quantile(uniform))

    def weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return (-self.log_prob(t)).exp().detach()

    def log_prob(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The log-density with which a time was drawn, relative to the even one; its gradient is the cells'."""
        inside = t - 0.5 / self.base.steps if isinstance(self.base, ChainTimes) else t
        return self.density.log_prob(inside)

    def variance_surrogate(self, values: Float[Tensor, "b"], t: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.density.variance_surrogate(values, self.log_prob(t))

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.base(uniform)

    def rate(self, process: Process, t: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        return self.base.rate(process, t)
