"""Nats, bits per dimension, and error bars."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """``nats / (D ln 2)``."""
    return nats / (dimensions * math.log(2))


@dataclass(frozen=True)
class Estimate:
    """A mean over samples with two standard errors.

    Arguments:
        mean: the mean.
        error: its standard error for data of this kind: samples differ, and each value is an estimate.
        method: its standard error for this very data: levels, noise and probes are random. 0 where values are exact.
    """

    mean: float
    error: float
    method: float

    @classmethod
    def of(cls, values: Float[Tensor, "b"], variance: Float[Tensor, "b"]) -> "Estimate":
        """From the values of samples, and the ``variance`` of each as an estimate. One sample has no ``error``."""
        n = len(values)
        return cls(
            mean=float(values.mean()),
            error=float(values.std() / math.sqrt(n)) if n > 1 else math.nan,
            method=math.sqrt(max(float(variance.sum()), 0.0)) / n,
        )

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"
