"""Visits of a bound's levels: what a sample pays in one cell of the walk, and what a pilot foresees."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, noise_errors, step_term
from sfumato.core import Level, Process, SeededNoise
from sfumato.core.levels import expand
from sfumato.denoisers import Denoiser
from sfumato.errors import InputError
from sfumato.numerics import random

from .control import Control

PILOT_LEVELS = 16
PILOT_SAMPLES = 10
CELLS = 1024  # of a span, equal in log-SNR: p is constant on each
_LEAST = 0.05  # of p, spread evenly over the log-SNR: where the pilot saw nothing there may be something
_FAR = -30.0  # the log-SNR that stands for pure noise where a number is needed


@dataclass(frozen=True)
class Span:
    """The walk with infinitely many levels between times ``first`` and ``last``: VDM's continuous-time bound.

    ``integral of |eps - eps-hat|^2 / 2 d logsnr`` (Kingma et al. 2021, eq. 18): nothing of the clock but its ends.
    """

    first: float
    last: float = 1.0


@dataclass(frozen=True, eq=False)
class Cells:
    """The steps of a walk from data on: cell n goes from log-SNR ``upper[n]`` down to ``lower[n]``, all (N,).

    ``times`` are those of the lower ends, None where levels are everywhere; ``finest`` those that the decoder needs.
    """

    process: Process
    upper: Tensor
    lower: Tensor
    times: Tensor | None
    finest: Tensor

    @classmethod
    def of(cls, process: Process, times: Tensor | Span) -> "Cells":
        """Raises InputError for times that are not rising in [0, 1], or begin at data itself."""
        ends = torch.tensor([times.first, times.last], dtype=torch.float64) if isinstance(times, Span) else times
        if len(ends) < 2 or not bool((ends.diff() > 0).all()) or ends[0] < 0 or ends[-1] > 1:
            raise InputError("times: give two or more in rising order, in [0, 1]")
        logsnr = process.level(ends).logsnr
        if not bool(logsnr[0].isfinite()):
            raise InputError(f"times: t = {float(ends[0]):g} is data itself; begin where there is some noise")
        if not isinstance(times, Span):
            return cls(process, logsnr[:-1], logsnr[1:], times[1:], times[:2])
        edges = torch.linspace(float(logsnr[0]), max(float(logsnr[1]), _FAR), CELLS + 1, dtype=torch.float64)
        return cls(process, edges[:-1], edges[1:], None, ends[:1])

    @property
    def places(self) -> Tensor:
        """The log-SNR where a cell is denoised, or its middle."""
        return (self.lower if self.times is not None else (self.lower + self.upper) / 2).clamp(min=_FAR)

    @property
    def middles(self) -> Level:
        """The levels there."""
        return self.process.scaling.at(self.places)

    @property
    def weights(self) -> Tensor:
        """What a square error of eps costs in each cell."""
        if self.times is None:
            return 0.5 * (self.upper - self.lower)
        return 0.5 * torch.expm1(self.upper - self.lower.clamp(min=_FAR))


@dataclass(frozen=True, eq=False)
class Seen:
    """Of one visit, float64 on the CPU: the cell's cost, the control's less its mean, x_0-hat's error; (B,) each."""

    term: Tensor
    control: Tensor
    distance: Tensor
    t: Tensor
    logsnr: Tensor


