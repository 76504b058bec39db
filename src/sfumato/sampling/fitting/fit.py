"""Levenberg-Marquardt on the numbers of a tableau.

A deterministic sampler of n evaluations is n levels and n (n + 3) / 2 + 1 coefficients (``parameters``), whatever order
or grid it was made from. Starting from a classical one, all of these numbers are moved to bring its ends to those of
the model's own fine solution (Bespoke Non-Stationary solvers, Shaul et al. 2024; also Watson et al. 2022). Every
trajectory gives one equation per dimension, so few trajectories are enough. Trajectories that are held out decide when
to stop, and whether the result is kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from torch import Tensor

from sfumato.core import Chain, Process
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .. import grids
from ..loop import run
from ..methods import auto
from ..multistep import adams
from ..tableau import Rows, Tableau, join
from .derivatives import gradient, sensitivities
from .parameters import Parametrisation
from .trajectories import Errors, Trajectories

ITERATIONS = 40
PATIENCE = 6  # iterations without a better held-out distance
TAIL = 0.7  # weight of the mean square in the objective, for samples that go astray; the rest is for the typical one
FIRST = -3.0  # log-SNR of the first evaluation before it is fitted: sigma / alpha = 4.5
FAR = 10.0  # classical medians: beyond, a sample ends elsewhere, and no small step brings it back
NEAR = 0.1  # of the classical median: distances below are near enough, and the objective turns to others
LEAST = 12  # trajectories, of which a third is held out
MOST = 32  # evaluations: the numbers grow with their square, and from there classical tables are good

_DIFFERENTIATED = 2**11  # numbers of x whose every derivative is taken in an iteration
_FEWEST = 16  # trajectories that curvature is taken from, however large a sample is
_CARRIED = 2**17  # numbers of x that are carried to the end at once


@dataclass(frozen=True)
class Fit:
    """A fitted table.

    Where fitting did not help, ``tableau`` is the classical one and the errors are equal.

    Arguments:
        tableau: the table to use.
        errors: its errors on the held-out trajectories.
        classical: those of the classical table with as many evaluations.
        iterations: iterations of the fit.
        kept: whether ``tableau`` was fitted.
    """

    tableau: Tableau
    errors: Errors
    classical: Errors
    iterations: int
    kept: bool


@dataclass(frozen=True)
class FitState:
    """Everything that a fit needs to go on, as plain numbers that can be written to a file."""

    iteration: int
    numbers: list[float]
    damping: float
    best: list[float]
    best_iteration: int
    best_objective: float


def check_budget(evaluations: SupportsIndex) -> int:
    """``evaluations``. Raises InputError for a number that no table can be fitted for."""
    evaluations = whole("evaluations", evaluations)
    if not 2 <= evaluations <= MOST:
        raise InputError(
            f"evaluations: {evaluations} is not a budget to fit a sampler for; give 2 to {MOST}, above which fixed "
            "tables are good"
        )
    return evaluations


def fit_tableau(
    denoiser: Denoiser,
    evaluations: SupportsIndex,
    paths: Trajectories,
    *,
    iterations: SupportsIndex = ITERATIONS,
    usual: Tableau | None = None,
    rival: Tableau | None = None,
    state: FitState | None = None,
    watch: Callable[[FitState, Errors], None] | None = None,
) -> Fit:
    """The table of ``evaluations`` evaluations fitted to the first two thirds of ``paths``.

    Minimises ``TAIL log(mean d^2) + (1 - TAIL) mean(log d^2)`` over the distances d of samples to their fine
    solution: the first term counts the few that go astray, the second the typical one. Distances far above the
    classical median saturate in the first, and far below in the second. The last third of ``paths`` is held out. The
    best iterate counts whose held-out RMS and worst distance are not above those of ``usual``. It is kept where its
    held-out objective is below that of ``usual``, and of ``rival``.

    Arguments:
        denoiser: the denoiser to fit to.
        evaluations: number of evaluations, 2 to 32.
        paths: at least 12 trajectories.
        iterations: iterations at most.
        usual: the classical table to beat; by default ``auto`` with as many evaluations.
        rival: a table fitted before; returned where it is better.
        state: the state that ``watch`` got last; the fit goes on from it to the same end.
        watch: called after each iteration with its state and held-out errors.

    Raises:
        InputError: a number of evaluations outside 2 to 32, or too few paths.
    """
    evaluations, iterations = check_budget(evaluations), whole("iterations", iterations, 0)
    if len(paths.x) < LEAST:
        raise InputError(f"paths: {len(paths.x)} are too few to fit to and to judge by; give at least {LEAST}")
    process, cut = denoiser.process, -(-2 * len(paths.x) // 3)
    training, held_out = paths.rows(slice(0, cut)), paths.rows(slice(cut, None))
    lowest = 1 / process.schedule.steps if isinstance(process.schedule, Chain) else 0.0  # where a chain was trained
    form = Parametrisation(_start(process, evaluations), lowest)
    usual = auto(process, evaluations) if usual is None else usual
    plain = _squares(denoiser, usual, held_out)
    classical = Errors.of(plain)
    if classical.median == 0:  # nothing is left to gain
        return Fit(usual, classical, classical, 0, kept=False)
    problem = _Problem(denoiser, form, training, held_out, _Objective.of(plain))
    state = _descend(problem, state or problem.initial(), iterations, watch)
    value = problem.objective.judge
    if rival is not None:
        former = _squares(denoiser, rival, held_out)
        if value(former) <= min(state.best_objective, value(plain)):
            return Fit(rival, Errors.of(former), classical, state.iteration, kept=True)
    if value(plain) <= state.best_objective:
        return Fit(usual, classical, classical, state.iteration, kept=False)
    fitted = form.table(torch.tensor(state.best, dtype=torch.float64))
    return Fit(fitted, Errors.of(_squares(denoiser, fitted, held_out)), classical, state.iteration, kept=True)


@dataclass(frozen=True)
class _Objective:
    """``TAIL log(mean b) + (1 - TAIL) mean(log(d^2 + floor))`` with ``b = d^2 / (1 + d^2 / ceiling)``."""

    floor: float
    ceiling: float
    mean: float  # squared distance of the classical table
    worst: float

    @classmethod
    def of(cls, classical: Tensor) -> "_Objective":
        """From the squared distances (N,) of the classical table."""
        median = float(classical.median())
        return cls(NEAR**2 * median, FAR**2 * median, float(classical.mean()), float(classical.max()))

    def judge(self, squares: Tensor) -> float:
        """The value on held-out trajectories; infinite where the mean or the worst is above the classical one's."""
        farther = bool(squares.mean() > self.mean or squares.max() > self.worst)
        return math.inf if farther else self.value(squares)

    def value(self, squares: Tensor) -> float:
        bounded = squares / (1 + squares / self.ceiling)
        value = TAIL * bounded.mean().log() + (1 - TAIL) * (squares + self.floor).log().mean()
        return float(value) if squares.isfinite().all() else math.inf

    def weights(self, squares: Tensor) -> Tensor:
        """The derivative with respect to each square."""
        bounded = squares / (1 + squares / self.ceiling)
        pull = TAIL * (1 + squares / self.ceiling) ** -2 / bounded.mean()
        return (pull + (1 - TAIL) / (squares + self.floor)) / len(squares)


