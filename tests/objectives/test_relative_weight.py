"""Rates of samplers of times against finite differences; relative weights; the log-normal law of noise levels."""

import math

import pytest
import torch
from scipy import integrate, special, stats
from torch import nn

from sfumato.bounds import ContinuousGaussian
from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Noise,
    Process,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    V,
    geometric,
    linear_betas,
)
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.objectives import (
    Batch,
    BoundLoss,
    ChainTimes,
    DenoisingLoss,
    HybridLoss,
    LogNormalTimes,
    LossAware,
    NegativeELBO,
    UncertaintyWeighted,
    UniformTimes,
    weights,
)

# Process.rate differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64
U = torch.tensor([0.03, 0.2, 0.51, 0.7, 0.97], dtype=F64)
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), geometric(0.002, 80.0)),
    "straight": Process(Straight(), Logistic()),
    "sub-VP": Process(SubVP(), SubVPBeta()),
    "linear": Process(VP(), LinearLogSNR(-6.0, 9.0)),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
TIMES = {
    "uniform": lambda process: UniformTimes(),
    "uniform from 0.1": lambda process: UniformTimes(0.1),
    "log-normal": lambda process: LogNormalTimes(process),
    "log-normal, wide": lambda process: LogNormalTimes(process, 0.3, 2.5, 0.05),
    "loss-aware": lambda process: learned(UniformTimes()),
    "loss-aware from 0.1": lambda process: learned(UniformTimes(0.1)),
}
each_times = pytest.mark.parametrize("make", TIMES.values(), ids=TIMES.keys())


def learned(base) -> LossAware:
    """Loss-aware times that have learned something: they are no longer even."""
    times = LossAware(base)
    generator = torch.Generator().manual_seed(0)
    for parameter in times.parameters():
        parameter.data.add_(torch.randn(parameter.shape, generator=generator).to(parameter))
    return times


@each_process
@each_times
def test_the_rate_is_how_fast_the_log_snr_falls_as_the_quantile_rises(process, make):
    times, h = make(process), 1e-5
    got = times.rate(process, times.even(U))
    before, after = (process.level(times.even(u)).logsnr for u in (U - h, U + h))
    # h^2 / 6 of third derivatives, 1e4 of the value at the most; u / h of log-SNRs up to 13.
    torch.testing.assert_close(got, (before - after) / (2 * h), rtol=2e-6, atol=1e-8)


def test_loss_aware_times_are_drawn_unevenly_and_measured_evenly():
    times = learned(UniformTimes(0.1))
    with torch.no_grad():
        assert (times(U) - times.even(U)).abs().max() > 0.01
    assert torch.equal(times.even(U), UniformTimes(0.1)(U))


# --- relative weight -------------------------------------------------------------------------------------------------


class Zero(nn.Module):
    def forward(self, x, label, cond=None):
        return torch.zeros_like(x)


def at(process: Process) -> NetworkDenoiser:
    """A denoiser: relative_weight looks at its process alone."""
    return NetworkDenoiser(Zero(), process, V(), "logsnr")


@each_process
@each_times
@pytest.mark.parametrize("weight", [weights.simple, weights.min_snr, weights.elbo, weights.sigmoid])
def test_the_relative_weight_is_twice_the_weight_by_the_density_of_log_snrs(process, make, weight):
    times, h = make(process), 1e-5
    t = times.even(U)
    density = 2 * h / (process.level(times.even(U - h)).logsnr - process.level(times.even(U + h)).logsnr)
    expected = 2 * weight(process.level(t), 1 / density) * density
    torch.testing.assert_close(
        DenoisingLoss(times, weight).relative_weight(at(process), U), expected, rtol=1e-5, atol=0
    )


@each_process
@each_times
def test_the_bounds_relative_weight_is_one(process, make):
    for loss in (BoundLoss(make(process), ContinuousGaussian()), DenoisingLoss(make(process), weights.elbo)):
        torch.testing.assert_close(loss.relative_weight(at(process), U), torch.ones(5, dtype=F64), rtol=1e-12, atol=0)


