"""Fit a tableau to a model: levels and coefficients chosen so that few evaluations end where many would.

A deterministic sampler of n evaluations is n levels and n (n + 3) / 2 + 1 coefficients (``unrolled``), whatever order
or grid it was made from. Starting from a classical one, all of these numbers are moved to bring its ends to those of
the model's own fine solution (Bespoke Non-Stationary solvers, Shaul et al. 2024; also Watson et al. 2022). Every
trajectory gives an equation a dimension, so that few trajectories do, and the method for such problems is Levenberg's
and Marquardt's. Trajectories that are held out decide when to stop, and whether the result is kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Chain, Process, SeededNoise
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.numerics import random

from . import grids
from .methods import auto
from .multistep import adams
from .tableau import Rows, Tableau, join, run
from .unrolled import Unrolled, gradient, sensitivities

FINE = 200  # evaluations of the fine solution: its own error is a small part of what fitting reaches
ITERATIONS = 40
PATIENCE = 6  # iterations without a better held-out distance
TAIL = 0.7  # weight of the mean square in the objective, for samples that go astray; the rest is for the typical one
FIRST = -3.0  # log-SNR of the first evaluation before it is fitted: sigma / alpha = 4.5
FAR = 10.0  # classical medians: beyond, a sample ends elsewhere, and no small step brings it back
NEAR = 0.1  # of the classical median: distances below are near enough, and the objective turns to others
LEAST = 12  # trajectories, of which a third is held out
MOST = 32  # evaluations: the numbers grow with their square, and from there classical tables are good

_DIFFERENTIATED = 2**11  # numbers of x whose every derivative is taken at an iteration
_FEWEST = 16  # trajectories that curvature is taken from, however large a sample is
_CARRIED = 2**17  # numbers of x that are carried to the end at once


@dataclass(frozen=True)
class Trajectories:
    """Starts ``x`` from the prior and ends ``x_0`` of the model's fine solution, both (N, *), float64.

    ``cond`` is what the denoiser is told: a tensor of one row a sample, or anything else for all of them.
    """

    x: Tensor
    x_0: Tensor
    cond: Any = None

    def part(self, first: int, last: int) -> "Trajectories":
        """Samples number first .. last - 1."""
        return self.pick(slice(first, last))

    def pick(self, which: slice | Tensor) -> "Trajectories":
        """Samples of these numbers."""
        cond = self.cond
        if isinstance(cond, Tensor) and cond.ndim and len(cond) == len(self.x):
            cond = cond[which]
        return Trajectories(self.x[which], self.x_0[which], cond)


@dataclass(frozen=True)
class Errors:
    """Distances to the fine solution, root mean squares over coordinates: of all samples, and of the median one."""

    rms: float
    median: float

    @classmethod
    def between(cls, x: Float[Tensor, "b *s"], x_0: Float[Tensor, "b *s"]) -> "Errors":
        """The distances of ``x`` to ``x_0``."""
        return cls.of((x - x_0).flatten(1).double().pow(2).mean(1))

    @classmethod
    def of(cls, squares: Float[Tensor, "b"]) -> "Errors":
        """From the mean squares over coordinates of each sample."""
        return cls(float(squares.mean().sqrt()), float(squares.median().sqrt()))


@dataclass(frozen=True)
class Fit:
    """A fitted table, its errors on the held-out trajectories, and those of the classical table at that budget.

    Where fitting did not help, ``tableau`` is the classical one and the errors are equal.
    """

    tableau: Tableau
    errors: Errors
    classical: Errors
    iterations: int
    kept: bool


@dataclass(frozen=True)
class Progress:
    """Where a fit stands: all that it needs to go on. Plain numbers, so that it can be written down."""

    iteration: int
    numbers: list[float]
    damping: float
    best: list[float]
    best_iteration: int
    best_objective: float


def numbers_of(evaluations: int) -> int:
    """How many numbers a table of so many evaluations has."""
    return evaluations * (evaluations + 5) // 2 + 2


def check_budget(evaluations: int) -> None:
    """Raise InputError for a number of evaluations that no table can be fitted for."""
    if not 2 <= evaluations <= MOST:
        raise InputError(
            f"evaluations: {evaluations} is not a budget to fit a sampler for; give 2 to {MOST}, above which fixed "
            "tables are good"
        )


def count_for(shape: tuple[int, ...]) -> int:
    """How many trajectories are enough for data of this shape, held-out ones included: more where each says less."""
    return max(192, min(3072, 2**16 // math.prod(shape)))


def trajectories(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: int | None = None,
    *,
    seed: int = 0,
    evaluations: int = FINE,
    cond: Any = None,
    batch: int = 256,
    watch: Callable[[int, int], None] | None = None,
) -> Trajectories:
    """``count`` samples of the prior and where ``auto`` with many ``evaluations`` takes them: the model's fine
    solution.

    Sample i depends on (seed, i) alone. ``watch(done, total)`` counts evaluations. Raises InputError for a count
    below 1.
    """
    count = count_for(shape) if count is None else count
    if count < 1:
        raise InputError(f"count: {count} is not a number of trajectories; give at least 1")
    table = auto(denoiser.process, evaluations)
    device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    noise = SeededNoise.samples(random.derive(seed, "trajectories"), count)
    z = noise(0, torch.empty(count, *shape, dtype=torch.float64, device=device))
    x = denoiser.process.prior(table.start).variance.sqrt().to(device) * z
    whole, ends = Trajectories(x, x, cond), []
    with torch.no_grad():
        for first in range(0, count, batch):
            part = whole.part(first, first + batch)

            def on_row(row: int, t: Tensor, x: Tensor, prediction: Any, first: int = first) -> None:
                if watch is not None:
                    watch(first * evaluations + (row + 1) * min(batch, count - first), count * evaluations)

            ends.append(run(denoiser, table, part.x, cond=part.cond, watch=on_row))
    return Trajectories(x, torch.cat(ends), cond)


def fit_tableau(
    denoiser: Denoiser,
    evaluations: int,
    paths: Trajectories,
    *,
    iterations: int = ITERATIONS,
    rival: Tableau | None = None,
    progress: Progress | None = None,
    watch: Callable[[Progress, Errors], None] | None = None,
) -> Fit:
    """The table of ``evaluations`` evaluations fitted to ``paths``, of which the last third is held out.

    Minimises ``TAIL log(mean d^2) + (1 - TAIL) mean(log d^2)`` over the distances d of samples to their fine
    solution: the first cares for the few that go astray, the second for the typical one. Distances far above the
    classical median saturate in the first, and far below in the second. Kept where the held-out objective is below
    that of ``auto`` at the same budget, and of a ``rival`` fitted before, which else is handed back. ``watch`` sees
    every iteration; the ``Progress`` it was last given, handed in again, goes on to the same end. Raises InputError
    for a budget below 2 or above 32, and for fewer than 12 paths.
    """
    check_budget(evaluations)
    if len(paths.x) < LEAST:
        raise InputError(f"paths: {len(paths.x)} are too few to fit to and to judge by; give at least {LEAST}")
    process, cut = denoiser.process, -(-2 * len(paths.x) // 3)
    training, held_out = paths.part(0, cut), paths.part(cut, len(paths.x))
    lowest = 1 / process.schedule.steps if isinstance(process.schedule, Chain) else 0.0  # where a chain was trained
    form = Unrolled(_start(process, evaluations), lowest)
    usual = auto(process, evaluations)
    plain = _squares(denoiser, usual, held_out)
    classical = Errors.of(plain)
    if classical.median == 0:  # nothing is left to gain
        return Fit(usual, classical, classical, 0, kept=False)
    floor, ceiling = NEAR**2 * float(plain.median()), FAR**2 * float(plain.median())

    def objective(squares: Tensor) -> float:
        bounded = squares / (1 + squares / ceiling)
        value = TAIL * bounded.mean().log() + (1 - TAIL) * (squares + floor).log().mean()
        return float(value) if squares.isfinite().all() else math.inf

    def distances(vector: Tensor, part: Trajectories) -> Tensor:
        try:
            return _squares(denoiser, form.table(vector), part)
        except (FloatingPointError, InputError):  # a step too far: a table that overflows
            return part.x.new_full((len(part.x),), math.inf)

    if progress is None:
        begin = form.begin.tolist()
        progress = Progress(0, begin, 1e-3, begin, 0, objective(distances(form.begin, held_out)))
    vector = torch.tensor(progress.numbers, dtype=torch.float64)
    squares = distances(vector, training)
    while (
        squares.isfinite().all()
        and progress.iteration < iterations
        and progress.iteration - progress.best_iteration <= PATIENCE
    ):
        bounded = squares / (1 + squares / ceiling)
        pull = TAIL * (1 + squares / ceiling) ** -2 / bounded.mean()
        weights = (pull + (1 - TAIL) / (squares + floor)) / len(squares)
        curvature = _curvature(denoiser, form, vector, training, weights, progress.iteration)
        slope = _slope(denoiser, form, vector, training, weights)
        moved = _step(
            vector, curvature, slope, progress.damping, objective(squares), lambda v: distances(v, training), objective
        )
        if moved is None:
            break
        vector, squares, damping = moved
        held = distances(vector, held_out)
        value, now = objective(held), progress.iteration + 1
        better = value < progress.best_objective - 1e-3
        progress = Progress(
            now,
            vector.tolist(),
            damping,
            vector.tolist() if better else progress.best,
            now if better else progress.best_iteration,
            value if better else progress.best_objective,
        )
        if watch is not None:
            watch(progress, Errors.of(held))
    if rival is not None:
        former = _squares(denoiser, rival, held_out)
        if objective(former) <= min(progress.best_objective, objective(plain)):
            return Fit(rival, Errors.of(former), classical, progress.iteration, kept=True)
    if objective(plain) <= progress.best_objective:
        return Fit(usual, classical, classical, progress.iteration, kept=False)
    fitted = form.table(torch.tensor(progress.best, dtype=torch.float64))
    return Fit(fitted, Errors.of(_squares(denoiser, fitted, held_out)), classical, progress.iteration, kept=True)


def _start(process: Process, evaluations: int) -> Tableau:
    """Where the fit begins: Adams-Bashforth of order 2, whose first evaluation is where samples begin to differ.

    At the noisiest level of most processes x_0-hat is the same for all samples, and an evaluation tells nothing of
    them. A row that evaluates nothing brings the start to the scale of the first level.
    """
    top, highest = grids.noisiest_logsnr(process), grids.finest_logsnr(process)
    data = min(-2 * math.log(0.25 / evaluations), highest)
    first = max(top, FIRST)
    if data <= first:  # a process that hardly makes noise, or all of it finer than this
        first, data = top, highest if math.isfinite(highest) else top + 1.0
    table = adams(process, grids.angle(process, evaluations, noise=first, data=data), corrector=False)
    start = float(process.schedule.time(torch.tensor(top, dtype=torch.float64)).clamp(max=1))
    scale = Rows()
    scale.add(None, {0: (process.prior(table.start).variance / process.prior(start).variance).sqrt()})
    return replace(join((scale.table("scale"), table), table.name), start=start)


def _squares(denoiser: Denoiser, table: Tableau, paths: Trajectories) -> Tensor:
    """Mean squares over coordinates between the ends of ``table`` and the fine ones, (N,)."""
    size = max(1, _CARRIED // paths.x[0].numel())
    squares = []
    with torch.no_grad():
        for first in range(0, len(paths.x), size):
            part = paths.part(first, first + size)
            end = run(denoiser, table, part.x, cond=part.cond)
            squares.append((end - part.x_0).flatten(1).pow(2).mean(1))
    return torch.cat(squares)


def _slope(denoiser: Denoiser, form: Unrolled, vector: Tensor, paths: Trajectories, weights: Tensor) -> Tensor:
    """J^T W r of the weighted residuals of all trajectories."""
    size = max(1, _CARRIED // paths.x[0].numel())
    slope = torch.zeros_like(vector)
    for first in range(0, len(paths.x), size):
        part = paths.part(first, first + size)
        slope += gradient(denoiser, form, vector, part.x, part.x_0, weights[first : first + size], part.cond).cpu()
    return slope


def _curvature(
    denoiser: Denoiser,
    form: Unrolled,
    vector: Tensor,
    paths: Trajectories,
    weights: Tensor,
    turn: int,
) -> Tensor:
    """J^T W J, as some of the trajectories tell it, others at every turn: curvature needs fewer of them than slope."""
    P, N, D = len(vector), len(paths.x), paths.x[0].numel()
    # Fewer where a table has more numbers and where a sample says more: at 8 x 8 pixels 120 for n = 8, 40 for n = 20.
    fair = 1700 * min(1.0, 8 / math.sqrt(D)) / math.sqrt(sum(len(form.known(r)) for r in range(form.n)))
    size = min(N, max(_FEWEST, round(fair), _DIFFERENTIATED // D))
    taken = (turn * size + torch.arange(size)) % N
    part = paths.pick(taken)
    with torch.no_grad():
        jacobian = sensitivities(denoiser, form, vector, part.x, part.cond)[1].reshape(P, size, D)
    weighted = jacobian * (weights[taken.to(weights.device)] * (N / size) / D)[:, None]
    return (weighted.reshape(P, -1) @ jacobian.reshape(P, -1).mT).cpu()


def _step(
    vector: Tensor,
    curvature: Tensor,
    slope: Tensor,
    damping: float,
    value: float,
    distances: Callable[[Tensor], Tensor],
    objective: Callable[[Tensor], float],
) -> tuple[Tensor, Tensor, float] | None:
    """A Levenberg-Marquardt step that lowers the objective, its distances, and the next damping; None if none does."""
    diagonal = curvature.diagonal().clamp(min=1e-12 * float(curvature.diagonal().max()))
    for _ in range(12):
        moved = vector - torch.linalg.solve(curvature + (damping * diagonal).diag(), slope)
        squares = distances(moved)
        if objective(squares) < value:
            return moved, squares, max(damping / 5, 1e-10)
        damping *= 4
    return None
