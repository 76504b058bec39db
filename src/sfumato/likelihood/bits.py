"""Nats, bits per dimension, and error bars."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

NORMAL = 1.959964  # the 97.5 % quantile of the normal distribution
FEWEST_DEGREES = 6.0  # below this the spread of a sum of variances is most of it


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """``nats / (D ln 2)``."""
    return nats / (dimensions * math.log(2))


def degrees_of_freedom(variance: Float[Tensor, "b"]) -> float:
    """How well the sum of these estimates of variances is known, as a number of squared normal variables.

    A sum of nu of them has a relative variance of ``2 / nu``, which is estimated from the spread over samples. Infinite
    for one sample, which shows no spread, and where there is no variance.

    References:
        Satterthwaite 1946.
    """
    total, n = float(variance.sum()), len(variance)
    if n < 2 or not 0 < total < math.inf:
        return math.inf
    relative = n * float(variance.var()) / total**2
    return 2 / relative if relative > 0 else math.inf


def student_widening(freedom: float) -> float:
    """Student's 97.5 % quantile over the normal one, 1.96, to 1 % from 3 degrees of freedom on; constant below.

    References:
        Fisher & Cornish 1960, the expansion in 1 / nu.
    """
    z, nu = NORMAL, max(freedom, 3.0)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return 1 + (first / nu + second / nu**2 + third / nu**3) / z


def skew_widening(skewness: float) -> float:
    """How much farther than 1.96 standard errors the 97.5 % quantile of a skewed mean is, on its farther side.

    ``1 + |skewness| (2 z^2 + 1) / (6 z)``, for a mean over its own estimated standard error: where large errors are
    rare, an estimate that is too low has an error that is too small.

    References:
        Johnson 1978; Hall 1992, section 2.6.
    """
    return 1 + abs(skewness) * (2 * NORMAL**2 + 1) / (6 * NORMAL)


@dataclass(frozen=True)
class Estimate:
    """A mean over samples with two standard errors.

    Arguments:
        mean: the mean.
        error: its standard error for data of this kind: samples differ, and each value is an estimate.
        method: its error for this very data: levels, noise and probes are random. 0 where values are exact. It is the
            standard error, widened by Student's t and for skewness, so that ``mean ± 1.96 method`` is an interval of
            about 95 %.
        trusted: False where ``method`` comes from one sample, or a few samples make most of it: rare errors as large
            may not have been seen.
    """

    mean: float
    error: float
    method: float
    trusted: bool = True

    @classmethod
    def of(cls, values: Float[Tensor, "b"], variance: Float[Tensor, "b"], skewness: float = 0.0) -> "Estimate":
        """From the values of samples, the ``variance`` of each as an estimate, and the skewness of their mean.

        One sample has no ``error``.
        """
        n, total = len(values), max(float(variance.sum()), 0.0)
        freedom = degrees_of_freedom(variance)
        return cls(
            mean=float(values.mean()),
            error=float(values.std() / math.sqrt(n)) if n > 1 else math.nan,
            method=math.sqrt(total) / n * student_widening(freedom) * skew_widening(skewness),
            trusted=not total > 0 or (n > 1 and freedom >= FEWEST_DEGREES),
        )

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"
