"""The exact log-likelihood under a denoiser's probability flow (Song et al. 2021, section 4.3).

    log p(y_0) = log N(y_1; 0, I) + integral over theta of tr(dv / dy)

along ``dy / d theta = v(y, theta)``, in the angle and units of ``denoisers.flow``. From data itself, where v is zero,
to the finest level the integral is one trapezium: no network is evaluated at levels below those it was trained on.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Factorised
from sfumato.bounds.terms import finest_time
from sfumato.core import Process, SeededNoise, ValueGrid
from sfumato.denoisers import Condition, Denoiser, check_rows, condition_rows
from sfumato.denoisers.flow import ProbabilityFlow, angle, check_tolerance
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.divergence import divergence
from sfumato.numerics.integers import optional, whole
from sfumato.numerics.ode import integrate
from sfumato.reporting import Progress

from .bits import Estimate, bits_per_dim
from .bound import check_data
from .level_sampling import noisy


@dataclass(frozen=True, eq=False)
class Exact:
    """Negative log-likelihoods.

    The variance is that of Hutchinson's probes and of the draws of a dequantisation: 0 for an exact trace of continuous
    data, nan where there was one probe or one draw.

    Arguments:
        nats: the negative log-likelihood (B,) of each sample.
        variance: the variance (B,) of each value as an estimate.
        dimensions: numbers per sample.
        evaluations: evaluations of the denoiser per sample.
    """

    nats: Tensor
    variance: Tensor
    dimensions: int
    evaluations: int

    def shifted(self, nats: Float[Tensor, "b"]) -> "Exact":
        """The same values with ``nats`` (B,) added: a change of the data's units."""
        return replace(self, nats=self.nats + nats.to(self.nats.device))

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
    probes: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Exact:
    """-log p of ``x`` in nats: a density of data, or of noisy samples at the level of time ``start``.

    Arguments:
        denoiser: the denoiser to score.
        x: samples (B, *) in model units.
        start: the time of ``x``; None for data.
        tolerance: the ODE's error per step, for each sample by itself (``numerics.ode``).
        probes: number of Rademacher directions of Hutchinson's trace, fixed along a sample's path; None for the exact
            trace. Those of sample i depend on ``seed`` and i.
        seed: random seed.
        cond: the condition of each sample, or None.
        batch: samples per evaluation.
        progress: called with the samples that are done.

    Raises:
        InputError: no data, data that is not finite, a bad setting, or a condition with another number of rows.
        FloatingPointError: an estimate is not finite.

    References:
        Song et al. 2021, section 4.3; Hutchinson 1990.
    """
    probes, seed, batch = optional("probes", probes, 1), whole("seed", seed), whole("batch", batch, 1)
    check_rows(cond, len(x))
    _check_settings(denoiser, x, start, tolerance)
    nats, variance, evaluations = [], [], 0
    for i in range(0, len(x), batch):
        rows = slice(i, i + batch)
        directions = None if probes is None else _directions(x[rows], probes, seed, i)
        log_prob, count = _log_prob(denoiser, x[rows], start, tolerance, directions, condition_rows(cond, rows))
        evaluations = max(evaluations, count)
        nats.append(-log_prob.mean(1).cpu())
        spread = log_prob.var(1) / log_prob.shape[1] if log_prob.shape[1] > 1 else torch.zeros_like(log_prob[:, 0])
        variance.append((spread if probes != 1 else spread * math.nan).cpu())
        if progress is not None:
            progress(min(i + batch, len(x)), len(x))
    return Exact(torch.cat(nats), torch.cat(variance), x[0].numel(), evaluations)


def _check_settings(denoiser: Denoiser, x: Tensor, start: float | None, tolerance: float) -> None:
    check_tolerance(tolerance)
    check_data(x)
    if start is not None and not 0 <= start < 1:
        raise InputError(f"start: {start} is no time to start from; give one in [0, 1), or None for data")
    if start is not None and not denoiser.process.level(start).logsnr.isfinite():
        raise InputError(f"start: at t = {start:g} this clock is at data itself; give None")


def _directions(x: Tensor, probes: int, seed: int, first: int) -> Float[Tensor, "p b d"]:
    """Random signs for the samples from number ``first`` on."""
    D = x[0].numel()
    keys = random.keys(random.derive(seed, "probes"), torch.arange(first, first + len(x)))
    signs = torch.where(random.uniform(keys, 0, probes * D) < 0.5, -1.0, 1.0)
    return signs.reshape(len(x), probes, D).movedim(1, 0).to(x.device, torch.float64)


