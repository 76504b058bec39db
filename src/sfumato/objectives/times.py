"""At which noise levels to train, stratified across the batch.

Sample i of a batch of B draws its place from the i-th of B equal strata, ``u_i = (i + U_i) / B``: each level is as
likely as before, and the loss of a batch varies less (Kingma et al. 2021, appendix I.1). The fraction is computed from
integers: a floating-point ``arange(0, 1, 1 / B)`` has B + 1 values for some B.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from jaxtyping import Float, Int64
from torch import Tensor


def stratify(uniform: Float[Tensor, "b"], index: Int64[Tensor, "b"], batch: int) -> Float[Tensor, "b"]:
    """``(index + uniform) / batch`` in (0, 1]: sample ``index`` of a whole batch in its own stratum."""
    return (index + uniform) / batch


class TimeSampler(ABC):
    """A distribution over t by its inverse: from uniform numbers in (0, 1) to times in (0, 1]."""

    @abstractmethod
    def __call__(self, uniform: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """The times at these quantiles, float64."""


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
