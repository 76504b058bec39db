"""The probability-flow ODE to a tolerance, with step sizes of each sample's own: the one method that is not a table."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.core import VP, Process
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError

from .grids import DATA
from .tableau import Watch

MAX_STEPS = 10_000


def solve(
    denoiser: Denoiser,
    x: Float[Tensor, "b *s"],
    start: float = 1.0,
    end: float = 0.0,
    *,
    tolerance: float = 1e-5,
    cond: Any = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b *s"]:
    """Carry ``x`` along the probability-flow ODE from time ``start`` to ``end``, up or down, by Dormand-Prince 5(4).

    Solved as ``d(x / unit) / d(angle) = v`` with angle = atan(sigma / alpha), unit = hypot(alpha, sigma), in float64:
    the motion "angle" of ``motion``, smooth at both ends. ``tolerance`` is the error allowed to a step, absolute and
    relative. Each sample has its own steps, so that it depends on itself alone (torchode; Lienen & Guennemann 2022);
    a batch takes as many evaluations as its hardest sample.

    A time of 0 is data. The ODE is solved to the end of the clock, or where that is data itself to sigma / alpha =
    min(0.002, sqrt(tolerance)), between the levels of a chain too and below its first; from there x_0-hat leads to
    data. Upwards, from data, that level is entered with x_t = alpha x_0. ``watch`` counts evaluations as rows; its t
    has shape (B,). Raises InputError for a tolerance outside [1e-12, 1) and times outside [0, 1] or equal;
    FloatingPointError where an estimate is not finite and where steps shrink to nothing.
    """
    import torchode

    if not 1e-12 <= tolerance < 1:
        raise InputError(f"tolerance: {tolerance} is not one for an ODE; give 1e-12 to below 1")
    if not (0 <= start <= 1 and 0 <= end <= 1) or start == end:
        raise InputError(f"start {start}, end {end}: give two different times in [0, 1]")
    process, shape, count = denoiser.process, x.shape, 0

    def believe(angle: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        nonlocal count
        logsnr = -2 * torch.log(torch.tan(angle))
        t = process.schedule.time(logsnr).clamp(0, 1)
        level = process.scaling.at(logsnr)
        state = (y * torch.hypot(level.alpha, level.sigma)[:, None]).reshape(shape).to(x.dtype)
        prediction = denoiser(state, t, cond)
        finite = torch.isfinite(prediction.x_0).flatten(1).all(1)
        if not finite.all():
            raise FloatingPointError(f"adaptive: the estimate of x_0 at t = {float(t[~finite][0]):.6g} is not finite")
        if watch is not None:
            watch(count, t, state, prediction)
        count += 1
        return prediction.x_0.flatten(1).double(), prediction.eps.flatten(1).double()

    def velocity(angle: Tensor, y: Tensor) -> Tensor:
        x_0, eps = believe(angle, y)
        return torch.cos(angle)[:, None] * eps - torch.sin(angle)[:, None] * x_0

    first, last = (_angle(process, t, tolerance).to(x.device) for t in (start, end))
    y = x.flatten(1).double() / _unit(process, start, first).to(x.device)
    if start == 0:
        y = y * torch.cos(first)
    if first != last:
        term = torchode.ODETerm(velocity)
        solver = torchode.AutoDiffAdjoint(
            torchode.Dopri5(term=term),
            torchode.IntegralController(atol=tolerance, rtol=tolerance, term=term),
            max_steps=MAX_STEPS,
        )
        problem = torchode.InitialValueProblem(y0=y, t_start=first.expand(len(x)), t_end=last.expand(len(x)))
        solution = solver.solve(problem)
        if not bool((solution.status == torchode.Status.SUCCESS.value).all()):
            raise FloatingPointError(
                f"adaptive: {tolerance:g} was not reached in {MAX_STEPS:,} steps; ask for a larger tolerance"
            )
        y = solution.ys[:, -1]
    if end == 0:
        y = believe(last.expand(len(x)), y)[0]
    return (y * _unit(process, end, last).to(x.device)).reshape(shape).to(x.dtype)


def _angle(process: Process, t: float, tolerance: float) -> Tensor:
    logsnr = process.level(t).logsnr
    if logsnr == math.inf:
        logsnr = torch.tensor(max(DATA, -math.log(tolerance)), dtype=torch.float64)
    return VP().coordinate(VP().at(logsnr))


def _unit(process: Process, t: float, angle: Tensor) -> Tensor:
    """hypot(alpha, sigma) where the state is: data itself is in units of one."""
    if t == 0:
        return torch.ones_like(angle)
    level = process.level(t)
    return torch.hypot(level.alpha, level.sigma)
