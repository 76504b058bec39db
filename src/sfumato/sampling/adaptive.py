"""The probability-flow ODE to a tolerance, with step sizes per sample: the only method that is not a table."""

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import Process
from sfumato.denoisers import Condition, Denoiser, check_rows
from sfumato.denoisers.flow import ProbabilityFlow, angle, check_tolerance
from sfumato.errors import InputError
from sfumato.numerics.ode import integrate

from .loop import Watch


def solve(
    denoiser: Denoiser,
    x: Float[Tensor, "b *s"],
    start: float = 1.0,
    end: float = 0.0,
    *,
    tolerance: float = 1e-5,
    cond: Condition | None = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b *s"]:
    """The solution of the probability-flow ODE at time ``end``, from ``x`` at time ``start``, by Dormand-Prince 5(4).

    The ODE is solved in the angle, in float64 (``denoisers.flow``), with step sizes per sample (``numerics.ode``), and
    between the levels of a chain too. A time of 0 is data. Towards data it is solved to the end of the clock, or where
    that is data itself to sigma / alpha = min(0.002, sqrt(tolerance)), and the last step returns x_0-hat. From data
    upwards it starts at that level with x_t = alpha x_0.

    Arguments:
        denoiser: the denoiser to follow.
        x: the states (B, *) at ``start``.
        start: the time of ``x``.
        end: the time to solve to, later or earlier.
        tolerance: the error per step, absolute and relative.
        cond: the condition of each sample, or None.
        watch: called after each evaluation; its t has shape (B,).

    Raises:
        InputError: a tolerance outside [1e-12, 1), times outside [0, 1] or equal, or a condition with another number of
            rows.
        FloatingPointError: an estimate is not finite, or the steps shrink to nothing.
    """
    check_tolerance(tolerance)
    check_rows(cond, len(x))
    if not (0 <= start <= 1 and 0 <= end <= 1) or start == end:
        raise InputError(f"start {start}, end {end}: give two different times in [0, 1]")
    process = denoiser.process
    flow = ProbabilityFlow(denoiser, x.shape[1:], x.dtype, cond, watch)
    first, last = (angle(process, t, tolerance).to(x.device).expand(len(x)) for t in (start, end))
    y = x.flatten(1).double() / _unit(process, start).to(x.device)
    if start == 0:
        y = y * torch.cos(first)[:, None]
    if bool((first != last).any()):
        y = integrate(flow.velocity, y, first, last, tolerance)
    if end == 0:
        y = flow.predict(last, y).x_0
    return (y * _unit(process, end).to(x.device)).reshape(x.shape).to(x.dtype)


def _unit(process: Process, t: float) -> Tensor:
    """hypot(alpha, sigma) at ``t``; 1 at data itself."""
    if t == 0:
        return torch.ones((), dtype=torch.float64)
    level = process.level(t)
    return torch.hypot(level.alpha, level.sigma)
