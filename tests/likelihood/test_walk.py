"""The walk over all levels: against an explicit loop, against closed forms, and as a bound that tightens.

Statistical tests have fixed seeds; with 4 sigma allowed, the chance of a false alarm over seeds is 6e-5 a number
compared.
"""

import math

import pytest
import torch
from torch import Tensor

from sfumato.bounds import ContinuousGaussian, DiscretisedGaussian, Factorised
from sfumato.core import (
    VE,
    VP,
    Cosine,
    Gaussian,
    LinearLogSNR,
    Process,
    SeededNoise,
    Tabulated,
    ValueGrid,
    linear_betas,
)
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.likelihood import walk, walk_times
from sfumato.likelihood.walk import _noise_variance

F64 = torch.float64


def draw(mixture: GaussianMixture, count: int, seed: int = 5) -> Tensor:
    return mixture.sample(count, torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------ the loop written out


def reverse_variance(process: Process, t: float, s: float, share: float) -> Tensor:
    """Between the posterior's (0) and that of data of unit variance (1), from the joint law of x_s and x_t."""
    at_s, at_t = process.level(s), process.level(t)
    kept = at_t.alpha / at_s.alpha
    small = at_s.sigma**2 - (kept * at_s.sigma**2) ** 2 / at_t.sigma**2
    p_s, p_t = at_s.alpha**2 + at_s.sigma**2, at_t.alpha**2 + at_t.sigma**2
    large = p_s - (kept * p_s) ** 2 / p_t
    return small ** (1 - share) * large**share


def by_hand(denoiser, x, decoder, times, draws, share, seed):
    """(contributions (B, N), decoder term (B,)) by the posterior and its KL, one level and draw after another."""
    process, noise = denoiser.process, SeededNoise.samples(seed, len(x))
    steps = len(times) - 1
    contributions = torch.zeros(len(x), steps, dtype=F64)
    for n in range(steps):
        s, t = float(times[n]), float(times[n + 1])
        variance = reverse_variance(process, t, s, share)
        for k in range(draws):
            x_t = process.perturb(x, t, noise(n * draws + k, x))
            q = process.posterior(x_t, x, t, s)
            p = process.posterior(x_t, denoiser(x_t, torch.tensor(t, dtype=F64), None).x_0, t, s)
            contributions[:, n] += q.kl(Gaussian(p.mean, variance)) / draws
    last_draws = max(2, steps * draws // 20)
    total = torch.zeros(len(x), dtype=F64)
    at = [process.level(times[0]), process.level(times[1])]
    for k in range(last_draws):
        x_t = process.perturb(x, float(times[0]), noise(steps * draws + k, x))
        prediction = denoiser(x_t, times[0], None) if decoder.needs_prediction else None
        total -= decoder.log_prob(x, x_t, at[0], at[1], prediction) / last_draws
    return contributions, total


@pytest.mark.parametrize("draws", [1, 3])
@pytest.mark.parametrize("share", [0.0, 1.0, "learned"])
def test_the_walk_is_the_loop_over_its_levels(process, counted, targets, draws, share):
    learned = 0.3 if share == "learned" else None
    denoiser = counted(process, targets["nine modes"], learned)
    x, times = draw(targets["nine modes"], 5), walk_times(process, 10)
    decoder = ContinuousGaussian()
    setting = 0.0 if learned else share
    found = walk(denoiser, x, decoder, times, draws=draws, variance=setting, seed=3)
    asked = denoiser.count / len(x)
    want, last = by_hand(denoiser, x, decoder, times, draws, learned or share, 3)
    # Means of posteriors are right to 2e-16, their differences here to 1e-10 at least (sigma_t - sigma_s is not small).
    torch.testing.assert_close(found.contributions, want, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(found.steps, want.sum(1), rtol=1e-8, atol=1e-9)
    torch.testing.assert_close(found.decoder, last, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(found.logsnr, process.level(times[1:]).logsnr.expand(5, -1), rtol=0, atol=0)
    assert found.evaluations == asked == 10 * draws + 2
    assert found.dimensions == 2


@pytest.mark.parametrize("kind", [DiscretisedGaussian, Factorised])
def test_data_with_levels(counted, kind):
    """The decoders for numbers on a grid; images too, whose numbers are spread over several axes."""
    grid = ValueGrid(-1.0, 0.25, 9)
    mixture = GaussianMixture.isotropic(torch.randn(3, 8, generator=torch.Generator().manual_seed(0), dtype=F64), 0.3)
    process = Process(VP(), Tabulated(linear_betas(30, 1e-3, 0.3)))
    x = (draw(mixture, 4).clamp(-1, 1) / 0.25).round() * 0.25
    flat = walk(counted(process, mixture), x, kind(grid), walk_times(process), seed=1)
    want, last = by_hand(ExactDenoiser(process, mixture), x, kind(grid), walk_times(process), 3, 0.0, 1)
    torch.testing.assert_close(flat.contributions, want, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(flat.decoder, last, rtol=1e-9, atol=1e-9)
    shaped = walk(counted(process, mixture), x.reshape(4, 2, 2, 2), kind(grid), walk_times(process), seed=1)
    torch.testing.assert_close(shaped.nats, flat.nats, rtol=1e-12, atol=0)
    torch.testing.assert_close(shaped.errors, flat.errors, rtol=1e-10, atol=0)
    assert shaped.dimensions == 8
    asked = 0 if kind is Factorised else max(2, 29 * 3 // 20)
    assert flat.evaluations == 29 * 3 + asked


def test_errors_are_mean_squares_of_the_estimate(process, targets):
    mixture, times = targets["nine modes"], walk_times(process, 4)
    denoiser, x = ExactDenoiser(process, mixture), draw(mixture, 3)
    found = walk(denoiser, x, ContinuousGaussian(), times, draws=1, seed=3)
    noise = SeededNoise.samples(3, 3)
    for n in range(4):
        x_t = process.perturb(x, float(times[n + 1]), noise(n, x))
        want = (denoiser(x_t, times[n + 1], None).x_0 - x).square().mean(1)
        torch.testing.assert_close(found.errors[:, n], want, rtol=1e-7, atol=1e-12)


def test_a_sample_does_not_depend_on_its_batch(process, targets, counted):
    mixture, times = targets["nine modes"], walk_times(process, 8)
    x, decoder = draw(mixture, 7), ContinuousGaussian()
    whole = walk(counted(process, mixture), x, decoder, times, draws=2, seed=2)
    parts = walk(counted(process, mixture), x, decoder, times, draws=2, seed=2, batch=3)
    few = walk(counted(process, mixture), x[:4], decoder, times, draws=2, seed=2)
    for name in ("prior", "steps", "decoder", "contributions", "errors", "variance"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(getattr(few, name), getattr(whole, name)[:4], rtol=1e-9, atol=1e-10)
    assert not torch.equal(walk(counted(process, mixture), x, decoder, times, draws=2, seed=4).nats, whole.nats)


def test_progress_counts_evaluations_of_batches_to_the_end(process, targets):
    for decoder, last in ((ContinuousGaussian(), 2), (ContinuousGaussian(needs_prediction=False), 0)):
        seen: list[tuple[int, int]] = []
        x = draw(targets["nine modes"], 5)
        denoiser = ExactDenoiser(process, targets["nine modes"])
        walk(
            denoiser,
            x,
            decoder,
            walk_times(process, 4),
            draws=2,
            batch=2,
            progress=lambda *counts, seen=seen: seen.append(counts),
        )
        assert {total for _, total in seen} == {3 * (8 + last)}
        # One level at a time, then the decoder's; up to the total.
        counts = [*range(1, 9), *([8 + last] if last else [])]
        assert [done for done, _ in seen] == [k + b * (8 + last) for b in range(3) for k in counts]


# ------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_its_mean_over_the_noise_is_the_closed_form_on_a_gaussian(process, axes, share):
    """With the control the error bars are some tens of times shorter: a control of the wrong mean shows at once."""
    x, times = draw(axes.mixture, 40), walk_times(process, 8)
    prior, steps, last = axes.walk(process, x, times, share)
    found = walk(ExactDenoiser(process, axes.mixture), x, ContinuousGaussian(), times, draws=16, variance=share, seed=1)
    torch.testing.assert_close(found.prior, prior, rtol=1e-9, atol=1e-10)
    error = math.sqrt(float(found.variance.sum()))
    assert abs(float((found.nats - prior - steps - last).sum())) < 4 * error
    z = (found.nats - prior - steps - last) / found.variance.sqrt()
    # The root mean square of 40 standard normal numbers is known to 11%; divided by errors of a few degrees of freedom
    # they have longer tails: Student's with 6 is 1.2 wide.
    assert 0.6 < float(z.square().mean().sqrt()) < 1.7


@pytest.mark.parametrize("clock", [LinearLogSNR(-9.0, 8.0), Cosine(-9.0, 8.0)], ids=lambda c: type(c).__name__)
def test_second_differences_tell_the_noise_of_single_draws(targets, clock):
    """With one draw a level the variance is guessed from neighbours, right to half of it over 24 samples.

    Over 5 seeds and 24 samples the empirical variance has 96 degrees of freedom: 14%.
    """
    mixture = targets["nine modes"]
    process = Process(VP(), clock)
    x = draw(mixture, 24)
    denoiser, times = ExactDenoiser(process, mixture), walk_times(process, 80)
    runs = [walk(denoiser, x, ContinuousGaussian(), times, draws=1, seed=seed) for seed in range(5)]
    steps = torch.stack([run.nats for run in runs])
    empirical, said = float(steps.var(0).mean()), float(torch.stack([run.variance for run in runs]).mean())
    assert 0.6 < said / empirical < 2.2


def test_the_variance_of_a_sum_of_means():
    terms = torch.randn(2000, 6, 4, generator=torch.Generator().manual_seed(0), dtype=F64)
    terms *= torch.tensor([1.0, 2.0, 3.0, 1.0, 0.5, 0.1], dtype=F64)[:, None]
    # 2000 x 6 sums of 3 degrees of freedom: the mean is right to 2%.
    assert float(_noise_variance(terms).mean()) == pytest.approx((1 + 4 + 9 + 1 + 0.25 + 0.01) / 4, rel=0.08)
    line = torch.linspace(0, 50, 40, dtype=F64)[None, :, None] + terms.reshape(1200, 40, 1) * 0
    noisy = line + torch.randn(1200, 40, 1, generator=torch.Generator().manual_seed(1), dtype=F64)
    # 38 second differences, and ten sixths of one more at either end, so that no end is missed: 48 for 40.
    assert float(_noise_variance(noisy).mean()) == pytest.approx(48, rel=0.04)
    assert bool(_noise_variance(line).abs().max() < 1e-20)
    assert bool(_noise_variance(terms[:, :2, :1]).isnan().all())


# ------------------------------------------------------------------------------------------------ a bound


def test_it_bounds_the_truth_and_falls_towards_it_as_levels_are_added(target):
    """The mean of -ELBO + log p(x) is a divergence: not negative beyond its error, and about as 1 / T."""
    process = Process(VP(), LinearLogSNR(-12.0, 12.0))
    x = draw(target, 48)
    truth = -target.log_prob(x)
    gaps, errors, worst = [], [], []
    for T in (8, 32, 128):
        found = walk(
            ExactDenoiser(process, target), x, ContinuousGaussian(), walk_times(process, T), draws=-(-64 // T), seed=1
        )
        gap = found.nats - truth
        gaps.append(float(gap.mean()))
        errors.append(math.hypot(float(gap.std()), math.sqrt(float(found.variance.mean()))) / math.sqrt(48))
        worst.append(0.5 * x.shape[1] * T * (math.expm1(24 / T) - 24 / T))
    # A step costs (e^h - 1) / 2 of an error of at most 1 a number, where the integral is no less than h / 2 of it.
    for gap, error, most in zip(gaps, errors, worst, strict=True):
        assert -3 * error < gap < most + 3 * error
    assert gaps[2] + 3 * errors[2] < 0.5 * gaps[1]
    assert gaps[1] + 3 * errors[1] < 0.5 * gaps[0]


def test_more_levels_are_a_tighter_bound_in_expectation(axes):
    """Closed forms on the same data: the walk that is asked for has the mean of the walk with so many levels."""
    process = Process(VE(), LinearLogSNR(-9.0, 10.0))
    x = draw(axes.mixture, 64)
    means = [float(sum(axes.walk(process, x, walk_times(process, T), 0.0)).mean()) for T in (10, 20, 40)]
    found = [
        walk(ExactDenoiser(process, axes.mixture), x, ContinuousGaussian(), walk_times(process, T), seed=1)
        for T in (10, 20, 40)
    ]
    for run, want in zip(found, means, strict=True):
        assert float(run.nats.mean()) == pytest.approx(want, abs=4 * math.sqrt(float(run.variance.sum())) / 64)
    assert means == sorted(means, reverse=True)
    # Halving a step halves what it loses; the errors of the method are far smaller than that.
    values = [float(run.nats.mean()) for run in found]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("variance", [0.0, 1.0])
def test_three_forms_are_one_number_in_float32_too(process, targets, variance):
    mixture = targets["mixture in 64-D"]
    x, times = draw(mixture, 5), walk_times(process, 12)
    for dtype in (F64, torch.float32):
        runs = [
            walk(
                ExactDenoiser(process, mixture),
                x.to(dtype),
                ContinuousGaussian(),
                times,
                draws=1,
                variance=variance,
                form=form,
            ).estimate.mean
            for form in (None, "noise", "x_0", "score")
        ]
        assert max(runs) - min(runs) < 1e-5 * max(1.0, abs(runs[0]))
