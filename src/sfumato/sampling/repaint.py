"""RePaint's jumps: going up some levels and down again, so that the parts of a sample become consistent."""

from typing import SupportsIndex

from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.numerics.integers import whole

from .ancestral import ancestral
from .grids import check
from .langevin import OneStep
from .tableau import Rows, Tableau, join


def repaint(
    process: Process,
    times: Float[Tensor, "n"],
    predictor: OneStep = ancestral,
    jump: SupportsIndex = 10,
    repeats: SupportsIndex = 10,
) -> Tableau:
    """A predictor down the grid that jumps back up at every ``jump``-th level from below.

    A jump is one row: a draw of q(x_t | x_s) = N((alpha_t / alpha_s) x_s, sigma_t^2 c). The levels of the jumps are
    those of the paper, whose step 0 is the last level above data.

    Arguments:
        process: the process.
        times: N + 1 decreasing times.
        predictor: a method for any grid.
        jump: levels per jump.
        repeats: passes over the levels of a jump: ``repeats - 1`` jumps.

    Raises:
        InputError: a bad grid, or a jump or a number of repeats below 1.

    References:
        Lugmayr et al. 2022, appendix B.
    """
    jump, repeats = whole("jump", jump, 1), whole("repeats", repeats, 1)
    check(times)
    level = process.grid(times)
    N = len(times) - 1
    # Time N is data, N - 1 the lowest level; a jump from time i goes up to time i - jump.
    left = {N - 1 - k: repeats - 1 for k in range(0, N - jump, jump)}
    parts, top, i = [], 0, 0
    while i < N:
        i += 1
        if left.get(i, 0):
            left[i] -= 1
            parts.append(predictor(process, times[top : i + 1]))
            top = i - jump
            up = Rows()
            fraction = 1 - (level.logsnr[top] - level.logsnr[i]).exp()
            up.add(None, {0: level.alpha[top] / level.alpha[i]}, std=level.sigma[top] * fraction.sqrt())
            parts.append(up.table("jump"))
            i = top
    parts.append(predictor(process, times[top:]))
    return join(parts, f"repaint({parts[0].name}, jump={jump}, repeats={repeats})")
