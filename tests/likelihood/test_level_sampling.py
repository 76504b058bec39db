"""The intervals of a walk, and the pilot."""

import math

import numpy as np
import pytest
import torch

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, Cosine, LinearLogSNR, Logistic, Process, Straight
from sfumato.likelihood import Span, walk_times
from sfumato.likelihood.control_variate import ControlVariate
from sfumato.likelihood.intervals import Intervals
from sfumato.likelihood.level_sampling import Pilot, TermSampler, _interpolate, _slope

F64 = torch.float64


def test_interpolation_is_numpys_and_constant_beyond():
    x, knots = torch.linspace(-3, 9, 41, dtype=F64), torch.tensor([7.0, 3.5, 1.0, -1.0], dtype=F64)
    values = torch.tensor([2.0, -1.0, 5.0, 0.5], dtype=F64)
    want = np.interp(x.numpy(), knots.flip(0).numpy(), values.flip(0).numpy())
    np.testing.assert_allclose(_interpolate(x, knots, values).numpy(), want, rtol=1e-13, atol=1e-14)
    assert _interpolate(x, knots[:1], values[:1]).tolist() == [2.0] * 41


def test_the_slope_is_least_squares_within_sense():
    a, b = (torch.randn(50, generator=torch.Generator().manual_seed(k), dtype=F64) for k in (0, 1))
    want = np.linalg.lstsq(a.numpy()[:, None], (0.8 * a + 0.1 * b).numpy(), rcond=None)[0][0]
    assert _slope(0.8 * a + 0.1 * b, a) == pytest.approx(want, rel=1e-12)
    assert _slope(-a, a) == 0.0
    assert _slope(9 * a, a) == 2.0
    assert _slope(a, torch.zeros_like(a)) == 0.0 or math.isfinite(_slope(a, torch.zeros_like(a)))


def test_intervals_are_between_neighbouring_levels_and_weigh_what_a_step_costs():
    process = Process(VP(), Cosine())
    times = walk_times(process, 7)
    intervals = Intervals.of(process, times)
    level = process.level(times)
    snr = (level.alpha / level.sigma) ** 2
    torch.testing.assert_close(intervals.weights, 0.5 * (snr[:-1] / snr[1:] - 1), rtol=1e-9, atol=0)
    torch.testing.assert_close(intervals.times, times[1:])
    torch.testing.assert_close(intervals.finest, times[:2])
    torch.testing.assert_close(intervals.level.alpha, level.alpha[1:], rtol=1e-9, atol=0)


@pytest.mark.parametrize("process", [Process(VP(), LinearLogSNR(-6.0, 8.0)), Process(Straight(), Logistic())], ids=str)
def test_a_span_is_cut_into_equal_intervals(process):
    first, last = (0.0, 1.0) if isinstance(process.schedule, LinearLogSNR) else (0.1, 1.0)
    intervals = Intervals.of(process, Span(first, last))
    top, bottom = float(process.level(first).logsnr), max(float(process.level(last).logsnr), -30.0)
    assert float(intervals.upper[0]) == pytest.approx(top)
    assert float(intervals.lower[-1]) == pytest.approx(bottom)
    torch.testing.assert_close(intervals.upper[1:], intervals.lower[:-1], rtol=0, atol=1e-12)
    torch.testing.assert_close(
        intervals.weights, torch.full_like(intervals.upper, (top - bottom) / len(intervals.upper) / 2)
    )
    assert intervals.times is None
    assert intervals.finest.tolist() == [first]


@pytest.mark.parametrize("count", [1, 5, 64])
@pytest.mark.parametrize("budget", [12, 50])
def test_a_pilot_spends_no_more_than_it_may_and_gives_a_density_that_is_nowhere_small(targets, counted, count, budget):
    process, mixture = Process(VP(), Cosine()), targets["nine modes"]
    x = mixture.sample(count, torch.Generator().manual_seed(0))
    denoiser = counted(process, mixture)
    intervals = Intervals.of(process, walk_times(process, 200))
    sampler = TermSampler(denoiser, intervals, ControlVariate.of(x), 0.0, None)
    pilot = Pilot.run(sampler, x, None, ContinuousGaussian(), budget, 0)
    assert pilot.evaluations == denoiser.count
    # A quarter, and the decoder's two; of one sample alone two levels at least.
    assert denoiser.count <= max(budget * count / 4, 4) + 2 * min(count, 16)
    assert float(pilot.density.sum()) == pytest.approx(1, abs=1e-12)
    even = (intervals.upper - intervals.lower) / (intervals.upper[0] - intervals.lower[-1])
    assert bool((pilot.density >= 0.1999 * even).all())
    assert bool(((pilot.slope >= 0) & (pilot.slope <= 2)).all())
