"""How far samples are from data, beside how far two true sets of these sizes are from each other.

    SW_2^2(a, b) = E_theta W_2^2(theta . a, theta . b),    theta uniform on the unit sphere         Bonneel et al. 2015

W_2 of two sets of numbers is that of their quantile functions, ``(integral_0^1 |F_a^-1(q) - F_b^-1(q)|^2 dq)^(1/2)``,
here exact for any two sizes. Directions come in orthonormal frames, D of them at a time: the squares of a shift's parts
along a frame add up to its length, so a shift by d has SW_2 = |d| / sqrt(D) for any number of whole frames.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from sfumato.data.order import generator

DIRECTIONS = 256  # at least; whole frames of them, where a frame has not more
GROUPS = 8  # that the samples are parted into for the error of their distance


def directions(dimensions: int, seed: int, count: int = DIRECTIONS) -> Float64[Tensor, "k d"]:
    """Unit vectors in random orthonormal frames: ``count`` rounded up to whole ones, or ``count`` of one frame."""
    random = generator(seed, "directions")
    columns = min(dimensions, count)
    frames = -(-count // columns)
    # Uniform but for signs, which do not matter to a distance.
    q, _ = torch.linalg.qr(torch.randn(frames, dimensions, columns, generator=random, dtype=torch.float64))
    vectors: Tensor = q.mT.reshape(frames * columns, dimensions)
    return vectors


def wasserstein(a: Float64[Tensor, "*k n"], b: Float64[Tensor, "*k m"]) -> Float64[Tensor, "*k"]:
    """The square of W_2 between sets of numbers, each in rising order along the last axis."""
    n, m = a.shape[-1], b.shape[-1]
    if n == m:
        return (a - b).square().mean(-1)
    # Both quantile functions are constant between the steps i / n and j / m. In units of 1 / (n m) they are integers.
    steps = torch.tensor(sorted({*range(0, n * m, m), *range(0, n * m, n)}))
    width = torch.diff(steps, append=torch.tensor([n * m])).double() / (n * m)
    return ((a[..., steps // m] - b[..., steps // n]).square() * width).sum(-1)


def sliced_wasserstein(
    x: Float[Tensor, "n *s"], y: Float[Tensor, "m *s"], seed: int = 0, count: int = DIRECTIONS
) -> float:
    """SW_2 of two sets, over ``directions`` of this seed."""
    along = directions(x[0].numel(), seed, count)
    return _distance(_projected(x, along), _projected(y, along))


@dataclass(frozen=True)
class Fidelity:
    """SW_2 of ``count`` samples to data, and ``ratio``, how many times the ``floor`` that is.

    The floor is the mean of such distances for true sets in the samples' place. Errors are standard errors, for
    samples and true sets drawn anew; the data compared with stays as it is.
    """

    count: int
    distance: float
    distance_error: float
    floor: float
    floor_error: float

    @property
    def ratio(self) -> float:
        """1 for samples as good as true ones; nan for data that is all the same, which has no floor."""
        return self.distance / self.floor if self.floor else math.nan

    @property
    def ratio_error(self) -> float:
        """From the errors of distance and floor."""
        return math.hypot(self.distance_error, self.ratio * self.floor_error) / self.floor if self.floor else math.nan


class Ruler:
    """Measures sets of samples against ``data``, with a floor from true sets of their size.

    Pair k, of two or more, is one set of ``data`` and one of ``true`` samples that are not in it. ``count`` is the size
    of a true set, and of the samples that the floor is right for.
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
        """The mean distance to the sets of data, its error by leaving out one of eight groups of samples at a time.

        This, the jackknife, finds 1.2 to 1.5 times the true error where samples are as good as true ones.
        """
        groups = min(GROUPS, len(samples))
        left = [self._mean(samples[torch.arange(len(samples)) % groups != k]) for k in range(groups)]
        spread = torch.tensor(left, dtype=torch.float64).var(correction=0)
        return Fidelity(
            count=len(samples),
            distance=self._mean(samples),
            distance_error=math.sqrt((groups - 1) * float(spread)),
            floor=self._floor,
            floor_error=self._floor_error,
        )

    def _mean(self, samples: Tensor) -> float:
        projected = _projected(samples, self._along)
        return sum(_distance(projected, data) for data in self._data) / len(self._data)


def _projected(x: Tensor, along: Tensor) -> Tensor:
    """(k, n): in rising order along each direction."""
    return (along @ x.flatten(1).double().cpu().mT).sort(-1).values


def _distance(a: Tensor, b: Tensor) -> float:
    return math.sqrt(float(wasserstein(a, b).mean()))
