"""What a number of evaluations buys: the error of every method, against exact answers or a model's own fine solution.

Deterministic methods solve the probability-flow ODE, so each sample has a right end: the distance to it is measured
sample by sample, from the same starts. Methods that add noise end elsewhere and are right when their samples have the
right distribution: for them the distance between two sets of samples is measured, beside the distance that two sets
of exact samples of that size have. The two kinds of number do not compare.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    Logistic,
    Process,
    SeededNoise,
    Straight,
    Tabulated,
    geometric,
    linear_betas,
)
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.numerics import random

from .fitting import Errors, Trajectories, trajectories
from .methods import METHODS, auto, tableau
from .tableau import Tableau, run

BUDGETS = (5, 8, 10, 15, 20, 50, 100)
FINE = 1000
"""Evaluations of the solution that others are measured against."""
MOST = FINE // 4
"""The largest budget: nearer to ``FINE``, an error would be as much the fine solution's own."""

_BATCH = 256
_DIRECTIONS = 128


@dataclass(frozen=True)
class Entry:
    """One method at one budget.

    ``evaluations`` it really took, from the log-SNR ``start``. A deterministic method has ``errors``, distances to the
    ends of the fine solution from the same starts. A stochastic one has ``distance``, the sliced 2-Wasserstein distance
    to fine samples that began elsewhere, and ``floor``, the distance to them of as many fine samples. A method that
    cannot run at the budget has a ``reason`` and nothing else.
    """

    method: str
    budget: int
    evaluations: int = 0
    start: float | None = None
    errors: Errors | None = None
    distance: float | None = None
    floor: float | None = None
    reason: str | None = None