def quantile(times, process: Process, logsnr: float) -> float:
    """Of a log-SNR: the share of the even times at which it is higher, without the sampler."""
    if isinstance(times, UniformTimes):
        t = float(process.schedule.time(torch.tensor(logsnr, dtype=F64)))
        return (t - times.first) / (1 - times.first)
    ends = process.level(torch.tensor([times.first, 1.0], dtype=F64)).logsnr / -2
    low, here, high = stats.norm.cdf([float(ends[0]), -logsnr / 2, float(ends[1])], times.mean, times.std)
    return (here - low) / (high - low)


@pytest.mark.parametrize(
    ("process", "times"),
    [
        (PROCESSES["VP"], UniformTimes(0.1)),
        (PROCESSES["VE"], LogNormalTimes(PROCESSES["VE"])),
        (PROCESSES["straight"], LogNormalTimes(PROCESSES["straight"], 0.0, 1.0, 0.02)),
    ],
    ids=["VP, uniform", "VE, log-normal", "straight, logit-normal"],
)
@pytest.mark.parametrize("weight", [weights.simple, weights.min_snr, weights.edm, weights.flow, weights.likelihood])
def test_the_loss_is_half_the_integral_of_the_error_by_its_relative_weight(process, times, weight):
    # For data N(0, v) and its exact denoiser the error at log-SNR L is v e^L / (1 + v e^L).
    v = 0.3

    def error(logsnr):
        return torch.sigmoid(logsnr + math.log(v))

    loss, n = DenoisingLoss(times, weight), 40_000
    u = (torch.arange(n, dtype=F64) + 0.5) / n
    t = times(u)
    level = process.level(t)
    mean = float((loss.weight(level, times.rate(process, t)) * error(level.logsnr)).mean())
    denoiser = at(process)

    def integrand(logsnr: float) -> float:
        u = torch.tensor([quantile(times, process, logsnr)], dtype=F64)
        return 0.5 * float(loss.relative_weight(denoiser, u)) * float(error(torch.tensor(logsnr)))

    ends = process.level(times(torch.tensor([1e-4, 1 - 1e-4], dtype=F64))).logsnr
    inside = (u > 1e-4) & (u < 1 - 1e-4)
    part = loss.weight(level, times.rate(process, t))[inside] * error(level.logsnr[inside])
    integral = integrate.quad(integrand, float(ends[1]), float(ends[0]), epsrel=1e-5, limit=200)[0]
    # The mid-point rule between the same ends, of a smooth integrand with steep ends.
    assert float(part.sum()) / n == pytest.approx(integral, rel=2e-3)
    assert mean >= float(part.sum()) / n


def test_a_hybrids_relative_weight_is_that_of_its_simple_part():
    process = PROCESSES["linear"]
    hybrid = HybridLoss(UniformTimes(), ContinuousGaussian())
    torch.testing.assert_close(hybrid.relative_weight(at(process), U), torch.full((5,), 2 / 15, dtype=F64))


def test_a_chain_has_a_relative_weight_at_its_levels():
    process = Process(VP(), Tabulated(linear_betas(100, 1e-3, 0.2)))
    loss = DenoisingLoss(ChainTimes(100))
    got = loss.relative_weight(at(process), U)
    t = ChainTimes(100)(U)
    # The share of levels to a log-SNR, by the neighbours: a slope on either side of the level may be the one taken.
    before, here, after = (process.level((t + d / 100).clamp(max=1)).logsnr for d in (-1, 0, 1))
    sides = torch.stack((before - here, here - after)) * 100
    assert ((got >= 1.7 / sides.amax(0)) & (got <= 2.3 / sides.amin(0)))[1:-1].all()


def test_models_with_a_bound_of_their_own_have_none():
    class Latent:
        def loss(self, x, noise):
            return x.sum(1)

    assert NegativeELBO().relative_weight(Latent(), U) is None


def test_a_relative_weight_has_no_gradient():
    process = PROCESSES["VP"]
    uncertain = UncertaintyWeighted(DenoisingLoss(learned(UniformTimes())))
    assert not uncertain.relative_weight(at(process), U).requires_grad


