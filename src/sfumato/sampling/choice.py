"""The best method for a budget by measurement: candidates run on the very model, beside its own fine solution.

No fixed rule is near the best on every target. Where narrow modes stand beside a wide one, a high order or a corrector
sends some samples far astray, and where a target is smooth, a low order wastes accuracy. ``choose`` measures it.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process, SeededNoise
from sfumato.denoisers import Condition, Denoiser
from sfumato.errors import InputError
from sfumato.numerics import random

from . import grids
from .loop import run
from .methods import METHODS, auto, tableau
from .motion import Along
from .multistep import adams
from .tableau import Tableau

BUDGETS = (5, 8, 10, 15, 20, 50)
"""The numbers of evaluations that a model's methods are chosen for; others take that of the nearest one below."""

MOST = 100  # evaluations: above, the fine solution is not fine, and the choice for this many is taken
FINE = 200  # evaluations of the fine solution
STARTS = 2048  # starts of the finalists, at most
LEAST = 32  # starts, at least
NUMBERS = 2**16  # numbers in all starts: with many numbers in a sample, fewer starts
SCREENED = 8  # all candidates run from one start in this many
FINALISTS = 8

_PUBLISHED = ("dpm++2m", "unipc2", "unipc3")
# Left out are methods that another of these beat on every target of development, in RMS and median.
_NAMED = ("ddim", "dpm++3m", "deis3", "deis4", "lms4", "straight2", "adams2", "adams3", "adams4")
_SLACK = math.log(2.0)  # how far a statistic may lie above the best named method's before it counts
_SLACK_WORST = math.log(3.0)  # and the worst sample: it is one number out of one sample
_MEAN = 0.3  # weight of the mean over statistics, beside the largest

Make = Callable[[Process, int], Tableau]


@dataclass(frozen=True)
class Candidate:
    """A method with its grid.

    Arguments:
        make: ``(process, evaluations) -> Tableau``; may take fewer evaluations, and raises InputError where it cannot.
        named: whether it is a method of ``METHODS`` on its own grid.
        published: whether other libraries offer this method on this grid.
    """

    make: Make
    named: bool = False
    published: bool = False


def _candidates() -> dict[str, Candidate]:
    found: dict[str, Candidate] = {}
    for name in (*_PUBLISHED, *_NAMED):
        found[name] = Candidate(partial(_named, name), named=True, published=name in _PUBLISHED)
    for name in _PUBLISHED:
        found[f"{name} on rho"] = Candidate(partial(_on, name, grids.rho), published=True)
        found[f"{name} on logsnr"] = Candidate(partial(_on, name, grids.uniform_logsnr), published=True)
        found[f"{name} on straight"] = Candidate(partial(_on, name, _even_straight))
    for order, corrector, rebase, along, power, last in _OWN:
        kind = f"{'c' if corrector else ''}{'r' if rebase else ''}"
        name = f"adams{order}{kind} along {along}, levels {power:g}/{last:g}"
        found[name] = Candidate(partial(_own, order, corrector, rebase, along, power, last))
    return found


def table(process: Process, name: str, evaluations: int) -> Tableau:
    """The table of a candidate of that ``name``, with at most ``evaluations`` evaluations.

    Raises:
        InputError: an unknown name, or a budget that the method cannot use on this process.
    """
    if name not in CANDIDATES:
        raise InputError(f"choice: '{name}' is not the name of a method to choose; measure again")
    with torch.no_grad():
        made = CANDIDATES[name].make(process, evaluations)
    if made.evaluations > evaluations:
        raise InputError(f"steps: {name} takes more than {evaluations} evaluations; give more")
    return replace(made, name=name)


def nearest(chosen: Sequence[int], evaluations: int) -> int | None:
    """The budget whose choice serves ``evaluations``: the largest that is not above, else the smallest."""
    below = [budget for budget in chosen if budget <= evaluations]
    return max(below) if below else min(chosen, default=None)


