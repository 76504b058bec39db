"""How the error of every sampler depends on the number of evaluations.

The error is that against a model's own fine solution; for an oracle (``oracles``) the denoiser itself is exact.
Deterministic methods solve the probability-flow ODE, so each sample has a right end: the distance to it is measured
sample by sample, from the same starts. Methods that add noise end elsewhere and are right when their samples have the
right distribution: for them the distance between two sets of samples is measured, beside the distance between two sets
of fine samples of that size. The two kinds of number cannot be compared.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import VP, Cosine, Process, SeededNoise
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress

from . import choice
from .fitting import Errors, Trajectories, trajectories
from .loop import run
from .methods import METHODS, auto, tableau
from .tableau import Tableau

BUDGETS = (5, 8, 10, 15, 20, 50, 100)
FINE = 1000
"""Evaluations of the fine solution that others are measured against."""
MOST = FINE // 4
"""The largest budget: nearer to ``FINE``, the error of the fine solution itself would count."""

_BATCH = 256
_DIRECTIONS = 128


@dataclass(frozen=True)
class Entry:
    """One method at one budget. A method that cannot run at the budget has a reason and no numbers.

    Arguments:
        method: name of the method.
        budget: evaluations that it was allowed.
        evaluations: evaluations that it took.
        start: log-SNR that it started from.
        errors: of a deterministic method, the distances to the ends of the fine solution from the same starts.
        distance: of a stochastic method, the sliced 2-Wasserstein distance to fine samples from other starts.
        floor: the same distance of as many fine samples.
        reason: why there are no numbers.
        table: name of the table that ran.
    """

    method: str
    budget: int
    evaluations: int = 0
    start: float | None = None
    errors: Errors | None = None
    distance: float | None = None
    floor: float | None = None
    reason: str | None = None
    table: str | None = None


def reference(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    count: SupportsIndex,
    *,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    progress: Progress | None = None,
) -> tuple[Trajectories, Errors]:
    """Fine trajectories, and their distance to those with ``FINE / 2`` evaluations: a bound of their own error.

    No table was fitted to these starts, whatever the ``seed``.

    Arguments:
        denoiser: the denoiser to certify.
        shape: shape of one sample.
        count: number of trajectories, at least 4.
        seed: random seed.
        cond: the condition of each of the ``count`` samples, or None.
        progress: called with the evaluations of samples.

    Raises:
        InputError: a count below 4, or a condition with another number of rows.
    """
    count = whole("count", count)
    if count < 4:
        raise InputError(f"samples: {count} cannot be halved and compared; give at least 4")
    half, seed = FINE // 2, random.derive(whole("seed", seed), "certify")
    total = count * (FINE + half)

    def solve(evaluations: int, already: int) -> Trajectories:
        counted = None if progress is None else lambda done, _: progress(already + done, total)
        return trajectories(
            denoiser,
            shape,
            count,
            seed=seed,
            evaluations=evaluations,
            cond=cond,
            batch=_BATCH,
            progress=counted,
        )

    fine, coarse = solve(FINE, 0), solve(half, count * FINE)
    return fine, Errors.between(coarse.x_0, fine.x_0)


def certify(
    denoiser: Denoiser,
    paths: Trajectories,
    *,
    methods: Sequence[str] = ("auto", *METHODS),
    budgets: Sequence[SupportsIndex] = BUDGETS,
    extra: Mapping[str, Mapping[int, Tableau]] | None = None,
    own: Mapping[int, Tableau] | None = None,
    seed: SupportsIndex = 0,
    progress: Progress | None = None,
) -> list[Entry]:
    """One entry per method and budget, in the order of ``extra``, ``methods`` and ``budgets``.

    Deterministic methods run from all starts; stochastic ones from the first half of them, to be compared with the
    second. A method that starts at another level than ``auto`` gets the same noise at that level's scale, and the
    difference counts as its error. A method that refuses a budget or overflows is an entry with its reason.

    Arguments:
        denoiser: the denoiser to certify.
        paths: at least 4 fine trajectories, from ``reference``.
        methods: names of methods, "auto" among them.
        budgets: numbers of evaluations, 1 to ``MOST``.
        extra: tables by name and budget, such as those fitted to the model.
        own: the tables of "auto" by budget; by default those of the methods that ``choice.choose`` finds.
        seed: random seed of the stochastic methods.
        progress: called with the evaluations of samples.

    Raises:
        InputError: an unknown method, a budget outside 1 to ``MOST``, or too few paths.
    """
    numbers, noise_seed = _check(paths, methods, budgets), random.derive(whole("seed", seed), "certify", "noise")
    jobs = [(name, budget, _fitted(tables, budget)) for name, tables in (extra or {}).items() for budget in numbers]
    jobs += _jobs(denoiser, paths, methods, numbers, own)
    starts, others = (paths.rows(slice(first, first + len(paths.x) // 2)) for first in (0, len(paths.x) // 2))
    floor = sliced_distance(starts.x_0, others.x_0)
    tables = [(name, table) for name, _, table in jobs if isinstance(table, Tableau)]
    total = sum(len((starts if _stochastic(name) else paths).x) * table.evaluations for name, table in tables)
    entries, done = [], 0
    for name, budget, table in jobs:
        if isinstance(table, str):
            entries.append(Entry(name, budget, reason=table))
            continue

        def count(evaluations: int, already: int = done) -> None:
            if progress is not None:
                progress(already + evaluations, total)

        chosen, start = starts if _stochastic(name) else paths, float(denoiser.process.level(table.start).logsnr)
        done += len(chosen.x) * table.evaluations
        entry = Entry(name, budget, table.evaluations, start, table=table.name)
        try:
            ends = _ends(denoiser, table, chosen, noise_seed, count)
        except FloatingPointError as error:
            entries.append(replace(entry, reason=str(error)))
        else:
            if _stochastic(name):
                entries.append(replace(entry, distance=sliced_distance(ends, others.x_0), floor=floor))
            else:
                entries.append(replace(entry, errors=Errors.between(ends, chosen.x_0)))
    return entries


def sliced_distance(x: Float[Tensor, "b *s"], y: Float[Tensor, "b *s"]) -> float:
    """The sliced 2-Wasserstein distance of two sets of one size.

    Along a direction, sorted samples are matched in order, which is optimal (Rabin et al. 2011). Mean squares are
    averaged over 128 directions, the same for all sets; along unit directions they are those of a coordinate, so the
    distance has the units of ``Errors``.
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    keys = random.keys(0, torch.arange(_DIRECTIONS))
    u = random.normal(keys, 0, x.shape[1], torch.float64).to(x.device)
    u = u / u.norm(dim=1, keepdim=True)
    return float(((x @ u.mT).sort(0).values - (y @ u.mT).sort(0).values).pow(2).mean().sqrt())