# --- the log-normal law -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mean", "std", "first"), [(-1.2, 1.2, 0.0), (0.4, 2.0, 0.2), (-6.0, 1.0, 0.0)])
@each_process
def test_log_ratios_are_normal_within_the_process(process, mean, std, first):
    times = LogNormalTimes(process, mean, std, first)
    u = torch.linspace(0.001, 0.999, 41, dtype=F64)
    ends = (process.level(torch.tensor([first, 1.0], dtype=F64)).logsnr / -2).numpy()
    law = stats.truncnorm((ends[0] - mean) / std, (ends[1] - mean) / std, mean, std)
    got = times(u)
    assert got.dtype == F64
    assert ((got >= first) & (got <= 1)).all()
    expected = torch.from_numpy(law.ppf(u.numpy()))
    # An inverse of a distribution function where it hardly rises: u / density.
    torch.testing.assert_close(process.level(got).logsnr / -2, expected, rtol=0, atol=1e-7)


def test_draws_within_the_levels_keep_their_mean_and_spread():
    # EDM's process has 99.99... % of the law: what is left out does not show in 20,000 quantiles.
    process = PROCESSES["VE"]
    u = (torch.arange(20_000, dtype=F64) + 0.5) / 20_000
    log_sigma = process.level(LogNormalTimes(process)(u)).sigma.log()
    assert float(log_sigma.mean()) == pytest.approx(-1.2, abs=1e-3)
    assert float(log_sigma.std()) == pytest.approx(1.2, rel=2e-3)
    assert stats.kstest(log_sigma.numpy(), stats.norm(-1.2, 1.2).cdf).statistic < 1e-3


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 0.7)])
def test_on_the_straight_path_t_is_logit_normal(mean, std):
    got = LogNormalTimes(PROCESSES["straight"], mean, std)(U)
    expected = special.expit(mean + std * stats.norm.ppf(U.numpy()))
    torch.testing.assert_close(got, torch.from_numpy(expected), rtol=1e-12, atol=0)


def test_the_last_quantile_is_the_last_time():
    for process in PROCESSES.values():
        # The inverse of a distribution function that is 1 - 1e-6 at the end: u / density.
        assert float(LogNormalTimes(process)(torch.ones(1, dtype=F64))) == pytest.approx(1, abs=1e-8)


def test_a_chains_levels_below_the_first_are_left_out():
    process = Process(VP(), Tabulated(linear_betas(100, 1e-3, 0.2)))
    got = LogNormalTimes(process, -4.0, 2.0, first=0.01)(torch.linspace(0.0001, 1, 1000, dtype=F64))
    assert float(got.min()) == pytest.approx(0.01, rel=0.01)
    assert float(got.min()) >= 0.01


@pytest.mark.parametrize(
    ("process", "settings"),
    [
        (PROCESSES["VE"], {"mean": 30.0}),
        (PROCESSES["VE"], {"mean": -30.0, "std": 0.5}),
        (PROCESSES["straight"], {"mean": -12.0, "std": 0.5, "first": 0.5}),
        (Process(VP(), LinearBeta(0.1, 0.2)), {"mean": 10.0, "std": 0.2}),
    ],
)
def test_a_law_outside_the_process_is_refused_in_one_line(process, settings):
    with pytest.raises(InputError, match=r"^log_ratio_mean: .*hardly one in a million.*change them") as caught:
        LogNormalTimes(process, **settings)
    assert "\n" not in str(caught.value)


def test_noise_targets_learn_at_log_normal_times_too():
    process = PROCESSES["linear"]
    denoiser = NetworkDenoiser(Zero(), process, Noise(), "logsnr")
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    got = DenoisingLoss(LogNormalTimes(process), weights.likelihood)(
        denoiser, Batch(torch.zeros(5, 3, dtype=F64), U, lambda draw, like: noise)
    )
    # Nothing predicted: the error is the noise, at rate -d log-SNR / du = 2 std (du of the cut law) / density.
    law = stats.truncnorm((-4.5 + 1.2) / 1.2, (3 + 1.2) / 1.2, -1.2, 1.2)
    rate = 2 / law.pdf(law.ppf(U.numpy()))
    torch.testing.assert_close(got, torch.from_numpy(rate) * noise.square().mean(1), rtol=1e-9, atol=0)
