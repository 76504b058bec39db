"""The bound from few visits: without bias, with error bars that are true, at a twentieth of the walk's cost.

Copies of a sample in one batch have noise and levels of their own, so that one call is many repetitions. Seeds are
fixed; what a test would see and how often it would cry wolf over seeds is said in each.
"""

import math

import pytest
import torch
from torch import Tensor

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian, Factorised
from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight, Tabulated, ValueGrid, linear_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.likelihood import Span, estimate, finest_time, walk, walk_times
from sfumato.likelihood.intervals import SPAN_INTERVALS

F64 = torch.float64
DECODER = ContinuousGaussian()
CHAIN = Process(VP(), Tabulated(linear_betas(1000)))


def draw(mixture: GaussianMixture, count: int, seed: int = 5) -> Tensor:
    return mixture.sample(count, torch.Generator().manual_seed(seed))


def grouped(values: Tensor, copies: int) -> Tensor:
    """(samples, copies) of what was asked for samples repeated in turn."""
    return values.reshape(copies, -1).T


# ------------------------------------------------------------------------------------------------ mean and variance


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_over_a_walk_its_mean_is_the_walks(process, axes, share):
    """8 samples x 250 copies against closed forms; 4 sigma of each, so a false alarm in 1 of 500 runs of all of these.

    With the control the spread of a value is far below the value: a bias of 1% of any term is seen.
    """
    x, times = draw(axes.mixture, 8), walk_times(process, 15)
    want = axes.walk(process, x, times, share)
    found = estimate(
        ExactDenoiser(process, axes.mixture),
        x.repeat(250, 1),
        DECODER,
        times,
        evaluations=20,
        variance=share,
        batch=2000,
    )
    torch.testing.assert_close(found.prior[:8], want[0], rtol=1e-9, atol=1e-10)
    check(found, 250, want[0] + want[1] + want[2])


def test_over_a_span_its_mean_is_the_integral(process, axes):
    """The same for infinitely many levels, which the closed form integrates by Simpson's rule."""
    x = draw(axes.mixture, 8)
    first = finest_time(process)
    found = estimate(
        ExactDenoiser(process, axes.mixture), x.repeat(250, 1), DECODER, Span(first), evaluations=20, batch=2000
    )
    check(found, 250, axes.span(process, x, first, 1.0))
    part = estimate(
        ExactDenoiser(process, axes.mixture), x.repeat(250, 1), DECODER, Span(0.2, 0.7), evaluations=20, batch=2000
    )
    check(part, 250, axes.span(process, x, 0.2, 0.7))


def check(found, copies: int, want: Tensor) -> None:
    values = grouped(found.nats, copies)
    z = (values.mean(1) - want) / (values.std(1) / math.sqrt(copies))
    assert float(z.abs().max()) < 4
    # A variance of ``copies`` numbers whose tails are not too long is known to 15%, the mean of 8 to 5%; few pairs make
    # the reported one as unsure again.
    assert 0.75 < float(grouped(found.variance, copies).mean() / values.var(1).mean()) < 1.35


@pytest.mark.parametrize("name", ["nine modes", "mixture in 64-D"])
def test_contributions_are_the_bound_in_the_mean_without_a_control(targets, name):
    """They are weighted terms as they were: their sum has the same mean, and more spread, than ``steps``."""
    mixture = targets[name]
    x = draw(mixture, 4)
    found = estimate(
        ExactDenoiser(CHAIN, mixture), x.repeat(150, 1), DECODER, walk_times(CHAIN, 50), evaluations=30, batch=600
    )
    plain, steps = grouped(found.contributions.sum(1), 150), grouped(found.steps, 150)
    z = (plain.mean(1) - steps.mean(1)) / torch.sqrt((plain.var(1) + steps.var(1)) / 150)
    assert float(z.abs().max()) < 4
    assert float(steps.var(1).mean()) < 0.75 * float(plain.var(1).mean())
    assert bool((found.contributions >= 0).all())
    # From data on, and the levels of the chain.
    assert bool((found.logsnr[:, 0::2].diff(dim=1) <= 1e-9 + 8).all())
    allowed = CHAIN.level(walk_times(CHAIN, 50)[1:]).logsnr
    assert float((found.logsnr[..., None] - allowed).abs().min(-1).values.max()) < 1e-9