@dataclass(frozen=True, eq=False)
class Visit:
    """Denoises each sample in a cell of its own."""

    denoiser: Denoiser
    cells: Cells
    control: Control
    variance: float
    form: Form | None
    cond: Any

    def __call__(self, x: Tensor, noise: Tensor, n: Int64[Tensor, "b"], place: Float[Tensor, "b"]) -> Seen:
        """In cells ``n``, at ``place`` in [0, 1] of each where levels are everywhere."""
        cells, process = self.cells, self.denoiser.process
        weight = cells.weights[n].to(x.device)
        if cells.times is None:
            logsnr = cells.upper[n] + place * (cells.lower[n] - cells.upper[n])
            t, level = process.schedule.time(logsnr).clamp(0, 1), process.scaling.at(logsnr)
        else:
            t, level = cells.times[n], process.scaling.at(cells.lower[n])
        prediction = self.denoiser(noisy(x, noise, level), t.to(x.device), self.cond)
        if cells.times is None:
            term = weight * noise_errors(prediction, x, noise, level, self.form).flatten(1).sum(1)
        else:
            at_s = process.scaling.at(cells.upper[n])
            term = step_term(prediction, x, noise, level, at_s, self.variance, self.form)
        control = weight * self.control.excess(x, noise, level)
        return Seen(term.cpu(), control.cpu(), distance(prediction.x_0, x).cpu(), t, level.logsnr)

    def decode(
        self, decoder: Decoder, x: Tensor, noise: SeededNoise, first: int, draws: int
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """The decoder term for ``draws`` draws of the noise from ``first`` on, and the control for each."""
        process, finest = self.denoiser.process, self.cells.finest
        at = [process.level(t) for t in finest]
        terms, controls = [], []
        for k in range(draws):
            z = noise(first + k, x)
            x_t = noisy(x, z, at[0])
            prediction = self.denoiser(x_t, finest[0].to(x.device), self.cond) if decoder.needs_prediction else None
            terms.append(-decoder.log_prob(x, x_t, at[0], at[1] if len(at) > 1 else None, prediction).cpu())
            check_term(terms[-1], finest[0])
            controls.append(0.5 * self.control.excess(x, z, at[0]).cpu())
        return torch.stack(terms, dim=1), torch.stack(controls, dim=1)


@dataclass(frozen=True, eq=False)
class Pilot:
    """From a few samples at a few levels: the ``density`` p, and ``slope`` and ``size`` of the terms by the control's.

    All three (N,); ``final_slope`` is the decoder term's.
    """

    density: Tensor
    slope: Tensor
    size: Tensor
    final_slope: float
    evaluations: int

    @classmethod
    def none(cls, cells: Cells) -> "Pilot":
        """Knows nothing: no control is taken off."""
        zero = torch.zeros_like(cells.weights)
        return cls(zero, zero, zero, 0.0, 0)

    @classmethod
    def run(cls, visit: Visit, x_0: Tensor, decoder: Decoder, budget: int, seed: int) -> "Pilot":
        """Two noises a level and sample tell the spread; at most a quarter of the whole ``budget`` is spent on it."""
        cells, places, weights = visit.cells, visit.cells.places, visit.cells.weights
        affordable = budget * len(x_0) // 8
        count = max(1, min(PILOT_SAMPLES, len(x_0), affordable // PILOT_LEVELS))
        x = x_0[torch.linspace(0, len(x_0) - 1, count).round().long().to(x_0.device)]
        rows = max(2, min(PILOT_LEVELS, affordable // count))
        wanted = torch.linspace(float(places.max()), float(places.min()), rows, dtype=torch.float64)
        chosen = torch.unique((places - wanted[:, None]).abs().argmin(1))
        noise = SeededNoise(random.keys(random.derive(seed, "pilot"), torch.arange(count)))
        mean_errors = visit.control.mean_errors(x, cells.middles).cpu()
        middle = torch.full((count,), 0.5, dtype=torch.float64)
        found = []
        for row, n in enumerate(chosen):
            a, b = (visit(x, noise(2 * row + k, x), n.expand(count), middle) for k in (0, 1))
            term, control = a.term - b.term, a.control - b.control
            slope = _slope(term, control)
            known = weights[n] * mean_errors[:, n]
            size = float((a.term + b.term).sum() / (2 * known).sum())
            left = [seen.term - slope * seen.control - size * known for seen in (a, b)]
            found.append((slope, size, float(torch.cat(left).square().mean().sqrt() / weights[n])))
        slopes, sizes, spread = torch.tensor(found, dtype=torch.float64).T
        last, last_control = (pair.diff()[:, 0] for pair in visit.decode(decoder, x, noise, 2 * len(chosen), 2))
        at = places[chosen]
        unit = _interpolate(places, at, spread.clamp(min=1e-300).log()).exp()
        density = weights * unit
        even = cells.upper - cells.lower.clamp(min=_FAR)
        density = (1 - _LEAST) * density / density.sum() + _LEAST * even / even.sum()
        spent = (2 * len(chosen) + 2 * decoder.needs_prediction) * count
        return cls(
            density=density,
            slope=_interpolate(places, at, slopes),
            size=_interpolate(places, at, sizes),
            final_slope=_slope(last, last_control),
            evaluations=spent,
        )


def _slope(term: Tensor, control: Tensor) -> float:
    """The least-squares slope of one on the other, both of mean zero; within [0, 2], where sense lies."""
    return float(((term * control).sum() / control.square().sum().clamp(min=1e-300)).clamp(0, 2))


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Linear between ``knots`` (falling or rising), constant beyond."""
    order = knots.argsort()
    knots, values = knots[order], values[order]
    if len(knots) == 1:
        return values.expand(len(x))
    k = torch.searchsorted(knots, x).clamp(1, len(knots) - 1)
    share = ((x - knots[k - 1]) / (knots[k] - knots[k - 1])).clamp(0, 1)
    return values[k - 1] + share * (values[k] - values[k - 1])


def batched(x_0: Tensor, seed: int, batch: int) -> Iterator[tuple[Tensor, SeededNoise]]:
    """The samples by the batch, each with noise of its own."""
    for i in range(0, len(x_0), batch):
        x = x_0[i : i + batch]
        yield x, SeededNoise.samples(seed, len(x), i)


def noisy(x: Tensor, noise: Tensor, level: Level) -> Tensor:
    """``alpha x + sigma noise``."""
    return expand(level.alpha, x) * x + expand(level.sigma, x) * noise


def distance(estimate: Tensor, x: Tensor) -> Float[Tensor, "b"]:
    """The mean square of ``estimate - x`` a number."""
    return (estimate.double() - x.double()).square().flatten(1).mean(1)


def check_term(term: Tensor, t: Tensor) -> None:
    """Raises FloatingPointError where a term is not finite, with the time."""
    finite = term.isfinite()
    if not finite.all():
        time = t.expand(len(term))[~finite.to(t.device)][0]
        raise FloatingPointError(f"likelihood: the term at t = {float(time):.6g} is not finite")
