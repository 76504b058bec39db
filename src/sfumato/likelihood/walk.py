"""The whole walk: every level of a bound is visited.

DDPM's levels are 1 .. T of its chain and VDM's are 0 .. T of any grid (Ho et al. 2020, eq. 5; Kingma et al. 2021,
eq. 11).
"""

import math
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.bounds import Decoder
from sfumato.bounds.terms import Form, prior_term
from sfumato.denoisers import Condition, Denoiser, check_rows
from sfumato.numerics.integers import optional, whole
from sfumato.reporting import Progress

from .bound import BatchTerms, Bound, Counter, check_data
from .control_variate import ControlVariate
from .intervals import Intervals
from .level_sampling import Pilot, SampleBatch, TermSampler, batched, check_term

WALK_EVALUATIONS = 64  # a short walk draws the noise of each level several times, for about this many evaluations
STEPS_PER_DECODER_DRAW = 20  # the decoder term is often the noisiest, and is drawn once per this many steps
PILOT_BUDGET = 64  # evaluations per sample, of which the pilot may take a quarter
FEWEST = 8  # samples that a pilot can learn from


@torch.no_grad()
def walk(
    denoiser: Denoiser,
    x_0: Float[Tensor, "b *s"],
    decoder: Decoder,
    times: Float[Tensor, "n"],
    *,
    draws: SupportsIndex | None = None,
    variance: float = 0.0,
    form: Form | None = None,
    seed: SupportsIndex = 0,
    cond: Condition | None = None,
    batch: SupportsIndex = 256,
    progress: Progress | None = None,
) -> Bound:
    """The bound over all of ``times``.

    The noise of sample i depends on ``seed`` and i alone. From 8 samples on, a control variate reduces the variance of
    ``steps`` and ``decoder`` (see ``estimate``); ``contributions`` are the plain terms. With one draw per level,
    ``Bound.variance`` comes from second differences of neighbouring levels.

    Arguments:
        denoiser: the denoiser to score.
        x_0: samples (B, *) in model units.
        decoder: the last term of the bound.
        times: rising times; see ``walk_times``.
        draws: draws of noise per level; None for as many as make 64 evaluations.
        variance: ``step_term``'s ``variance_share``: 0 for the posterior's variance, 1 for beta. A learned variance
            takes precedence.
        form: ``noise_errors``'s ``form``.
        seed: random seed.
        cond: the condition of each sample, or None.
        batch: samples per evaluation.
        progress: called with the evaluations of batches.

    Raises:
        InputError: no data, data that is not finite, bad times, or a condition with another number of rows.
        FloatingPointError: a term is not finite; names the time.
    """
    draws, batch, seed = optional("draws", draws, 1), whole("batch", batch, 1), whole("seed", seed)
    check_data(x_0)
    check_rows(cond, len(x_0))
    intervals = Intervals.of(denoiser.process, times)
    steps = len(times) - 1
    if draws is None:
        draws = -(-WALK_EVALUATIONS // steps)
    last_draws = max(2, steps * draws // STEPS_PER_DECODER_DRAW)
    sampler = TermSampler(denoiser, intervals, ControlVariate.of(x_0), variance, form)
    pilot = Pilot.none(intervals)
    if len(x_0) >= FEWEST:
        pilot = Pilot.run(sampler, x_0, cond, decoder, PILOT_BUDGET, seed)
    evaluations = steps * draws + last_draws * decoder.needs_prediction
    counter = Counter(progress, evaluations * -(-len(x_0) // batch))
    batches = [
        _walk_batch(sampler, pilot, decoder, samples, draws, last_draws, counter)
        for samples in batched(x_0, cond, seed, batch)
    ]
    prior = prior_term(denoiser.process, x_0, float(times[-1])).cpu()
    return Bound.of(prior, batches, x_0[0].numel(), evaluations + pilot.evaluations / len(x_0))


def _walk_batch(
    sampler: TermSampler,
    pilot: Pilot,
    decoder: Decoder,
    samples: SampleBatch,
    draws: int,
    last_draws: int,
    counter: Counter,
) -> BatchTerms:
    intervals, count = sampler.intervals, len(samples.x)
    steps = len(intervals.lower)
    terms, controls, errors = (torch.zeros(count, steps, draws, dtype=torch.float64) for _ in range(3))
    middle = torch.full((count,), 0.5, dtype=torch.float64)
    for n in range(steps):
        for k in range(draws):
            found = sampler(samples, n * draws + k, torch.full((count,), n), middle)
            check_term(found.term, found.t)
            terms[:, n, k], controls[:, n, k], errors[:, n, k] = found.term, found.control, found.error
            counter.add()
    last, last_control = sampler.decode(decoder, samples, steps * draws, last_draws)
    counter.add(last_draws * decoder.needs_prediction)
    left = terms - pilot.slope[:, None] * controls
    decoded = last - pilot.final_slope * last_control
    # A change from level to level that is known is not noise.
    known = intervals.weights * pilot.size * sampler.control.mean_errors(samples.x, intervals.level).cpu()
    return BatchTerms(
        steps=left.mean(2).sum(1),
        decoder=decoded.mean(1),
        contributions=terms.mean(2),
        logsnr=intervals.lower.expand(count, -1),
        errors=errors.mean(2),
        variance=_noise_variance(left - known[:, :, None]) + decoded.var(1) / last_draws,
    )


def _noise_variance(terms: Float[Tensor, "b n k"]) -> Float[Tensor, "b"]:
    """The variance of the sum over n of the means over k."""
    if terms.shape[2] > 1:
        return terms.var(2).sum(1) / terms.shape[2]
    if terms.shape[1] < 3:
        return torch.full((len(terms),), math.nan, dtype=terms.dtype)
    # The square of (a - 2 b + c) holds the variances 1 : 4 : 1 and no straight trend. A sixth of their sum has each
    # level once, except the two at either end; the first and the last square are added whole, to cover the ends.
    second = (terms[:, :-2, 0] - 2 * terms[:, 1:-1, 0] + terms[:, 2:, 0]).square()
    return second.sum(1) / 6 + 5 / 6 * (second[:, 0] + second[:, -1])