@dataclass(frozen=True, eq=False)
class _Problem:
    """A table to fit, the trajectories to fit it to, and those to judge it by."""

    denoiser: Denoiser
    form: Parametrisation
    training: Trajectories
    held_out: Trajectories
    objective: _Objective

    def squares(self, vector: Tensor, paths: Trajectories) -> Tensor:
        try:
            return _squares(self.denoiser, self.form.table(vector), paths)
        except (FloatingPointError, InputError):  # a step too far: a table that overflows
            return paths.x.new_full((len(paths.x),), math.inf)

    def initial(self) -> FitState:
        numbers = self.form.initial.tolist()
        value = self.objective.judge(self.squares(self.form.initial, self.held_out))
        return FitState(0, numbers, 1e-3, numbers, 0, value)


def _descend(
    problem: _Problem, state: FitState, iterations: int, watch: Callable[[FitState, Errors], None] | None
) -> FitState:
    """Steps until none lowers the objective, the held-out one no longer falls, or the iterations are used up."""
    vector = torch.tensor(state.numbers, dtype=torch.float64)
    squares = problem.squares(vector, problem.training)
    while squares.isfinite().all() and state.iteration < iterations and not _stalled(state):
        moved = _step(problem, vector, squares, state)
        if moved is None:
            break
        vector, squares, damping = moved
        held_out = problem.squares(vector, problem.held_out)
        value, now, numbers = problem.objective.judge(held_out), state.iteration + 1, vector.tolist()
        if value < state.best_objective - 1e-3:
            state = FitState(now, numbers, damping, numbers, now, value)
        else:
            state = replace(state, iteration=now, numbers=numbers, damping=damping)
        if watch is not None:
            watch(state, Errors.of(held_out))
    return state


