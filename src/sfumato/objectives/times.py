"""At which noise levels to train, stratified across the batch; and which to look at more often than others.

Sample i of a batch of B draws its place from the i-th of B equal strata, ``u_i = (i + U_i) / B``: each level is as
likely as before, and the loss of a batch varies less (Kingma et al. 2021, appendix I.1). The fraction is computed from
integers: a floating-point ``arange(0, 1, 1 / B)`` has B + 1 values for some B.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor, nn

from sfumato.numerics.density import Density


def stratify(uniform: Float[Tensor, "b"], index: Int64[Tensor, "b"], batch: int) -> Float[Tensor, "b"]:
    """``(index + uniform) / batch`` in (0, 1]: sample ``index`` of a whole batch in its own stratum."""
    return (index + uniform) / batch


class TimeSampler(ABC):
    """A distribution over t by its inverse: from uniform numbers in (0, 1) to times in (0, 1]."""

    @abstractmethod
    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles, float64."""

    def weight(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """What a loss at ``t`` counts for, so that the mean stays that over even times; None for 1."""
        return None

    def log_prob(self, t: Float[Tensor, "b"]) -> Float[Tensor, "b"] | None:
        """The log of the density with which ``t`` was drawn, with a gradient where that is learned; None where not."""
        return None

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles of the even distribution, by which a loss is measured."""
        return self(uniform)


@dataclass(frozen=True)
class UniformTimes(TimeSampler):
    """t uniform on (0, 1)."""

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return uniform


@dataclass(frozen=True)
class ChainTimes(TimeSampler):
    """t = k / steps with k uniform on 1..steps: the levels of a discrete chain (Ho et al. 2020, algorithm 1)."""

    steps: int

    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return ((uniform * self.steps).floor() + 1).clamp(max=self.steps) / self.steps


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
        inside = t - 0.5 / self.base.steps if isinstance(self.base, ChainTimes) else t
        return self.density.log_prob(inside)

    def even(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        return self.base(uniform)
