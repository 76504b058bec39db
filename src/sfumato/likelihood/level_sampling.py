"""One term of a bound per sample, at a level of its own; and a pilot that predicts how the terms vary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, noise_errors, step_term
from sfumato.core import Level, SeededNoise
from sfumato.core.levels import expand
from sfumato.denoisers import Condition, Denoiser, condition_rows
from sfumato.numerics import random

from .control_variate import ControlVariate
from .intervals import NOISIEST, Intervals

PILOT_LEVELS = 16
PILOT_SAMPLES = 10  # as many as a quarter of all evaluations allows; up to MOST_PILOT_SAMPLES while they cost little
MOST_PILOT_SAMPLES = 64
LITTLE = 0.06  # of all evaluations
LEAST_EVEN, MOST_EVEN = 0.2, 0.5  # of the density, spread evenly over the log-SNR; the more, the fewer the pilot saw
PRIOR_SAMPLES = 2  # samples that a slope equal to the size is worth


class SampleBatch(NamedTuple):
    """Some of the samples to score, with what belongs to each."""

    first: int
    x: Tensor
    noise: SeededNoise
    cond: Condition | None


def batched(x_0: Tensor, cond: Condition | None, seed: int, batch: int) -> Iterator[SampleBatch]:
    """The samples in batches, each sample with its own noise and condition."""
    for first in range(0, len(x_0), batch):
        chosen = slice(first, first + batch)
        x = x_0[chosen]
        yield SampleBatch(first, x, SeededNoise.samples(seed, len(x), first), condition_rows(cond, chosen))


@dataclass(frozen=True, eq=False)
class TermSample:
    """One term per sample, float64 on the CPU, (B,) each.

    Arguments:
        term: the nats of the sample's interval.
        control: the control variate, of mean zero.
        error: the mean square of x_0-hat's error per number.
        t: the times.
        logsnr: the log-SNRs.
    """

    term: Tensor
    control: Tensor
    error: Tensor
    t: Tensor
    logsnr: Tensor


@dataclass(frozen=True, eq=False)
class TermSampler:
    """Denoises each sample in an interval of its own.

    Arguments:
        denoiser: the denoiser to score.
        intervals: the steps of the bound.
        control: the control variate.
        variance: ``step_term``'s ``variance_share``.
        form: ``noise_errors``'s ``form``.
    """

    denoiser: Denoiser
    intervals: Intervals
    control: ControlVariate
    variance: float
    form: Form | None

    def __call__(
        self, samples: SampleBatch, draw: int, n: Int64[Tensor, "b"], position: Float[Tensor, "b"]
    ) -> TermSample:
        """The terms of ``samples`` with draw number ``draw`` of their noise.

        Arguments:
            samples: B samples.
            draw: number of the draw of noise.
            n: interval of each sample.
            position: position in [0, 1] within the interval; unused where levels are given by times.
        """
        intervals, process, x = self.intervals, self.denoiser.process, samples.x
        noise = samples.noise(draw, x)
        weight = intervals.weights[n].to(x.device)
        if intervals.times is None:
            logsnr = intervals.upper[n] + position * (intervals.lower[n] - intervals.upper[n])
            t, level = process.schedule.time(logsnr).clamp(0, 1), process.scaling.at(logsnr)
        else:
            t, level = intervals.times[n], process.scaling.at(intervals.lower[n])
        prediction = self.denoiser(noisy(x, noise, level), t.to(x.device), samples.cond)
        if intervals.times is None:
            term = weight * noise_errors(prediction, x, noise, level, self.form).flatten(1).sum(1)
        else:
            at_s = process.scaling.at(intervals.upper[n])
            term = step_term(prediction, x, noise, level, at_s, self.variance, self.form)
        control = weight * self.control.excess(x, noise, level)
        return TermSample(term.cpu(), control.cpu(), mean_square(prediction.x_0, x).cpu(), t, level.logsnr)

    def decode(
        self, decoder: Decoder, samples: SampleBatch, first: int, draws: int
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """The decoder term and its control for ``draws`` draws of the noise from number ``first`` on."""
        process, finest, x = self.denoiser.process, self.intervals.finest, samples.x
        at = [process.level(t) for t in finest]
        terms, controls = [], []
        for k in range(draws):
            z = samples.noise(first + k, x)
            x_t = noisy(x, z, at[0])
            prediction = self.denoiser(x_t, finest[0].to(x.device), samples.cond) if decoder.needs_prediction else None
            terms.append(-decoder.log_prob(x, x_t, at[0], at[1] if len(at) > 1 else None, prediction).cpu())
            check_term(terms[-1], finest[0])
            controls.append(0.5 * self.control.excess(x, z, at[0]).cpu())
        return torch.stack(terms, dim=1), torch.stack(controls, dim=1)


@dataclass(frozen=True, eq=False)
class Pilot:
    """What a few samples at a few levels predict of the terms.

    Arguments:
        density: the probabilities (N,) with which intervals are best visited.
        slope: the multiple (N,) of the control's excess in a term.
        size: the multiple (N,) of the control's mean in a term.
        final_slope: the same as ``slope``, for the decoder term.
        evaluations: evaluations that the pilot took, over all its samples.
    """

    density: Tensor
    slope: Tensor
    size: Tensor
    final_slope: float
    evaluations: int

    @classmethod
    def none(cls, intervals: Intervals) -> "Pilot":
        """A pilot that predicts nothing: no control is subtracted."""
        zero = torch.zeros_like(intervals.weights)
        return cls(zero, zero, zero, 0.0, 0)

    @classmethod
    def run(
        cls, sampler: TermSampler, x_0: Tensor, cond: Condition | None, decoder: Decoder, budget: int, seed: int
    ) -> "Pilot":
        """Two noises per level and sample show the spread.

        Arguments:
            sampler: what samples the terms.
            x_0: all samples; some are used.
            cond: the condition of all samples, or None.
            decoder: the decoder of the bound.
            budget: evaluations per sample of the whole estimate; the pilot takes at most a quarter.
            seed: random seed.
        """
        intervals, logsnr, weights = sampler.intervals, sampler.intervals.logsnr, sampler.intervals.weights
        samples, rows = _chosen(x_0, cond, budget, seed)
        wanted = torch.linspace(float(logsnr.max()), float(logsnr.min()), rows, dtype=torch.float64)
        visited = torch.unique((logsnr - wanted[:, None]).abs().argmin(1))
        slopes, sizes, spread = _spreads(sampler, samples, visited)
        last, last_control = (pair.diff()[:, 0] for pair in sampler.decode(decoder, samples, 2 * len(visited), 2))
        at = logsnr[visited]
        density = weights * _interpolate(logsnr, at, _widened(spread).clamp(min=1e-300).log()).exp()
        even = intervals.upper - intervals.lower.clamp(min=NOISIEST)
        share = min(max(LEAST_EVEN, len(samples.x) ** -0.5), MOST_EVEN)
        density = (1 - share) * density / density.sum() + share * even / even.sum()
        return cls(
            density=density,
            slope=_interpolate(logsnr, at, slopes),
            size=_interpolate(logsnr, at, sizes),
            final_slope=_slope(last, last_control),
            evaluations=(2 * len(visited) + 2 * decoder.needs_prediction) * len(samples.x),
        )


def _chosen(x_0: Tensor, cond: Condition | None, budget: int, seed: int) -> tuple[SampleBatch, int]:
    """The samples of a pilot, spread over all of them, and how many levels it visits."""
    affordable = budget * len(x_0) // 8
    cheap = int(LITTLE * budget * len(x_0) / (2 * PILOT_LEVELS + 2))
    count = max(1, min(max(PILOT_SAMPLES, min(cheap, MOST_PILOT_SAMPLES)), len(x_0), affordable // PILOT_LEVELS))
    index = torch.linspace(0, len(x_0) - 1, count).round().long()
    noise = SeededNoise(random.keys(random.derive(seed, "pilot"), torch.arange(count)))
    samples = SampleBatch(0, x_0[index.to(x_0.device)], noise, condition_rows(cond, index))
    return samples, max(2, min(PILOT_LEVELS, affordable // count))


def _spreads(
    sampler: TermSampler, samples: SampleBatch, visited: Int64[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"], Float[Tensor, "n"]]:
    """At each of the ``visited`` intervals: slope, size, and the spread that they leave, per unit of weight.

    Slope and size change slowly with the level, so each is pooled with its neighbours'. They are equal where the error
    is a multiple of the control, which is what the slope of few samples is drawn to.
    """
    count, middle = len(samples.x), torch.full((len(samples.x),), 0.5, dtype=torch.float64)
    known = sampler.control.mean_errors(samples.x, sampler.intervals.level).cpu()[:, visited].T
    pairs = []
    for row, n in enumerate(visited):
        a, b = (sampler(samples, 2 * row + k, n.expand(count), middle) for k in (0, 1))
        pairs.append(torch.stack((a.term, b.term, a.control, b.control)) / sampler.intervals.weights[n])
    term, control = torch.stack(pairs).reshape(-1, 2, 2, count).unbind(1)  # (n, 2, count)
    size = _pooled(term.sum((1, 2)) / (2 * known.sum(1)))
    scale = known.square().sum(1)
    rise, run = term.diff(dim=1)[:, 0], control.diff(dim=1)[:, 0]
    slope = _pooled((rise * run).sum(1) / scale) / _pooled(run.square().sum(1) / scale).clamp(min=1e-300)
    slope = ((count * slope + PRIOR_SAMPLES * size.clamp(0, 1)) / (count + PRIOR_SAMPLES)).clamp(0, 2)
    left = term - slope[:, None, None] * control - (size[:, None] * known)[:, None]
    return slope, size, left.square().mean((1, 2)).sqrt()


def _pooled(values: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Each value with its two neighbours, with weights 1 : 2 : 1."""
    beside = torch.nn.functional.pad(values[None], (1, 1), mode="replicate")[0]
    return (beside[:-2] + 2 * values + beside[2:]) / 4


