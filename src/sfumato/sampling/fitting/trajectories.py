"""A model's own fine solution: starts from the prior, and where many evaluations end."""

import math
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Prediction, SeededNoise
from sfumato.denoisers import Condition, Denoiser, check_rows, condition_rows
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress

from ..loop import Watch, run
from ..methods import auto

FINE = 200  # evaluations of the fine solution: its own error is a small fraction of the error that fitting reaches


@dataclass(frozen=True, eq=False)
class Trajectories:
    """Starts from the prior and the ends of the model's fine solution, float64.

    Arguments:
        x: the starts (N, *).
        x_0: the ends (N, *).
        cond: the condition of each sample, or None.

    Raises:
        InputError: starts, ends and condition of different lengths.
    """

    x: Tensor
    x_0: Tensor
    cond: Condition | None = None

    def __post_init__(self) -> None:
        if self.x.shape != self.x_0.shape:
            raise InputError(
                f"trajectories: starts have shape {tuple(self.x.shape)} and ends {tuple(self.x_0.shape)}; "
                "give one end per start"
            )
        check_rows(self.cond, len(self.x))

    def rows(self, index: slice | Tensor) -> "Trajectories":
        """The trajectories that ``index`` selects."""
        return Trajectories(self.x[index], self.x_0[index], condition_rows(self.cond, index))


@dataclass(frozen=True)
class Errors:
    """Distances to the fine solution, root mean squares over coordinates.

    Arguments:
        rms: the root mean square over samples.
        median: the median over samples.
    """

    rms: float
    median: float

    @classmethod
    def between(cls, x: Float[Tensor, "b *s"], x_0: Float[Tensor, "b *s"]) -> "Errors":
        """The distances of ``x`` to ``x_0``."""
        return cls.of((x - x_0).flatten(1).double().pow(2).mean(1))

    @classmethod
    def of(cls, squares: Float[Tensor, "b"]) -> "Errors":
        """The errors of samples with these mean squares over coordinates."""
        return cls(float(squares.mean().sqrt()), float(squares.median().sqrt()))


def count_for(shape: tuple[int, ...]) -> int:
    """A sufficient number of trajectories for data of this shape, including those held out.

    The fewer numbers a sample has, the more trajectories are needed.
    """
    return max(192, min(3072, 2**16 // math.prod(shape)))


def trajectories(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: SupportsIndex | None = None,
    *,
    seed: SupportsIndex = 0,
    evaluations: SupportsIndex = FINE,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Trajectories:
    """Samples of the prior and where ``auto`` with many evaluations takes them: the model's fine solution.

    Sample i depends on (seed, i) alone.

    Arguments:
        denoiser: the denoiser to follow.
        shape: shape of one sample.
        count: number of trajectories; None for ``count_for(shape)``.
        seed: random seed.
        evaluations: evaluations of the fine solution.
        cond: the condition of each of the ``count`` samples, or None.
        batch: samples per evaluation.
        progress: called with the evaluations of samples.

    Raises:
        InputError: a count below 1, or a condition with another number of rows.
    """
    count = count_for(shape) if count is None else whole("count", count, 1)
    evaluations, batch = whole("evaluations", evaluations, 1), whole("batch", batch, 1)
    check_rows(cond, count)
    table = auto(denoiser.process, evaluations)
    device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    noise = SeededNoise.samples(random.derive(whole("seed", seed), "trajectories"), count)
    z = noise(0, torch.empty(count, *shape, dtype=torch.float64, device=device))
    x = denoiser.process.prior(table.start).variance.sqrt().to(device) * z
    cond = cond if cond is None or device.type == "cpu" else cond.to(device)
    starts, ends = Trajectories(x, x, cond), []
    with torch.no_grad():
        for first in range(0, count, batch):
            part = starts.rows(slice(first, first + batch))
            watch = None if progress is None else _counting(progress, first, len(part.x), count, evaluations)
            ends.append(run(denoiser, table, part.x, cond=part.cond, watch=watch))
    return Trajectories(x, torch.cat(ends), cond)


def _counting(progress: Progress, first: int, size: int, count: int, evaluations: int) -> Watch:
    def watch(number: int, t: Tensor, x: Tensor, prediction: Prediction) -> None:
        progress(first * evaluations + (number + 1) * size, count * evaluations)

    return watch
