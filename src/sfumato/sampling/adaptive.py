"""The probability-flow ODE to a tolerance, with step sizes of each sample's own: the one method that is not a table."""

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
    """Carry ``x`` along the probability-flow ODE from time ``start`` to ``end``, up or down, by Dormand-Prince 5(4).

    Solved in the angle, in float64 (``denoisers.flow``), each sample in steps of its own (``numerics.ode``).
    ``tolerance`` is the error allowed to a step, absolute and relative.

    A time of 0 is data. The ODE is solved to the end of the clock, or where that is data itself to sigma / alpha =
    min(0.002, sqrt(tolerance)), between the levels of a chain too and below its first; from there x_0-hat leads to
    data. Upwards, from data, that level is entered with x_t = alpha x_0. ``watch`` counts evaluations as rows; its t
    has shape (B,). Raises InputError for a tolerance outside [1e-12, 1) and times outside [0, 1] or equal;
    FloatingPointError where an estimate is not finite and where steps shrink to nothing.
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
        y = flow.believe(last, y).x_0
    return (y * _unit(process, end).to(x.device)).reshape(x.shape).to(x.dtype)


def _unit(process: Process, t: float) -> Tensor:
    """hypot(alpha, sigma) where the state is: data itself is in units of one."""
    if t == 0:
        return torch.ones((), dtype=torch.float64)
    level = process.level(t)
    return torch.hypot(level.alpha, level.sigma)