def _widened(spread: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """The largest spread of each level and its two neighbours, whose order is that of the levels.

    Large errors are rare where a denoiser is nearly sure. A pilot seldom sees one there, but it does next to there.
    """
    beside = torch.nn.functional.pad(spread, (1, 1))
    return torch.stack((beside[:-2], spread, beside[2:])).amax(0)


def _slope(term: Tensor, control: Tensor) -> float:
    """The least-squares slope of ``term`` on ``control``, both of mean zero; kept in [0, 2], the plausible range."""
    return float(((term * control).sum() / control.square().sum().clamp(min=1e-300)).clamp(0, 2))


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Linear between ``knots`` (falling or rising), constant beyond."""
    order = knots.argsort()
    knots, values = knots[order], values[order]
    if len(knots) == 1:
        return values.expand(len(x))
    k = torch.searchsorted(knots, x).clamp(1, len(knots) - 1)
    fraction = ((x - knots[k - 1]) / (knots[k] - knots[k - 1])).clamp(0, 1)
    return values[k - 1] + fraction * (values[k] - values[k - 1])


def noisy(x: Tensor, noise: Tensor, level: Level) -> Tensor:
    """``alpha x + sigma noise``."""
    return expand(level.alpha, x) * x + expand(level.sigma, x) * noise


def mean_square(estimate: Tensor, x: Tensor) -> Float[Tensor, "b"]:
    """The mean square of ``estimate - x`` per number."""
    return (estimate.double() - x.double()).square().flatten(1).mean(1)


def check_term(term: Tensor, t: Tensor) -> None:
    """Raises FloatingPointError, with the time, where a term is not finite."""
    finite = term.isfinite()
    if not finite.all():
        time = t.expand(len(term))[~finite.to(t.device)][0]
        raise FloatingPointError(f"likelihood: the term at t = {float(time):.6g} is not finite")
