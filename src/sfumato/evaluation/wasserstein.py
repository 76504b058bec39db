"""The distance of samples from data, and the distance of two true sets of these sizes from each other.

    SW_2^2(a, b) = E_theta W_2^2(theta . a, theta . b),    theta uniform on the unit sphere         Bonneel et al. 2015

W_2 of two sets of numbers is that of their quantile functions, ``(integral_0^1 |F_a^-1(q) - F_b^-1(q)|^2 dq)^(1/2)``,
computed exactly for any two sizes. Directions come in orthonormal frames of D each. The squares of a shift's components
along a frame add up to its squared length, so a shift by d has SW_2 = |d| / sqrt(D) for any number of whole frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sfumato.data.order import generator
from sfumato.numerics.integers import whole

DIRECTIONS = 256  # at least; rounded up to whole frames where a frame has fewer
GROUPS = 8  # of samples, for the error of their distance


def directions(dimensions: int, seed: SupportsIndex, count: SupportsIndex = DIRECTIONS) -> Float64[Tensor, "k d"]:
    """Unit vectors in random orthonormal frames: ``count``, rounded up to whole frames of ``dimensions`` vectors."""
    count, random = whole("count", count, 1), generator(whole("seed", seed), "directions")
    columns = min(dimensions, count)
    frames = -(-count // columns)
    # Uniform except for signs, which a distance ignores.
    q, _ = torch.linalg.qr(torch.randn(frames, dimensions, columns, generator=random, dtype=torch.float64))
    vectors: Tensor = q.mT.reshape(frames * columns, dimensions)
    return vectors


def wasserstein(a: Float64[Tensor, "*k n"], b: Float64[Tensor, "*k m"]) -> Float64[Tensor, "*k"]:
    """The square of W_2 between sets of numbers, which are sorted along the last axis."""
    n, m = a.shape[-1], b.shape[-1]
    if n == m:
        return (a - b).square().mean(-1)
    # Both quantile functions are constant between the steps i / n and j / m. In units of 1 / (n m) they are integers.
    steps = torch.tensor(sorted({*range(0, n * m, m), *range(0, n * m, n)}))
    width = torch.diff(steps, append=torch.tensor([n * m])).double() / (n * m)
    return ((a[..., steps // m] - b[..., steps // n]).square() * width).sum(-1)


def sliced_wasserstein(
    x: Float[Tensor, "n *s"], y: Float[Tensor, "m *s"], seed: SupportsIndex = 0, count: SupportsIndex = DIRECTIONS
) -> float:
    """SW_2 of two sets of samples, over the ``directions`` of this seed."""
    along = directions(x[0].numel(), seed, count)
    return _distance(_projected(x, along), _projected(y, along))


@dataclass(frozen=True)
class Fidelity:
    """The distance of samples from data, and the same distance for true samples.

    Errors are standard errors over new draws of samples and true sets; the data that they are compared with is fixed.

    Arguments:
        count: number of samples.
        distance: their SW_2 to the data.
        distance_error: its standard error.
        floor: the mean SW_2 of true sets of the same size.
        floor_error: its standard error.
    """

    count: int
    distance: float
    distance_error: float
    floor: float
    floor_error: float

    @property
    def ratio(self) -> float:
        """``distance / floor``: 1 for samples as good as true ones; nan for constant data, which has no floor."""
        return self.distance / self.floor if self.floor else math.nan

    @property
    def ratio_error(self) -> float:
        """The standard error of ``ratio``."""
        return math.hypot(self.distance_error, self.ratio * self.floor_error) / self.floor if self.floor else math.nan


class Ruler:
    """Measures sets of samples against data, with a floor from true sets of the same size.

    Its ``count`` is the size of a true set: the floor is right for as many samples.

    Arguments:
        data: two or more sets of data (N, *).
        true: as many sets of true samples; set k has none of the samples of ``data[k]``.
        seed: random seed of the directions.
    """

    def __init__(self, data: Sequence[Tensor], true: Sequence[Tensor], seed: int) -> None:
        self._along = directions(data[0][0].numel(), seed)
        self._data = [_projected(x, self._along) for x in data]
        floors = torch.tensor(
            [_distance(_projected(x, self._along), y) for x, y in zip(true, self._data, strict=True)],
            dtype=torch.float64,
        )
        self.count = len(true[0])
        self._floor, self._floor_error = float(floors.mean()), float(floors.std()) / math.sqrt(len(floors))

    def measure(self, samples: Float[Tensor, "n *s"]) -> Fidelity:
        """The mean distance of ``samples`` to the sets of data.

        Its error is a jackknife over eight groups of samples, which gives 1.2 to 1.5 times the true error where samples
        are as good as true ones; it is nan for a single sample.
        """
        return Fidelity(
            count=len(samples),
            distance=self._mean(samples),
            distance_error=self._error(samples) if len(samples) > 1 else math.nan,
            floor=self._floor,
            floor_error=self._floor_error,
        )

    def _error(self, samples: Tensor) -> float:
        groups = min(GROUPS, len(samples))
        left = [self._mean(samples[torch.arange(len(samples)) % groups != k]) for k in range(groups)]
        spread = torch.tensor(left, dtype=torch.float64).var(correction=0)
        return math.sqrt((groups - 1) * float(spread))

    def _mean(self, samples: Tensor) -> float:
        projected = _projected(samples, self._along)
        return sum(_distance(projected, data) for data in self._data) / len(self._data)


def _projected(x: Tensor, along: Tensor) -> Tensor:
    """The samples along each direction, sorted, (k, n)."""
    return (along @ x.flatten(1).double().cpu().mT).sort(-1).values


def _distance(a: Tensor, b: Tensor) -> float:
    return math.sqrt(float(wasserstein(a, b).mean()))
