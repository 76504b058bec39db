"""Langevin dynamics within a level: by itself, annealed over levels, and as the corrector of any predictor.

A move of relative size ``step`` = d at a level is ``x <- x + (d sigma^2 / 2) score(x) + sqrt(d) sigma z``. With score
= -eps / sigma it reads ``x <- x - (d sigma / 2) eps + sqrt(d) sigma z``, the same in all units of x. It leaves the
level's marginal in place up to O(d): where data is one point the variance settles at ``sigma^2 / (1 - d / 4)``.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level, Process
from sfumato.errors import InputError

from .ddim import ddim
from .grids import check
from .tableau import Rows, Tableau, join

OneStep = Callable[[Process, Tensor], Tableau]
"""A method: ``(process, times) -> Tableau``."""


def langevin(process: Process, t: float, repeats: int, step: float) -> Tableau:
    """``repeats`` moves of relative size ``step`` at time ``t``; InputError unless repeats >= 1 and 0 < step < 4."""
    _check(repeats, step)
    rows = Rows()
    _moves(rows, process.level(t), t, repeats, step)
    return rows.table(f"langevin(step={step:g})")


def annealed_langevin(
    process: Process, times: Float[Tensor, "n"], repeats: int = 5, step: float | None = None
) -> Tableau:
    """``repeats`` moves at each level of ``times``, from the noisiest down (Song & Ermon 2019, algorithm 1).

    Their step at level i, ``alpha_i = epsilon sigma_i^2 / sigma_L^2``, is ``step = epsilon / sigma_L^2`` relative to
    the level; with epsilon = 2e-5 and sigma_L = 0.01, step = 0.2. Without one it is ``best_step`` for the largest ratio
    of neighbouring levels. x / alpha is kept between levels. A last time of 0 is the final denoising step, x_0-hat at
    the lowest level (Song & Ermon 2020, NCSNv2); end the grid above 0 to do without. Raises InputError for a bad grid,
    for less than one move, and for steps that blow up (4 and more).
    """
    check(times)
    level = process.grid(times)
    if step is None:
        noisy = level.logsnr[level.sigma > 0]
        _check(repeats, 1.0)
        step = best_step(float(torch.exp(noisy.diff().amax() / 2)) if len(noisy) > 1 else 1.0, repeats)
    _check(repeats, step)
    rows = Rows()
    for i, t in enumerate(times.tolist()):
        if t == 0:
            rows.add(times[i - 1], {}, {len(rows): 1.0})
            continue
        if i:
            rows.add(None, {len(rows): level.alpha[i] / level.alpha[i - 1]})
        _moves(rows, Level(level.alpha[i], level.sigma[i], level.logsnr[i]), t, repeats, step)
    return rows.table(f"annealed_langevin(repeats={repeats}, step={step:g})")


def best_step(ratio: float, repeats: int) -> float:
    """The relative step at which ``repeats`` moves best forget that they began ``ratio`` times too wide.

    With all data in one point, and r = step / 2, the variance after the moves, in units of the level's own, is
    ``(1 - r)^(2 repeats) (ratio^2 - v) + v`` with ``v = 1 / (1 - r / 2)``; the best r brings it nearest to 1, which is
    its least (Song & Ermon 2020, technique 4; their epsilon is r sigma_L^2). From 1e-4 to 1.
    """
    r = torch.linspace(5e-5, 0.5, 10_000, dtype=torch.float64)
    settled = 1 / (1 - r / 2)
    variance = (1 - r) ** (2 * repeats) * (ratio**2 - settled) + settled
    return 2 * float(r[(variance - 1).abs().argmin()])


def corrected(
    process: Process, times: Float[Tensor, "n"], predictor: OneStep = ddim, repeats: int = 1, snr: float = 0.16
) -> Tableau:
    """Predictor-corrector: each step of ``predictor``, then ``repeats`` Langevin moves at the level it reached.

    Song et al. 2021, algorithm 1, take steps ``epsilon = 2 (snr |z| / |score|)^2`` with the norms of a whole batch;
    here |score| is what it is on average, |z| / sigma, so that samples do not depend on each other: ``step = 4
    snr^2``. No move is made at data. The predictor starts each step anew, so a multistep one is of order 1 here.
    Raises InputError for a bad grid, for less than one move, and for an snr of 0 or of 1 and more.
    """
    step = 4 * snr**2
    _check(repeats, step)
    check(times)
    parts = []
    for i in range(len(times) - 1):
        parts.append(predictor(process, times[i : i + 2]))
        if times[i + 1] > 0:
            parts.append(langevin(process, float(times[i + 1]), repeats, step))
    return join(parts, f"corrected({parts[0].name}, repeats={repeats}, snr={snr:g})")


def _check(repeats: int, step: float) -> None:
    if repeats < 1:
        raise InputError(f"repeats: {repeats} is not a number of Langevin moves; give at least 1")
    if not 0 < step < 4:
        raise InputError(
            f"step: Langevin moves of relative size {step:g} do not settle; give more than 0 and less than 4"
        )


def _moves(rows: Rows, level: Level, t: float, repeats: int, step: float) -> None:
    for _ in range(repeats):
        x = len(rows)
        rows.add(t, {x: 1 - step / 2}, {x: step / 2 * level.alpha}, step**0.5 * level.sigma)