def choose(
    denoiser: Denoiser,
    shape: tuple[int, ...],
    budgets: Sequence[int] = BUDGETS,
    *,
    cond: Condition | None = None,
    seconds: float | None = None,
) -> dict[int, str]:
    """For each budget the name of the candidate that is best on this denoiser; ``table`` makes its table.

    Three distances to the denoiser's fine solution, from the same starts, are held together: RMS, median and worst
    sample. Each enters as the log of its ratio to the smallest that a published method has (DPM-Solver++ 2M, UniPC, on
    their grids), and to half of which counts the smallest of all named methods; of the worst sample a third. The
    candidate whose largest of these is smallest is chosen (minimax regret): it is not far behind in any. A candidate
    that is far ahead in the mean of RMS and median is preferred among those that are about as good.

    All candidates run from an eighth of the starts; the best eight, and the methods that they are compared with, from
    all. Without ``seconds`` the result is a function of the denoiser alone.

    Arguments:
        denoiser: the denoiser, as it is sampled.
        shape: shape of one sample.
        budgets: numbers of evaluations, at least 1, the most important first.
        cond: the condition of at least ``STARTS`` samples, of which the first are used, or None.
        seconds: time that may be used, about. With less time, there are fewer starts, and then fewer budgets.

    Returns:
        Names by budget. Budgets are left out that no time is left for, and where nothing can be measured: the fine
        solution overflows, or the process has no room for one.
    """
    count = max(LEAST, min(STARTS, NUMBERS // math.prod(shape)))
    wanted = list(dict.fromkeys(min(budget, MOST) for budget in budgets))
    try:
        if seconds is not None:
            count, wanted = _within(seconds, denoiser, shape, cond, count, wanted)
        measured = _Measured.of(denoiser, shape, count, cond) if wanted else None
    except InputError:  # a process with a single level
        measured = None
    if measured is None:
        return {}
    found = {budget: measured.best(budget) for budget in wanted}
    named = {budget: found.get(min(budget, MOST)) for budget in budgets}
    return {budget: name for budget, name in named.items() if name is not None}


@dataclass(frozen=True, eq=False)
class _Measured:
    """A denoiser with starts of unit variance and the ends of its fine solution."""

    denoiser: Denoiser
    z: Tensor
    fine: Tensor
    cond: Condition | None

    @classmethod
    def of(cls, denoiser: Denoiser, shape: tuple[int, ...], count: int, cond: Condition | None) -> "_Measured | None":
        z = _starts(denoiser, shape, count)
        fine = _ends(denoiser, _fine(denoiser.process), z, cond)
        return None if fine is None else cls(denoiser, z, fine, cond)

    def best(self, evaluations: int) -> str | None:
        """The name of the best candidate; None where none can be measured."""
        process, tables = self.denoiser.process, {}
        for name in CANDIDATES:
            try:
                tables[name] = table(process, name, evaluations)
            except InputError:
                continue
        names = list(tables)
        few = max(LEAST, len(self.z) // SCREENED)
        screened = self._errors([tables[name] for name in names], few)
        order = _regret(screened, names).argsort(stable=True).tolist()
        kept = set(order[:FINALISTS])
        for bars in _bars(names):  # what the finalists are compared with
            kept |= {bars[int(i)] for i in screened[bars].argmin(0)} if bars else set()
        finalists = [names[i] for i in sorted(kept)]
        final = self._errors([tables[name] for name in finalists], len(self.z))
        best = int(_regret(final, finalists).argmin()) if finalists else -1
        return finalists[best] if best >= 0 and final[best].isfinite().all() else None

    def _errors(self, tables: Sequence[Tableau], count: int) -> Float[Tensor, "n 3"]:
        rows = [_distances(self.denoiser, table, self.z[:count], self.fine[:count], self.cond) for table in tables]
        return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def _regret(errors: Float[Tensor, "n 3"], names: Sequence[str]) -> Float[Tensor, "n"]:
    """The criterion of ``choose``, less is better, from RMS, median and worst sample of each candidate."""
    slack = torch.tensor([0.0, 0.0, _SLACK_WORST], dtype=torch.float64)
    published, named = _bars(names)
    excess = torch.full_like(errors, -math.inf)
    for bars, also in ((published, 0.0), (named, _SLACK)):
        if bars:
            excess = torch.maximum(excess, (errors / errors[bars].min(0).values).log() - slack - also)
    regret = excess.max(1).values + _MEAN * excess[:, :2].mean(1)
    return regret.nan_to_num(math.inf, posinf=math.inf)


def _bars(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """The indices of the published methods, and of the named ones."""
    found = [CANDIDATES[name] for name in names]
    published = [i for i, candidate in enumerate(found) if candidate.published]
    return published, [i for i, candidate in enumerate(found) if candidate.named]


def _distances(denoiser: Denoiser, table: Tableau, z: Tensor, fine: Tensor, cond: Condition | None) -> list[float]:
    """RMS, median and worst distance to the fine ends; infinite where the run overflows."""
    ends = _ends(denoiser, table, z, cond)
    if ends is None or not ends.isfinite().all():
        return [math.inf] * 3
    squares = (ends - fine).flatten(1).pow(2).mean(1)
    return [max(float(v.sqrt()), 1e-12) for v in (squares.mean(), squares.median(), squares.max())]


def _starts(denoiser: Denoiser, shape: tuple[int, ...], count: int) -> Tensor:
    device = next((p.device for p in denoiser.parameters()), torch.device("cpu"))
    z = SeededNoise.samples(random.derive(0, "choice"), count)(0, torch.empty(count, *shape, dtype=torch.float64))
    return z.to(device)


def _ends(denoiser: Denoiser, table: Tableau, z: Tensor, cond: Condition | None) -> Tensor | None:
    """The ends from starts ``z`` of unit variance, with the first rows of ``cond``; None where one is not finite."""
    with torch.no_grad():
        scale = denoiser.process.prior(table.start).variance.sqrt().to(z.device)
        try:
            return run(denoiser, table, z * scale, cond=None if cond is None else cond.rows(slice(len(z))).to(z.device))
        except FloatingPointError:
            return None


def _fine(process: Process) -> Tableau:
    """The fine solution: order 3, which strays less than order 4 where modes of very different widths meet."""
    with torch.no_grad():
        noise, finest = grids.noisiest_logsnr(process), grids.finest_logsnr(process)
        data = min(2 * math.log(1e4), finest)
        return adams(process, grids.angle(process, FINE, noise=noise, data=data), order=3)


def _within(
    seconds: float,
    denoiser: Denoiser,
    shape: tuple[int, ...],
    cond: Condition | None,
    count: int,
    budgets: list[int],
) -> tuple[int, list[int]]:
    """The most starts, and with the fewest starts the most budgets, that take no longer than ``seconds``."""
    began = time.monotonic()
    many = max(2 * LEAST, min(count, 8 * LEAST))
    few = _pace(denoiser, shape, cond, LEAST)
    if FINE * few > seconds:
        return LEAST, []
    slope = max(_pace(denoiser, shape, cond, many) - few, 0.0) / (many - LEAST)
    left = seconds - (time.monotonic() - began)

    def pace(starts: int) -> float:
        return few + slope * (max(starts, LEAST) - LEAST)

    def total(starts: int, wanted: list[int]) -> float:
        each = len(CANDIDATES) * pace(starts // SCREENED) + (FINALISTS + len(_PUBLISHED)) * pace(starts)
        return FINE * pace(starts) + sum(wanted) * each

    while count > LEAST and total(count, budgets) > left:
        count = max(LEAST, count // 2)
    while budgets and total(count, budgets) > left:
        budgets = budgets[:-1]
    return count, budgets


def _pace(denoiser: Denoiser, shape: tuple[int, ...], cond: Condition | None, count: int) -> float:
    """Seconds per evaluation of ``count`` samples: the making of a table and its run, the second time."""
    z = _starts(denoiser, shape, count)
    for _ in range(2):
        began = time.monotonic()
        with torch.no_grad():
            made = auto(denoiser.process, 10)
        _distances(denoiser, made, z, z, cond)
    return (time.monotonic() - began) / 10


# ---------------------------------------------------------------------------------------------------------- candidates


def _named(name: str, process: Process, evaluations: int) -> Tableau:
    return tableau(process, name, evaluations)


def _on(name: str, spacing: Callable[[Process, int], Tensor], process: Process, evaluations: int) -> Tableau:
    return METHODS[name].table(process, spacing(process, evaluations))


def _own(
    order: int,
    corrector: bool,
    rebase: bool,
    along: Along,
    power: float,
    last: float,
    process: Process,
    evaluations: int,
) -> Tableau:
    """Adams on levels even in angle^(1 / power), the last at sigma / alpha = ``last`` evaluations^(-3/2)."""
    noise, finest = grids.noisiest_logsnr(process), grids.finest_logsnr(process)
    times = grids.angle(process, evaluations, power, noise, min(-2 * math.log(last * evaluations**-1.5), finest))
    return adams(process, times, order, along, corrector, rebase)


def _even_straight(process: Process, steps: int) -> Float[Tensor, "n"]:
    """Levels evenly in sigma / (alpha + sigma) from the noisiest, then data: the levels of flow matching."""
    first = 1 / (1 + math.exp(grids.noisiest_logsnr(process) / 2))
    last = 1 / (1 + math.exp(grids.finest_logsnr(process) / 2))
    position = torch.linspace(first, 0, steps + 1, dtype=torch.float64)[:-1].clamp(min=last)
    return grids.at_logsnr(process, 2 * (torch.log1p(-position) - position.log()))


# Order, corrector, rebase, path, power, last: those of 104 that lowered the regret on the targets of development.
_OWN: tuple[tuple[int, bool, bool, Along, float, float], ...] = (
    (2, True, False, "angle", 1.7, 2.0),
    (4, True, True, "angle", 1.7, 2.0),
    (2, False, False, "angle", 1.7, 0.5),
    (3, True, True, "angle", 1.7, 0.5),
    (4, True, True, "angle", 1.7, 0.5),
    (4, True, False, "angle", 1.7, 0.5),
    (2, True, False, "angle", 2.5, 0.5),
    (3, True, False, "angle", 2.5, 0.5),
    (4, True, False, "angle", 2.5, 0.5),
    (3, True, True, "angle", 2.5, 0.5),
    (4, True, True, "angle", 2.5, 0.5),
    (4, True, True, "angle", 2.5, 0.1),
    (4, True, False, "angle", 2.5, 0.1),
    (3, True, False, "angle", 3.5, 0.5),
    (4, True, True, "angle", 3.5, 0.5),
    (3, True, False, "angle", 3.5, 0.1),
    (2, True, False, "straight", 2.5, 0.5),
    (4, True, True, "straight", 2.5, 0.5),
    (2, True, True, "straight", 1.7, 0.5),
    (4, True, True, "straight", 1.7, 0.5),
    (2, True, False, "x_0", 1.7, 0.1),
    (2, True, True, "x_0", 2.5, 0.1),
)

CANDIDATES = _candidates()
"""What ``choose`` chooses from, by name."""