def measured_order(name: str) -> float | None:
    """The measured order of convergence of a method of ``METHODS``; None for one that adds noise, and for ``auto``.

    It is the least-squares slope of log error against log step, over a decade of steps on the probability flow of a
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
        fractions = torch.linspace(0, 1, steps + 1, dtype=torch.float64) ** 2
        times = process.schedule.time(-5 + 5 * fractions)
        first, last = (
            level.alpha * mean + torch.sqrt(level.alpha**2 * variances + level.sigma**2) * z
            for level in (process.level(times[0]), process.level(times[-1]))
        )
        error = (run(denoiser, METHODS[name].table(process, times), first) - last).pow(2).mean().sqrt()
        points.append((math.log(steps), math.log(float(error))))
    x, y = (torch.tensor(column, dtype=torch.float64) for column in zip(*points, strict=True))
    return -float(((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).pow(2).sum())


def _check(paths: Trajectories, methods: Sequence[str], budgets: Sequence[SupportsIndex]) -> list[int]:
    """The ``budgets``, if all can be measured."""
    unknown = [name for name in methods if name != "auto" and name not in METHODS]
    if unknown:
        raise InputError(f"methods: '{unknown[0]}' is not known; choose from auto, {', '.join(METHODS)}")
    numbers = [whole("budgets", budget) for budget in budgets]
    for budget in numbers:
        if not 1 <= budget <= MOST:
            raise InputError(f"budgets: {budget} evaluations cannot be certified; give 1 to {MOST}")
    if len(paths.x) < 4:
        raise InputError(f"paths: {len(paths.x)} trajectories cannot be halved and compared; give at least 4")
    return numbers


def _fitted(tables: Mapping[int, Tableau], budget: int) -> Tableau | str:
    return tables.get(budget, f"no table for {budget} evaluations")


def _classical(process: Process, name: str, budget: int) -> Tableau | str:
    try:
        return tableau(process, name, budget)
    except InputError as error:
        return str(error)


def _jobs(
    denoiser: Denoiser,
    paths: Trajectories,
    methods: Sequence[str],
    budgets: Sequence[int],
    own: Mapping[int, Tableau] | None,
) -> list[tuple[str, int, Tableau | str]]:
    """Method, budget, and the table or why there is none."""
    if own is None and "auto" in methods:
        own = _chosen(denoiser, paths, budgets)
    tables = {"auto": own or {}}
    return [
        (name, n, tables.get(name, {}).get(n) or _classical(denoiser.process, name, n))
        for name in methods
        for n in budgets
    ]


def _chosen(denoiser: Denoiser, paths: Trajectories, budgets: Sequence[int]) -> dict[int, Tableau]:
    """The tables of "auto", chosen on other starts; of conditional samples, none."""
    if paths.cond is not None:
        return {}
    names = choice.choose(denoiser, tuple(paths.x.shape[1:]), budgets)
    return {budget: choice.table(denoiser.process, name, budget) for budget, name in names.items()}


def _stochastic(name: str) -> bool:
    return name in METHODS and METHODS[name].order is None


def _ends(
    denoiser: Denoiser, table: Tableau, paths: Trajectories, seed: int, count: Callable[[int], None]
) -> Float[Tensor, "b *s"]:
    """The ends of ``table`` from the starts of ``paths``, scaled to the level that it starts at."""
    process = denoiser.process
    own, theirs = (process.prior(start).variance.sqrt() for start in (table.start, auto(process, 1).start))
    scale = float(own / theirs)
    ends = []
    with torch.no_grad():
        for first in range(0, len(paths.x), _BATCH):
            part = paths.rows(slice(first, first + _BATCH))
            noise = SeededNoise.samples(seed, len(part.x), first) if table.stochastic else None
            ends.append(run(denoiser, table, part.x * scale, noise=noise, cond=part.cond))
            count(min(first + _BATCH, len(paths.x)) * table.evaluations)
    return torch.cat(ends)