def test_visits_are_spread_over_strata_in_proportion(targets):
    """Two to a stratum: in order from data to noise, none beyond the span."""
    process = Process(VP(), Cosine(-9.0, 10.0))
    mixture = targets["nine modes"]
    found = estimate(ExactDenoiser(process, mixture), draw(mixture, 32), DECODER, Span(0.1, 0.8), evaluations=60)
    top, bottom = (float(process.level(t).logsnr) for t in (0.1, 0.8))
    assert float(found.logsnr.max()) <= top + 1e-9
    assert float(found.logsnr.min()) >= bottom - 1e-9
    pairs = found.logsnr.reshape(32, -1, 2)
    assert bool((pairs[:, 1:].amax(2) <= pairs[:, :-1].amin(2) + 1e-9).all())
    # Strata are the same for every sample: over 32 samples each is nearly filled, and the next begins where it ends.
    low, high = pairs.amin(dim=(0, 2)), pairs.amax(dim=(0, 2))
    assert bool((high[1:] <= low[:-1] + 1e-9).all())
    # Within a cell places are even: of 1000 and more of them the mean is known to 0.01.
    place = (top - found.logsnr) / (top - bottom) * SPAN_INTERVALS % 1
    assert abs(float(place.mean()) - 0.5) < 0.04
    assert float(place.std()) == pytest.approx(12**-0.5, abs=0.03)


# ------------------------------------------------------------------------------------------------ against the walk


@pytest.fixture(scope="module", params=["nine modes", "mixture in 64-D"])
def repeated(request, targets):
    """(full walk over 1000 levels, 100 estimates of the same 16 samples: bits/dim, the method's errors).

    Four calls with pilots of their own, each with 25 copies of the data. A pilot for 32 samples costs each of them 13
    of 50 evaluations, and here next to nothing: what is left, 37, is given. An error bar comes from some 280 pairs and
    is right to 5%, so that the power is that of 100 repetitions.
    """
    mixture = targets[request.param]
    x, times = draw(mixture, 16), walk_times(CHAIN)
    full = walk(ExactDenoiser(CHAIN, mixture), x, DECODER, times, seed=1000).estimate
    values, errors = [], []
    for seed in range(4):
        run = estimate(
            ExactDenoiser(CHAIN, mixture), x.repeat(25, 1), DECODER, times, evaluations=37, seed=seed, batch=400
        )
        values.append(run.bits.reshape(25, 16).mean(1))
        errors.append((run.variance / (x.shape[1] * math.log(2)) ** 2).reshape(25, 16).sum(1).sqrt() / 16)
    return full, torch.cat(values), torch.cat(errors)


def test_95_percent_intervals_hold_the_full_walk(repeated):
    """At least 90 of 100: were errors a quarter too short, 86 would be expected; true ones fall short in 1 of 90."""
    full, values, errors = repeated
    held = (values - full.mean).abs() < 1.96 * torch.sqrt(errors**2 + full.method**2)
    assert int(held.sum()) >= 90


def test_the_error_of_the_method_is_what_repetitions_vary_by(repeated):
    """100 of them know a standard deviation to 7%; a quarter off is seen with near certainty."""
    _, values, errors = repeated
    assert 0.78 < float(errors.square().mean().sqrt() / values.std()) < 1.28


def test_a_hundredth_of_a_bit_from_64_samples_at_a_twentieth_of_the_cost(targets, counted):
    for name in ("Gaussian in 64-D", "mixture in 64-D"):
        denoiser = counted(CHAIN, targets[name])
        found = estimate(denoiser, draw(targets[name], 64), DECODER, walk_times(CHAIN), evaluations=50)
        assert found.evaluations == denoiser.count / 64 <= 50 <= len(walk_times(CHAIN)) / 20 + 0.1
        assert found.estimate.method < 0.01


# ------------------------------------------------------------------------------------------------ the continuous bound


def test_with_exact_beliefs_the_continuous_bound_is_the_truth(target):
    """For each sample -ELBO = -log p(x): nothing is lost but at the two ends, here less than 1e-3 bits/dim.

    The prior costs KL(q(x_1) || N(0, 1)) < e^-14 E x^2, and a decoder as wide as r is off by (r^2 / v)^2 / 4 a number,
    with r^2 = e^-13.3 and v >= 0.01.
    """
    process = Process(VP(), LinearLogSNR(-14.0, 13.3))
    x = draw(target, 64)
    found = estimate(ExactDenoiser(process, target), x, DECODER, Span(0.0), evaluations=100, seed=1)
    off = found.nats + target.log_prob(x)
    assert abs(float(off.mean())) < 4 * math.sqrt(float(found.variance.sum())) / 64
    # 64 values known to 9%, divided by errors of 40 pairs that differ in weight.
    assert 0.6 < float((off / found.variance.sqrt()).square().mean().sqrt()) < 1.6


