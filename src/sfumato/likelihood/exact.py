"""The exact log-likelihood under a denoiser's probability flow (Song et al. 2021, section 4.3).

    log p(y_0) = log N(y_1; 0, I) + integral over theta of tr(dv / dy)

along ``dy / d theta = v(y, theta)``, in the angle and units of ``denoisers.flow``. From data itself, where v is zero,
to the finest level the way is one trapezium, so that no network is asked about levels below those it knows.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Factorised
from sfumato.bounds.terms import finest_time
from sfumato.core import SeededNoise, ValueGrid
from sfumato.denoisers import Denoiser
from sfumato.denoisers.flow import ProbabilityFlow, angle, check_tolerance
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.divergence import divergence
from sfumato.numerics.ode import integrate

from .bits import Estimate, bits_per_dim
from .bound import Progress, check_data
from .visits import noisy


@dataclass(frozen=True, eq=False)
class Exact:
    """``nats`` (B,), the negative log-likelihood of each sample, and the ``variance`` (B,) that it has as an estimate.

    The variance is that of Hutchinson's probes and of the draws of a dequantisation: 0 for an exact trace of continuous
    data, nan where there was one probe or draw only.
    """

    nats: Tensor
    variance: Tensor
    dimensions: int
    evaluations: int

    @property
    def bits(self) -> Float[Tensor, "b"]:
        """Bits/dim of each sample."""
        return bits_per_dim(self.nats, self.dimensions)

    @property
    def estimate(self) -> Estimate:
        """The mean in bits/dim, with its errors."""
        return Estimate.of(self.bits, self.variance / (self.dimensions * math.log(2)) ** 2)


def flow_likelihood(
    denoiser: Denoiser,
    x: Float[Tensor, "b *s"],
    start: float | None = None,
    *,
    tolerance: float = 3e-5,
    probes: int | None = None,
    seed: int = 0,
    cond: Any = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Exact:
    """-log p of ``x`` in nats, as a density of data, or of noisy samples at the level of time ``start``.

    ``tolerance`` is the ODE's, for each sample by itself (``numerics.ode``). ``probes`` is the number of Rademacher
    directions of Hutchinson's trace, fixed along a sample's way; None is the exact trace. Sample i's depend on
    ``seed`` and i. Raises InputError for data that is not finite and for a bad setting; FloatingPointError where an
    estimate is not finite.
    """
    check_tolerance(tolerance)
    check_data(x)
    if probes is not None and probes < 1:
        raise InputError(f"probes: {probes} give no estimate of a trace; give at least 1, or None for the exact one")
    if start is not None and not 0 <= start < 1:
        raise InputError(f"start: {start} is no time to start from; give one in [0, 1), or None for data")
    if start is not None and not denoiser.process.level(start).logsnr.isfinite():
        raise InputError(f"start: at t = {start:g} this clock is at data itself; give None")
    nats, variance, evaluations = [], [], 0
    for i in range(0, len(x), batch):
        log_prob, count = _batch(denoiser, x[i : i + batch], start, tolerance, probes, seed, i, cond)
        evaluations = max(evaluations, count)
        nats.append(-log_prob.mean(1).cpu())
        spread = log_prob.var(1) / log_prob.shape[1] if log_prob.shape[1] > 1 else torch.zeros_like(log_prob[:, 0])
        variance.append((spread if probes != 1 else spread * math.nan).cpu())
        if progress is not None:
            progress(min(i + batch, len(x)), len(x))
    return Exact(torch.cat(nats), torch.cat(variance), x[0].numel(), evaluations)


def _batch(
    denoiser: Denoiser,
    x: Tensor,
    start: float | None,
    tolerance: float,
    probes: int | None,
    seed: int,
    first: int,
    cond: Any,
) -> tuple[Tensor, int]:
    """(log p (B, P) for each probe, evaluations)."""
    process, D = denoiser.process, x[0].numel()
    directions = None
    if probes is not None:
        keys = random.keys(random.derive(seed, "probes"), torch.arange(first, first + len(x)))
        signs = torch.where(random.uniform(keys, 0, probes * D) < 0.5, -1.0, 1.0)
        directions = signs.reshape(len(x), probes, D).movedim(1, 0).to(x.device, torch.float64)
    flow = ProbabilityFlow(denoiser, x.shape[1:], x.dtype, cond)
    theta, last = (angle(process, t, tolerance).to(x.device).expand(len(x)) for t in (start or 0.0, 1.0))

    def rate(at: Tensor, y: Tensor) -> Tensor:
        velocity, trace = divergence(lambda y: flow.velocity(at, y), y[:, :D], directions)
        return torch.cat((velocity, trace), dim=1)

    with torch.no_grad():
        y = torch.cat((x.flatten(1).double(), x.new_zeros(len(x), probes or 1, dtype=torch.float64)), dim=1)
        log_unit = 0.0
        if start is None:
            y = y + theta[:, None] / 2 * rate(theta, y)
        else:
            level = process.level(start)
            unit = torch.hypot(level.alpha, level.sigma).to(x.device)
            y[:, :D] /= unit
            log_unit = D * float(unit.log())
        if bool((theta != last).any()):
            y = integrate(rate, y, theta, last, tolerance)
    normal = -0.5 * (y[:, :D].square() + math.log(2 * math.pi)).sum(1)
    return normal[:, None] + y[:, D:] - log_unit, flow.evaluations


def dequantised_likelihood(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    grid: ValueGrid,
    *,
    by: Literal["noise", "uniform"] = "noise",
    draws: int = 1,
    tolerance: float = 3e-5,
    probes: int | None = None,
    seed: int = 0,
    cond: Any = None,
    batch: int = 256,
    progress: Progress | None = None,
) -> Exact:
    """-log P of data with levels: an upper bound in the mean, tighter with more ``draws``, K, of what fills its cells.

    ``log P(x_0) = log E_u w >= E log (1/K) sum_k w_k``, importance-weighted (Burda et al. 2016). ``uniform``: u in
    each number's cell, ``w = p(u) step^D`` (Theis et al. 2016; Ho et al. 2019). ``noise``: u = x_t at the finest
    level, where the process itself has filled the cells, ``w = p(x_t) P(x_0 | x_t) / q(x_t | x_0)`` with VDM's
    decoder; so a model that was trained on the levels themselves is not asked about values between them, which it has
    never seen.

    ``variance`` is that of a sample's value between draws, nan for one draw. Other arguments, and what is raised, as
    for ``flow_likelihood``; InputError also for numbers that are not on the ``grid``.
    """
    check_data(x_0)
    if draws < 1:
        raise InputError(f"draws: {draws} fill no cell; give at least 1")
    grid.index(x_0)
    process, D = denoiser.process, x_0[0].numel()
    start = finest_time(process, grid) if by == "noise" else None
    source = SeededNoise.samples(seed, len(x_0))
    log_weights, evaluations = [], 0
    for k in range(draws):
        on_batch = None if progress is None else _part(progress, k, draws)
        if start is not None:
            z = source(k, x_0)
            level = process.level(start)
            x = noisy(x_0, z, level)
            squares = z.double().square().flatten(1).sum(1).cpu()
            log_q = -0.5 * (squares + D * math.log(2 * math.pi)) - D * float(level.sigma.log())
            fill = Factorised(grid).log_prob(x_0, x, level).cpu() - log_q
        else:
            keys = random.keys(random.derive(seed, "cells", k), torch.arange(len(x_0)))
            u = random.uniform(keys, 0, D).reshape(x_0.shape).to(x_0) - 0.5
            x = x_0 + grid.step * u
            fill = torch.full((len(x_0),), D * math.log(grid.step), dtype=torch.float64)
        found = flow_likelihood(
            denoiser,
            x,
            start,
            tolerance=tolerance,
            probes=probes,
            seed=random.derive(seed, k),
            cond=cond,
            batch=batch,
            progress=on_batch,
        )
        evaluations += found.evaluations
        log_weights.append(fill - found.nats)
    w = torch.stack(log_weights, dim=1)
    variance = torch.full((len(w),), math.nan, dtype=torch.float64)
    if draws > 1:  # of a log of a mean, to first order
        share = w.softmax(1) * draws
        variance = share.var(1) / draws
    return Exact(-(w.logsumexp(1) - math.log(draws)), variance, D, evaluations)


def _part(progress: Progress, k: int, draws: int) -> Progress:
    return lambda done, total: progress(k * total + done, draws * total)
