"""Langevin dynamics within a level: alone, annealed over levels, and as the corrector of any predictor.

A move of relative size ``step`` = d at a level is ``x <- x + (d sigma^2 / 2) score(x) + sqrt(d) sigma z``. With score
= -eps / sigma it is ``x <- x - (d sigma / 2) eps + sqrt(d) sigma z``, the same in all units of x. It preserves the
level's marginal up to O(d): where data is one point the variance converges to ``sigma^2 / (1 - d / 4)``.
"""

from collections.abc import Callable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Level, Process
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .ddim import ddim
from .grids import check
from .tableau import Rows, Tableau, join

OneStep = Callable[[Process, Tensor], Tableau]
"""A method: ``(process, times) -> Tableau``."""


def langevin(process: Process, t: float, repeats: SupportsIndex, step: float) -> Tableau:
    """Moves within one level.

    Arguments:
        process: the process.
        t: the time of the level.
        repeats: number of moves, at least 1.
        step: their relative size, above 0 and below 4.

    Raises:
        InputError: other values.
    """
    repeats = _moves_of(repeats, step)
    rows = Rows()
    _moves(rows, process.level(t), t, repeats, step)
    return rows.table(f"langevin(step={step:g})")


def annealed_langevin(
    process: Process, times: Float[Tensor, "n"], repeats: SupportsIndex = 5, step: float | None = None
) -> Tableau:
    """``repeats`` moves at each level of ``times``, from the noisiest down (Song & Ermon 2019, algorithm 1).

    Their step at level i, ``alpha_i = epsilon sigma_i^2 / sigma_L^2``, is ``step = epsilon / sigma_L^2`` relative to
    the level; with epsilon = 2e-5 and sigma_L = 0.01, step = 0.2. x / alpha is kept between levels. A last time of 0 is
    the final denoising step, x_0-hat at the lowest level; end the grid above 0 to leave it out.

    Arguments:
        process: the process.
        times: decreasing times.
        repeats: moves per level.
        step: relative size of a move; None for ``best_step`` at the largest ratio of neighbouring levels.

    Raises:
        InputError: a bad grid, less than one move, or steps that diverge (4 and more).

    References:
        Song & Ermon 2019, algorithm 1; Song & Ermon 2020 (NCSNv2).
    """
    check(times)
    level = process.grid(times)
    if step is None:
        noisy = level.logsnr[level.sigma > 0]
        step = best_step(float(torch.exp(noisy.diff().amax() / 2)) if len(noisy) > 1 else 1.0, repeats)
    repeats = _moves_of(repeats, step)
    rows = Rows()
    for i, t in enumerate(times.tolist()):
        if t == 0:
            rows.add(times[i - 1], {}, {len(rows): 1.0})
            continue
        if i:
            rows.add(None, {len(rows): level.alpha[i] / level.alpha[i - 1]})
        _moves(rows, Level(level.alpha[i], level.sigma[i], level.logsnr[i]), t, repeats, step)
    return rows.table(f"annealed_langevin(repeats={repeats}, step={step:g})")


def best_step(ratio: float, repeats: SupportsIndex) -> float:
    """The relative step with which ``repeats`` moves best correct a start that is ``ratio`` times too wide.

    With all data in one point, and r = step / 2, the variance after the moves, in units of the level's own, is
    ``(1 - r)^(2 repeats) (ratio^2 - v) + v`` with ``v = 1 / (1 - r / 2)``. The best r brings it closest to 1. The
    result is between 1e-4 and 1.

    Arguments:
        ratio: the ratio of neighbouring sigmas.
        repeats: moves per level.

    References:
        Song & Ermon 2020, technique 4; their epsilon is r sigma_L^2.
    """
    repeats = whole("repeats", repeats, 1)
    r = torch.linspace(5e-5, 0.5, 10_000, dtype=torch.float64)
    settled = 1 / (1 - r / 2)
    variance = (1 - r) ** (2 * repeats) * (ratio**2 - settled) + settled
    return 2 * float(r[(variance - 1).abs().argmin()])


def corrected(
    process: Process,
    times: Float[Tensor, "n"],
    predictor: OneStep = ddim,
    repeats: SupportsIndex = 1,
    snr: float = 0.16,
) -> Tableau:
    """Predictor-corrector: each step of ``predictor``, then ``repeats`` Langevin moves at the level it reached.

    Song et al. 2021, algorithm 1, take steps ``epsilon = 2 (snr |z| / |score|)^2`` with the norms of a whole batch.
    Here |score| is replaced by its average |z| / sigma, so that samples do not depend on each other:
    ``step = 4 snr^2``. There is no move at data. The predictor starts again at each step, so a multistep method has
    order 1 here.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        predictor: a method for one step.
        repeats: moves per level.
        snr: signal-to-noise ratio of a move, between 0 and 1.

    Raises:
        InputError: a bad grid, less than one move, or an snr outside (0, 1).

    References:
        Song et al. 2021, algorithms 1 and 2.
    """
    step = 4 * snr**2
    repeats = _moves_of(repeats, step)
    check(times)
    parts = []
    for i in range(len(times) - 1):
        parts.append(predictor(process, times[i : i + 2]))
        if times[i + 1] > 0:
            parts.append(langevin(process, float(times[i + 1]), repeats, step))
    return join(parts, f"corrected({parts[0].name}, repeats={repeats}, snr={snr:g})")


def _moves_of(repeats: SupportsIndex, step: float) -> int:
    """``repeats``, if it is a number of moves and ``step`` a size of them."""
    moves = whole("repeats", repeats, 1)
    if not 0 < step < 4:
        raise InputError(
            f"step: Langevin moves of relative size {step:g} do not settle; give more than 0 and less than 4"
        )
    return moves


def _moves(rows: Rows, level: Level, t: float, repeats: int, step: float) -> None:
    for _ in range(repeats):
        x = len(rows)
        rows.add(t, {x: 1 - step / 2}, {x: step / 2 * level.alpha}, step**0.5 * level.sigma)
