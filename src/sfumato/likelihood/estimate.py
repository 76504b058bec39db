"""The bound from few visits of its many levels, or of infinitely many.

    sum_n L_n  =  E_{n ~ p} [L_n / p_n]

Each sample draws its own levels, two in each of S strata of equal probability, and the differences within the pairs
give the variance of its value. The error of a Gaussian denoiser on the same noise (``control_variate``) has a known
mean, so two multiples of it are subtracted from each term and their exact sum over all levels is added back: ``slope``
times its excess on this noise, and ``size`` times its mean for this sample. Near data the error of every denoiser is
``|eps|^2``, and near pure noise ``|x_0 - mean|^2``; the control removes most of the variance due to noise and levels.
A pilot of a few samples finds slope and size, and p, which is proportional to the spread that is left.

Where errors are rare and large, the pilot may miss them, and so may the pairs: a share of p is even, a larger one the
fewer samples the pilot has, and error bars are wider for skewness and few degrees of freedom (``Estimate``).
"""

from dataclasses import replace
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, prior_term
from sfumato.denoisers import Condition, Denoiser, check_rows
from sfumato.errors import InputError
from sfumato.numerics import random
from sfumato.numerics.integers import whole
from sfumato.reporting import Progress

from .bound import BatchTerms, Bound, Counter, check_data
from .control_variate import ControlVariate
from .intervals import Intervals, Span
from .level_sampling import Pilot, SampleBatch, TermSampler, batched, check_term


@torch.no_grad()
def estimate(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    decoder: Decoder,
    times: Float[Tensor, "n"] | Span,
    *,
    evaluations: SupportsIndex = 50,
    variance: float = 0.0,
    form: Form | None = None,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Bound:
    """The bound over ``times``, or over a ``Span``, from few evaluations.

    It is unbiased for each sample. A sample's value depends on ``seed``, on its index and, through the pilot, on the
    other samples.

    Arguments:
        denoiser: the denoiser to score.
        x_0: samples (B, *) in model units.
        decoder: the last term of the bound.
        times: rising times, or a span.
        evaluations: evaluations per sample at most, including the pilot's.
        variance: ``step_term``'s ``variance_share``.
        form: ``noise_errors``'s ``form``.
        seed: random seed.
        cond: the condition of each sample, or None.
        batch: samples per evaluation.
        progress: called with the evaluations of batches.

    Raises:
        InputError: as for ``walk``; also where ``evaluations`` are too few for one pair of visits.
        FloatingPointError: a term is not finite; names the time.
    """
    evaluations, batch, seed = whole("evaluations", evaluations), whole("batch", batch, 1), whole("seed", seed)
    check_data(x_0)
    check_rows(cond, len(x_0))
    intervals = Intervals.of(denoiser.process, times)
    sampler = TermSampler(denoiser, intervals, ControlVariate.of(x_0), variance, form)
    pilot = Pilot.run(sampler, x_0, cond, decoder, evaluations, seed)
    strata = int((evaluations - 2 * decoder.needs_prediction - pilot.evaluations / len(x_0)) // 2)
    if strata < 1:
        raise InputError(f"evaluations: {evaluations} are too few for pilot, decoder and a pair; give 12 or more")
    taken = 2 * strata + 2 * decoder.needs_prediction
    counter = Counter(progress, taken * -(-len(x_0) // batch))
    batches, cells = zip(
        *(
            _estimate_batch(sampler, pilot, decoder, samples, strata, seed, counter)
            for samples in batched(x_0, cond, seed, batch)
        ),
        strict=True,
    )
    noisiest = times.last if isinstance(times, Span) else float(times[-1])
    prior = prior_term(denoiser.process, x_0, noisiest).cpu()
    found = Bound.of(prior, batches, x_0[0].numel(), taken + pilot.evaluations / len(x_0))
    return replace(found, skewness=pair_skewness(torch.cat(cells)))


def pair_skewness(cells: Float[Tensor, "b s 2"]) -> float:
    """The skewness of the sum of all cells: two independent draws a, b from each of S strata of B samples.

    ``E (a - b)^2`` is the variance of a + b, and ``E (a - b)^2 (a + b - 2 mean)`` its third central moment. The mean is
    that of the stratum over all samples.
    """
    squares = cells.diff(dim=2)[:, :, 0].square()
    away = cells.sum(2) - cells.sum(2).mean(0)
    variance = float(squares.sum())
    return float((squares * away).sum()) / variance**1.5 if variance > 0 else 0.0


def _estimate_batch(
    sampler: TermSampler,
    pilot: Pilot,
    decoder: Decoder,
    samples: SampleBatch,
    strata: int,
    seed: int,
    counter: Counter,
) -> tuple[BatchTerms, Float[Tensor, "b s 2"]]:
    """What the visits of a batch found, and the pairs of draws that its variance comes from."""
    intervals, density, count = sampler.intervals, pilot.density, len(samples.x)
    cumulative = density.cumsum(0)
    index = torch.arange(samples.first, samples.first + count)
    uniforms = random.uniform(random.keys(random.derive(seed, "levels"), index), 0, 2 * strata)
    contributions, left, errors, logsnr = (torch.zeros(count, 2 * strata, dtype=torch.float64) for _ in range(4))
    expected = intervals.weights * pilot.size * sampler.control.mean_errors(samples.x, intervals.level).cpu()
    rows = torch.arange(count)
    for k in range(2 * strata):
        u = (k // 2 + uniforms[:, k]) / strata
        n = torch.searchsorted(cumulative, u).clamp(max=len(density) - 1)
        position = ((u - cumulative[n]) / density[n] + 1).clamp(0, 1)
        found = sampler(samples, k, n, position)
        check_term(found.term, found.t)
        visits = 2 * strata * density[n]
        contributions[:, k] = found.term / visits
        left[:, k] = (found.term - pilot.slope[n] * found.control - expected[rows, n]) / visits
        errors[:, k], logsnr[:, k] = found.error, found.logsnr
        counter.add()
    last, last_control = sampler.decode(decoder, samples, 2 * strata, 2)
    counter.add(2 * decoder.needs_prediction)
    final = last - pilot.final_slope * last_control
    cells = torch.cat((left, final / 2), dim=1).reshape(count, -1, 2)
    terms = BatchTerms(
        steps=expected.sum(1) + left.sum(1),
        decoder=final.mean(1),
        contributions=contributions,
        logsnr=logsnr,
        errors=errors,
        variance=cells.diff(dim=2)[:, :, 0].square().sum(1),
    )
    return terms, cells