def test_the_continuous_bound_has_no_clock_and_no_units(targets):
    """Ends alike, noise alike: the same number under every scaling and schedule."""
    mixture = targets["nine modes"]
    x = draw(mixture, 16)
    ends = (-9.0, 11.0)
    values = [
        estimate(ExactDenoiser(Process(scaling, clock), mixture), x, DECODER, Span(0.0), evaluations=16, seed=3).nats
        for scaling in (VP(), VE(), Straight())
        for clock in (LinearLogSNR(*ends), Cosine(*ends), Logistic(*ends))
    ]
    for other in values[1:]:
        torch.testing.assert_close(other, values[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [Span(0.001), walk_times(CHAIN, 100)], ids=["span", "levels"])
def test_three_forms_are_one_number_in_float32_too(targets, times):
    """To 1e-5 bits/dim. The form is the pilot's too, so that in float32 it may move a visit over a cell's border."""
    mixture = targets["mixture in 64-D"]
    x = draw(mixture, 8)

    def values(x: Tensor) -> list[float]:
        return [
            estimate(ExactDenoiser(CHAIN, mixture), x, DECODER, times, evaluations=20, form=form).estimate.mean
            for form in (None, "noise", "x_0", "score")
        ]

    doubles, singles = values(x), values(x.float())
    assert max(doubles) - min(doubles) < 1e-9
    assert max(singles) - min(singles) < 1e-5
    # x_t in float32 is off by 6e-8, that is 6e-6 of the noise at sigma = 0.01.
    assert abs(singles[0] - doubles[0]) < 1e-5


# ------------------------------------------------------------------------------------------------ manners


def test_a_sample_does_not_depend_on_how_the_data_is_cut(targets, counted):
    mixture = targets["nine modes"]
    x = draw(mixture, 10)
    for times in (Span(0.001), walk_times(CHAIN)):
        whole = estimate(counted(CHAIN, mixture), x, DECODER, times, evaluations=20, seed=4)
        parts = estimate(counted(CHAIN, mixture), x, DECODER, times, evaluations=20, seed=4, batch=3)
        for name in ("prior", "steps", "decoder", "contributions", "logsnr", "errors", "variance"):
            torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-9)
        other = estimate(counted(CHAIN, mixture), x, DECODER, times, evaluations=20, seed=5)
        assert not torch.equal(other.nats, whole.nats)


@pytest.mark.parametrize("evaluations", [12, 51])
def test_no_more_evaluations_than_were_allowed(targets, counted, evaluations):
    mixture = targets["nine modes"]
    for count, decoder in ((1, DECODER), (3, ContinuousGaussian(needs_prediction=False)), (40, DECODER)):
        denoiser = counted(CHAIN, mixture)
        found = estimate(denoiser, draw(mixture, count), decoder, walk_times(CHAIN), evaluations=evaluations)
        assert found.evaluations == pytest.approx(denoiser.count / count)
        assert 0.8 * evaluations - 2 < found.evaluations <= evaluations


def test_data_with_levels_in_pictures(counted):
    """Both decoders of values, on (B, C, H, W): its mean over copies is the full walk's, 4 sigma of the two."""
    grid = ValueGrid(-1.0, 0.25, 9)
    mixture = GaussianMixture.isotropic(torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=F64), 0.3)
    process = Process(VP(), Tabulated(linear_betas(30, 1e-3, 0.3)))
    x = ((draw(mixture, 8).clamp(-1, 1) / 0.25).round() * 0.25).reshape(8, 2, 2, 2)
    for decoder in (DiscretisedGaussian(grid), Factorised(grid)):
        full = walk(counted(process, mixture), x, decoder, walk_times(process), draws=4)
        few = estimate(counted(process, mixture), x.repeat(20, 1, 1, 1), decoder, walk_times(process), evaluations=40)
        mean = grouped(few.nats, 20).mean(1)
        error = torch.sqrt(full.variance + grouped(few.variance, 20).mean(1) / 20)
        assert float(((mean - full.nats) / error).abs().max()) < 4


def test_progress_counts_evaluations_of_batches_to_the_end(targets):
    for decoder, last in ((DECODER, 2), (ContinuousGaussian(needs_prediction=False), 0)):
        seen: list[tuple[int, int]] = []
        x = draw(targets["nine modes"], 10)
        found = estimate(
            ExactDenoiser(CHAIN, targets["nine modes"]),
            x,
            decoder,
            walk_times(CHAIN),
            batch=4,
            progress=lambda *counts, seen=seen: seen.append(counts),
        )
        visits = found.logsnr.shape[1]
        assert {total for _, total in seen} == {3 * (visits + last)}
        # One visit at a time, then the decoder's; up to the total.
        counts = [*range(1, visits + 1), *([visits + last] if last else [])]
        assert [done for done, _ in seen] == [k + b * (visits + last) for b in range(3) for k in counts]