def _log_prob(
    denoiser: Denoiser,
    x: Tensor,
    start: float | None,
    tolerance: float,
    directions: Float[Tensor, "p b d"] | None,
    cond: Condition | None,
) -> tuple[Float[Tensor, "b p"], int]:
    """log p for each probe, or one with the exact trace; and the evaluations."""
    process, D = denoiser.process, x[0].numel()
    flow = ProbabilityFlow(denoiser, x.shape[1:], x.dtype, cond)
    theta, last = (angle(process, t, tolerance).to(x.device).expand(len(x)) for t in (start or 0.0, 1.0))

    def rate(at: Tensor, y: Tensor) -> Tensor:
        velocity, trace = divergence(lambda y: flow.velocity(at, y), y[:, :D], directions)
        return torch.cat((velocity, trace), dim=1)

    with torch.no_grad():
        traces = x.new_zeros(len(x), 1 if directions is None else len(directions), dtype=torch.float64)
        y = torch.cat((x.flatten(1).double(), traces), dim=1)
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
    draws: SupportsIndex = 1,
    tolerance: float = 3e-5,
    probes: SupportsIndex | None = None,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Exact:
    """-log P of data on a grid of values: an upper bound in the mean, tighter with more ``draws`` K.

    ``log P(x_0) = log E_u w >= E log (1/K) sum_k w_k``, importance-weighted. ``uniform``: u in each number's cell,
    ``w = p(u) step^D``. ``noise``: u = x_t at the finest level, where the process itself has filled the cells,
    ``w = p(x_t) P(x_0 | x_t) / q(x_t | x_0)`` with VDM's decoder; a model that was trained on the values themselves is
    then not evaluated between them, where it has seen nothing.

    Arguments:
        denoiser: the denoiser to score.
        x_0: samples (B, *) in model units, on the grid.
        grid: the values of the data.
        by: how cells are filled.
        draws: K, importance-weighted.
        tolerance: as for ``flow_likelihood``.
        probes: as for ``flow_likelihood``.
        seed: random seed.
        cond: the condition of each sample, or None.
        batch: samples per evaluation.
        progress: called with the samples that are done, over all draws.

    Raises:
        InputError: as for ``flow_likelihood``; also for numbers that are not on the grid.
        FloatingPointError: an estimate is not finite.

    References:
        Theis et al. 2016; Ho et al. 2019 (uniform); Kingma et al. 2021, eq. 8 (the decoder); Burda et al. 2016 (K).
    """
    check_data(x_0)
    check_rows(cond, len(x_0))
    draws, seed, batch = whole("draws", draws, 1), whole("seed", seed), whole("batch", batch, 1)
    grid.index(x_0)
    start = finest_time(denoiser.process, grid) if by == "noise" else None
    log_weights, evaluations = [], 0
    settings: dict[str, Any] = {"tolerance": tolerance, "probes": probes, "cond": cond, "batch": batch}
    for k in range(draws):
        x, fill = _uniform(x_0, grid, seed, k) if start is None else _noise(denoiser.process, x_0, grid, start, seed, k)
        counted = None if progress is None else _one_of(draws, k, progress)
        found = flow_likelihood(denoiser, x, start, seed=random.derive(seed, k), progress=counted, **settings)
        evaluations += found.evaluations
        log_weights.append(fill - found.nats)
    nats, variance = _averaged(torch.stack(log_weights, dim=1))
    return Exact(nats, variance, x_0[0].numel(), evaluations)


def _averaged(log_weights: Float[Tensor, "b k"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Minus the log of the mean weight, and its variance to first order; nan for one draw."""
    draws = log_weights.shape[1]
    nats = -(log_weights.logsumexp(1) - math.log(draws))
    return nats, (log_weights.softmax(1) * draws).var(1) / draws if draws > 1 else torch.full_like(nats, math.nan)


def _noise(
    process: Process, x_0: Tensor, grid: ValueGrid, start: float, seed: int, draw: int
) -> tuple[Tensor, Float[Tensor, "b"]]:
    """x_t at time ``start``, and ``log P(x_0 | x_t) / q(x_t | x_0)``."""
    D, level = x_0[0].numel(), process.level(start)
    z = SeededNoise.samples(seed, len(x_0))(draw, x_0)
    x = noisy(x_0, z, level)
    squares = z.double().square().flatten(1).sum(1).cpu()
    log_q = -0.5 * (squares + D * math.log(2 * math.pi)) - D * float(level.sigma.log())
    return x, Factorised(grid).log_prob(x_0, x, level).cpu() - log_q


def _uniform(x_0: Tensor, grid: ValueGrid, seed: int, draw: int) -> tuple[Tensor, Float[Tensor, "b"]]:
    """Data spread over its cells, and the log of a cell's volume."""
    D = x_0[0].numel()
    keys = random.keys(random.derive(seed, "cells", draw), torch.arange(len(x_0)))
    u = random.uniform(keys, 0, D).reshape(x_0.shape).to(x_0) - 0.5
    return x_0 + grid.step * u, torch.full((len(x_0),), D * math.log(grid.step), dtype=torch.float64)


def _one_of(draws: int, draw: int, progress: Progress) -> Progress:
    return lambda done, total: progress(draw * total + done, draws * total)