def _stalled(state: FitState) -> bool:
    """Whether the held-out objective no longer falls; not before an iterate has passed its judgement."""
    return math.isfinite(state.best_objective) and state.iteration - state.best_iteration > PATIENCE


def _start(process: Process, evaluations: int) -> Tableau:
    """Where the fit begins: Adams-Bashforth of order 2, whose first evaluation is where samples begin to differ.

    At the noisiest level of most processes x_0-hat is the same for all samples, and an evaluation is wasted. A row that
    evaluates nothing brings the start to the scale of the first level.
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
    """Mean squares (N,) over coordinates between the ends of ``table`` and the fine ones."""
    size = max(1, _CARRIED // paths.x[0].numel())
    squares = []
    with torch.no_grad():
        for first in range(0, len(paths.x), size):
            part = paths.rows(slice(first, first + size))
            end = run(denoiser, table, part.x, cond=part.cond)
            squares.append((end - part.x_0).flatten(1).pow(2).mean(1))
    return torch.cat(squares)


def _slope(denoiser: Denoiser, form: Parametrisation, vector: Tensor, paths: Trajectories, weights: Tensor) -> Tensor:
    """J^T W r of the weighted residuals of all trajectories."""
    size = max(1, _CARRIED // paths.x[0].numel())
    slope = torch.zeros_like(vector)
    for first in range(0, len(paths.x), size):
        part = paths.rows(slice(first, first + size))
        slope += gradient(denoiser, form, vector, part.x, part.x_0, weights[first : first + size], part.cond).cpu()
    return slope


def _curvature(
    denoiser: Denoiser, form: Parametrisation, vector: Tensor, paths: Trajectories, weights: Tensor, turn: int
) -> Tensor:
    """J^T W J from some of the trajectories, others at every ``turn``: curvature needs fewer of them than slope."""
    P, N, D = len(vector), len(paths.x), paths.x[0].numel()
    # Fewer where a table has more numbers and where a sample says more: at 8 x 8 pixels 120 for n = 8, 40 for n = 20.
    fair = 1700 * min(1.0, 8 / math.sqrt(D)) / math.sqrt(sum(len(form.dependencies(r)) for r in range(form.n)))
    size = min(N, max(_FEWEST, round(fair), _DIFFERENTIATED // D))
    taken = (turn * size + torch.arange(size)) % N
    part = paths.rows(taken)
    with torch.no_grad():
        jacobian = sensitivities(denoiser, form, vector, part.x, part.cond)[1].reshape(P, size, D)
    weighted = jacobian * (weights[taken.to(weights.device)] * (N / size) / D)[:, None]
    return (weighted.reshape(P, -1) @ jacobian.reshape(P, -1).mT).cpu()


def _step(problem: _Problem, vector: Tensor, squares: Tensor, state: FitState) -> tuple[Tensor, Tensor, float] | None:
    """A Levenberg-Marquardt step that lowers the objective, its distances, and the next damping; None if none does."""
    form, training, value = problem.form, problem.training, problem.objective.value
    weights, before, damping = problem.objective.weights(squares), value(squares), state.damping
    curvature = _curvature(problem.denoiser, form, vector, training, weights, state.iteration)
    slope = _slope(problem.denoiser, form, vector, training, weights)
    diagonal = curvature.diagonal().clamp(min=1e-12 * float(curvature.diagonal().max()))
    for _ in range(12):
        moved = vector - torch.linalg.solve(curvature + (damping * diagonal).diag(), slope)
        found = problem.squares(moved, training)
        if value(found) < before:
            return moved, found, max(damping / 5, 1e-10)
        damping *= 4
    return None