def reference(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: int,
    *,
    seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> tuple[Trajectories, Errors]:
    """``count`` fine trajectories, and how far ``FINE / 2`` evaluations end from them: a bound of their own error.

    Their starts are none that a table was fitted to, whatever the ``seed``. ``watch(done, total)`` counts evaluations.
    Raises InputError for a count below 4.
    """
    if count < 4:
        raise InputError(f"samples: {count} cannot be halved and compared; give at least 4")
    half, seed = FINE // 2, random.derive(seed, "certify")
    total = count * (FINE + half)

    def counting(already: int) -> Callable[[int, int], None] | None:
        return None if watch is None else lambda done, _: watch(already + done, total)

    fine = trajectories(denoiser, shape, count, seed=seed, evaluations=FINE, batch=_BATCH, watch=counting(0))
    coarse = trajectories(
        denoiser, shape, count, seed=seed, evaluations=half, batch=_BATCH, watch=counting(count * FINE)
    )
    return fine, Errors.between(coarse.x_0, fine.x_0)


def certify(
    denoiser: Denoiser,
    paths: Trajectories,
    *,
    methods: Sequence[str] = ("auto", *METHODS),
    budgets: Sequence[int] = BUDGETS,
    extra: Mapping[str, Mapping[int, Tableau]] | None = None,
    seed: int = 0,
    watch: Callable[[int, int], None] | None = None,
) -> list[Entry]:
    """An entry a method and budget, in the order of ``extra``, ``methods`` and ``budgets``, measured on fine ``paths``.

    ``extra`` are tables by name and budget, such as those fitted to the model. ``paths`` start where ``auto`` does; a
    method that starts at another level gets the same noise at that level's scale, and pays for the difference.
    Deterministic methods run from all starts; stochastic ones, whose noise ``seed`` decides, from the first half of
    them, to be compared with the second. ``watch(done, total)`` counts evaluations. Raises InputError for an unknown
    method and for a budget outside 1 to ``MOST``; a method that refuses a budget or overflows is an entry with its
    reason.
    """
    unknown = [name for name in methods if name != "auto" and name not in METHODS]
    if unknown:
        raise InputError(f"methods: '{unknown[0]}' is not known; choose from auto, {', '.join(METHODS)}")
    for budget in budgets:
        if not 1 <= budget <= MOST:
            raise InputError(f"budgets: {budget} evaluations cannot be certified; give 1 to {MOST}")
    if len(paths.x) < 4:
        raise InputError(f"paths: {len(paths.x)} trajectories cannot be halved and compared; give at least 4")
    half = len(paths.x) // 2
    starts, others = paths.part(0, half), paths.part(half, 2 * half)
    floor = sliced_distance(starts.x_0, others.x_0)
    jobs = [(name, budget, _fitted(tables, budget)) for name, tables in (extra or {}).items() for budget in budgets]
    jobs += [(name, budget, _classical(denoiser.process, name, budget)) for name in methods for budget in budgets]
    total = sum(
        len(_part(name, paths, starts).x) * table.evaluations for name, _, table in jobs if isinstance(table, Tableau)
    )
    entries, done = [], 0
    for name, budget, table in jobs:
        if isinstance(table, str):
            entries.append(Entry(name, budget, reason=table))
            continue
        part = _part(name, paths, starts)

        def count(evaluations: int, already: int = done) -> None:
            if watch is not None:
                watch(already + evaluations, total)

        start = float(denoiser.process.level(table.start).logsnr)
        done += len(part.x) * table.evaluations
        try:
            ends = _ends(denoiser, table, part, random.derive(seed, "certify", "noise"), count)
        except FloatingPointError as error:
            entries.append(Entry(name, budget, table.evaluations, start, reason=str(error)))
            continue
        if _stochastic(name):
            distance = sliced_distance(ends, others.x_0)
            entries.append(Entry(name, budget, table.evaluations, start, distance=distance, floor=floor))
        else:
            errors = Errors.between(ends, part.x_0)
            entries.append(Entry(name, budget, table.evaluations, start, errors=errors))
    return entries


def sliced_distance(x: Float[Tensor, "b *s"], y: Float[Tensor, "b *s"]) -> float:
    """The sliced 2-Wasserstein distance of two sets of one size: a root mean square over coordinates, as ``Errors``
    are.

    Along a direction, sorted samples are matched in order, which is optimal (Rabin et al. 2011). Mean squares are
    averaged over 128 directions, the same for all sets; along unit directions they are those of a coordinate.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    keys = random.keys(0, torch.arange(_DIRECTIONS))
    u = random.normal(keys, 0, x.shape[1], torch.float64).to(x.device)
    u = u / u.norm(dim=1, keepdim=True)
    return float(((x @ u.mT).sort(0).values - (y @ u.mT).sort(0).values).pow(2).mean().sqrt())


def measured_order(name: str) -> float | None:
    """The order of convergence of a method of ``METHODS`` as measured; None for one that adds noise, and for ``auto``.

    The least-squares slope of log error against log step, over a decade of steps on the probability flow of a
    Gaussian, whose ends are known: with variance v and mean m, (x_t - alpha m) / sqrt(alpha^2 v + sigma^2) is
    conserved. The grid ends above data, and its first steps are small, so that the lower order of a multistep
    method's start does not show.
    """
    if name not in METHODS or METHODS[name].order is None:
        return None
    process = Process(VP(), Cosine())
    variances = torch.tensor([0.4, 1.0, 2.0], dtype=torch.float64)
    mean = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    denoiser = ExactDenoiser(process, GaussianMixture.gaussian(mean, variances.diag()))
    z = random.normal(random.keys(0, torch.arange(16)), 0, 3, torch.float64)
    coarsest = 10 + 10 * (METHODS[name].order or 0)  # a higher order shows later
    points = []
    for steps in (coarsest, round(coarsest * math.sqrt(10)), 10 * coarsest):
        share = torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** 2
        times = process.schedule.time(-5 + 5 * share)
        first, last = (
            level.alpha * mean + torch.sqrt(level.alpha**2 * variances + level.sigma**2) * z
            for level in (process.level(times[0]), process.level(times[-1]))
        )
        error = (run(denoiser, METHODS[name].table(process, times), first) - last).pow(2).mean().sqrt()
        points.append((math.log(steps), math.log(float(error))))
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True))
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).pow(2).sum())


def _fitted(tables: Mapping[int, Tableau], budget: int) -> Tableau | str:
    return tables.get(budget, f"no table for {budget} evaluations")


def _classical(process: Process, name: str, budget: int) -> Tableau | str:
    try:
        return tableau(process, name, budget)
    except InputError as error:
        return str(error)


def _stochastic(name: str) -> bool:
    return name in METHODS and METHODS[name].order is None


def _ends(
    denoiser: Denoiser, table: Tableau, paths: Trajectories, seed: int, count: Callable[[int], None]
) -> Float[Tensor, "b *s"]:
    """Where ``table`` takes the starts of ``paths``, at the scale of the level that it starts at."""
    process = denoiser.process
    own, theirs = (process.prior(start).variance.sqrt() for start in (table.start, auto(process, 1).start))
    scale = float(own / theirs)
    ends = []
    with torch.no_grad():
        for first in range(0, len(paths.x), _BATCH):
            part = paths.part(first, first + _BATCH)
            noise = SeededNoise.samples(seed, len(part.x), first) if table.stochastic else None
            ends.append(run(denoiser, table, part.x * scale, noise=noise, cond=part.cond))
            count(min(first + _BATCH, len(paths.x)) * table.evaluations)
    return torch.cat(ends)


def _part(name: str, paths: Trajectories, starts: Trajectories) -> Trajectories:
    return starts if _stochastic(name) else paths


# ------------------------------------------------------------------------------------------------ exact answers


def modes() -> ExactDenoiser:
    """25 round modes of width 0.05 in the plane, at (i, j) / 2 for i and j in -2..2, on DDPM's linear chain."""
    side = torch.arange(-2, 3, dtype=torch.float64) / 2
    mixture = GaussianMixture.isotropic(torch.cartesian_prod(side, side), 0.05)
    return ExactDenoiser(Process(VP(), Tabulated(linear_betas(1000))), mixture)


def cosine64() -> ExactDenoiser:
    """8 components in 64 dimensions, each with axes and widths (0.02 to 0.3) of its own, on the cosine clock."""
    return ExactDenoiser(Process(VP(), Cosine()), _mixture("cosine64", 8, 64, 0.5, 0.02, 0.3))


def ve16() -> ExactDenoiser:
    """10 components in 16 dimensions, widths 0.05 to 0.5, variance exploding with sigma from 80 to 0.002."""
    return ExactDenoiser(Process(VE(), geometric(0.002, 80.0)), _mixture("ve16", 10, 16, 0.6, 0.05, 0.5))


def flow4() -> ExactDenoiser:
    """6 components in 4 dimensions, widths 0.1 to 0.6, on the straight path of flow matching."""
    return ExactDenoiser(Process(Straight(), Logistic(-14.0, 14.0)), _mixture("flow4", 6, 4, 0.7, 0.1, 0.6))


def gaussian() -> ExactDenoiser:
    """One Gaussian in 8 dimensions, standard deviations 0.02 to 1.2 and a mean: a probability flow in closed form."""
    mean = 0.5 * _numbers("gaussian", 1, 8)[0]
    deviations = torch.logspace(math.log10(0.02), math.log10(1.2), 8, dtype=torch.float64)
    return ExactDenoiser(Process(VP(), LinearBeta()), GaussianMixture.gaussian(mean, deviations.square().diag()))


ORACLES: dict[str, Callable[[], ExactDenoiser]] = {
    "modes": modes,
    "cosine64": cosine64,
    "ve16": ve16,
    "flow4": flow4,
    "gaussian": gaussian,
}


def _numbers(name: str, rows: int, columns: int) -> Float[Tensor, "rows columns"]:
    """Normal numbers that belong to a name."""
    return random.normal(random.keys(random.derive(name), torch.arange(rows)), 0, columns, torch.float64)


def _mixture(name: str, count: int, width: int, spread: float, narrow: float, wide: float) -> GaussianMixture:
    """Components around N(0, spread^2) means with axes at random, widths log-uniform, and weights up to 1 : 10."""
    means = spread * _numbers(f"{name} means", count, width)
    keys = random.keys(random.derive(name), torch.arange(count))
    widths = narrow * (wide / narrow) ** random.uniform(keys, 0, width)
    weights = 0.1 + random.uniform(keys, 1, 1)[:, 0]
    axes, _ = torch.linalg.qr(_numbers(f"{name} axes", count, width * width).reshape(count, width, width))
    return GaussianMixture(weights / weights.sum(), means, axes @ (widths**2).diag_embed() @ axes.mT)
