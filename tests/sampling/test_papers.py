"""Ancestral sampling and DDIM against the algorithms as they are printed, with a nonlinear network and given noise."""

import inspect
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Noise,
    Prediction,
    Process,
    SeededNoise,
    Straight,
    Tabulated,
    V,
    Velocity,
    cosine_betas,
    linear_betas,
)
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.sampling import ancestral, chain, ddim, run, uniform

CHAINS = {"linear": linear_betas(1000), "cosine": cosine_betas(60), "short": linear_betas(4, 0.1, 0.6)}
each_chain = pytest.mark.parametrize("betas", CHAINS.values(), ids=CHAINS.keys())
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VP-chain": Process(VP(), Tabulated(linear_betas(100))),
    "VE": Process(VE(), LinearLogSNR(-8.0, 8.0)),
    "straight": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


class Wave(nn.Module):
    """A small network, nonlinear in x and in the label, mixing the elements of a sample."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.mix = nn.Parameter(torch.randn(6, 6, generator=generator, dtype=torch.float64) / 3)

    def forward(self, x, label):
        inside = x.flatten(1) @ self.mix + torch.cos(0.01 * label.double())[:, None]
        return (x.flatten(1) + torch.sin(2 * inside)).reshape(x.shape)


NETWORK = Wave().requires_grad_(False)


def start() -> torch.Tensor:
    return torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def table(rows: int):
    """Noise as a table, the draw number picking the row."""
    draws = torch.randn(rows + 1, 4, 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return lambda draw, like: draws[draw]


def predicted_noise(x, k: int, T: int):
    """The network at level k = 1..T, with the label that a network of 1,000 steps knows: k - 1 there."""
    return NETWORK(x, torch.full((len(x),), 1000 * k / T - 1))


@each_chain
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_sampling_is_ddpm_algorithm_2(betas, variance):
    T, x = len(betas), start()
    noise = table(T)
    process = Process(VP(), Tabulated(betas))
    got = run(NetworkDenoiser(NETWORK, process, Noise()), ancestral(process, chain(T, T), variance), x, noise=noise)
    alpha_bar = [1.0]
    for beta in betas.tolist():
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    for k in range(T, 0, -1):
        beta = float(betas[k - 1])
        x = (x - beta / math.sqrt(1 - alpha_bar[k]) * predicted_noise(x, k, T)) / math.sqrt(1 - beta)
        if k > 1:
            tilde = (1 - alpha_bar[k - 1]) / (1 - alpha_bar[k]) * beta
            x = x + math.sqrt(tilde if variance == "posterior" else beta) * noise(T - k + 1, x)
    torch.testing.assert_close(got, x, rtol=1e-10, atol=1e-10)


@each_chain
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_ddim_is_its_equation_12_on_strided_chains(betas, eta, steps):
    T, x = len(betas), start()
    noise = table(T)
    steps = min(steps, T)
    process, times = Process(VP(), Tabulated(betas)), chain(steps, T)
    got = run(NetworkDenoiser(NETWORK, process, Noise()), ddim(process, times, eta), x, noise=noise)
    alpha_bar = [math.prod((1 - betas[:k]).tolist()) for k in range(T + 1)]
    levels = [round(float(t) * T) for t in times]
    for i in range(steps):
        k = levels[i]
        here, before = alpha_bar[k], alpha_bar[levels[i + 1]]
        eps = predicted_noise(x, k, T)
        sigma = eta * math.sqrt((1 - before) / (1 - here)) * math.sqrt(1 - here / before)
        x_0 = (x - math.sqrt(1 - here) * eps) / math.sqrt(here)
        direction = math.sqrt(max(1 - before - sigma**2, 0)) * eps
        x = math.sqrt(before) * x_0 + direction + sigma * noise(i + 1, x)
    torch.testing.assert_close(got, x, rtol=1e-10, atol=1e-10)


@each_process
def test_ddim_with_full_noise_is_ancestral_sampling(process):
    times = torch.tensor([1.0, 0.97, 0.6, 0.35, 0.1, 0.01, 0.0], dtype=torch.float64)
    one, other = ddim(process, times, 1.0), ancestral(process, times)
    for name in ("times", "states", "estimates", "noise"):
        # Differences of order-one coefficients.
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-12, atol=1e-14)


def test_ddim_with_full_noise_is_ancestral_sampling_over_wide_steps():
    # From log-SNR -40 to -3: 1 - c = exp(-37) is below float64's resolution of c, its root 9e-9 is not.
    process = Process(VP(), LinearLogSNR(-40.0, 20.0))
    times = process.schedule.time(torch.tensor([-40.0, -3.0], dtype=torch.float64))
    one, other = ddim(process, times, 1.0), ancestral(process, times)
    torch.testing.assert_close(one.states, other.states, rtol=0, atol=1e-12)


@each_process
def test_the_last_step_to_data_hands_over_the_belief(process):
    x, noise = start(), SeededNoise.samples(0, 4)
    denoiser = NetworkDenoiser(NETWORK, process, V(), "logsnr")
    expected = denoiser(x, torch.tensor(1.0, dtype=torch.float64)).x_0
    for tableau in (ancestral(process, uniform(1)), ancestral(process, uniform(1), "beta"), ddim(process, uniform(1))):
        assert tableau.evaluations == 1
        assert tableau.noise.tolist() == [[0, 0]]
        assert not tableau.stochastic
        assert torch.equal(run(denoiser, tableau, x, noise=noise), expected)
    # eta = 1 may carry a z of weight zero, and must not need one.
    assert torch.equal(run(denoiser, ddim(process, uniform(1), 1.0), x), expected)


@pytest.mark.parametrize("steps", [1, 2, 10])
@pytest.mark.parametrize("target", [V(), Velocity(Straight())])
def test_ddim_on_the_straight_path_is_eulers_method_from_pure_noise(steps, target):
    process = PROCESSES["straight"]
    assert float(process.level(1.0).alpha) == 0
    denoiser, times, x = NetworkDenoiser(NETWORK, process, target, "logsnr"), uniform(steps), start()
    got = run(denoiser, ddim(process, times), x)
    for t, s in pairwise(times):
        prediction = denoiser(x, t)
        x = x + (s - t) * (prediction.eps - prediction.x_0)
    torch.testing.assert_close(got, x, rtol=1e-12, atol=1e-12)


def test_sampling_from_pure_noise_with_an_exact_denoiser():
    # From alpha = 0 the first belief is the mean, whatever the state; for two steps the rest is by hand.
    process = PROCESSES["straight"]
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    denoiser = ExactDenoiser(process, GaussianMixture.gaussian(mean, 0.25 * torch.eye(2, dtype=torch.float64)))
    x, noise = start()[:, :, 0][:, :2], SeededNoise.samples(0, 4)
    halfway = {
        "ddim": 0.5 * mean + 0.5 * x,
        "ancestral": 0.5 * mean + 0.5 * noise(1, x),  # the posterior at pure noise forgets x
    }
    for name, tableau in (("ddim", ddim(process, uniform(2))), ("ancestral", ancestral(process, uniform(2)))):
        at_half = halfway[name]
        # 0.25 * 0.5^2 + 0.5^2 is the variance at t = 1/2, 0.25 * 0.5 the covariance with x_0.
        expected = mean + 0.125 / 0.3125 * (at_half - 0.5 * mean)
        torch.testing.assert_close(run(denoiser, tableau, x, noise=noise), expected, rtol=1e-13, atol=1e-13)


class Belief(Denoiser):
    """The same nonlinear belief in any units and on any clock: a function of x_t / sigma and the log-SNR."""

    def __init__(self, process):
        super().__init__()
        self.process = process

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t)
        x_0 = torch.sin(x_t / level.sigma) + torch.tanh(level.logsnr / 4)
        return Prediction(x_0, (x_t - level.alpha * x_0) / level.sigma)


@pytest.mark.parametrize("sampler", ["ddim", "ddim-0.4", "ancestral", "ancestral-beta"])
def test_samples_do_not_depend_on_units_or_clock(sampler):
    logsnr = torch.linspace(-6, 4, 15, dtype=torch.float64)
    noise, z = SeededNoise.samples(0, 4), start()
    ends = []
    for process in (
        Process(VP(), Cosine()),
        Process(VE(), LinearLogSNR(-8.0, 8.0)),
        Process(Straight(), Logistic()),
        Process(VP(), LinearBeta()),
    ):
        times = torch.cat((process.schedule.time(logsnr), torch.zeros(1, dtype=torch.float64)))
        tableau = {
            "ddim": lambda p=process, t=times: ddim(p, t),
            "ddim-0.4": lambda p=process, t=times: ddim(p, t, 0.4),
            "ancestral": lambda p=process, t=times: ancestral(p, t),
            "ancestral-beta": lambda p=process, t=times: ancestral(p, t, "beta"),
        }[sampler]()
        x = process.level(times[0]).sigma * z
        ends.append(run(Belief(process), tableau, x, noise=noise))
    for other in ends[1:]:
        # Fifteen steps with slopes up to 1 / sigma = 7 at the clean end; log-SNRs agree to 1e-14.
        torch.testing.assert_close(other, ends[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_a_share_of_noise_outside_its_range_is_refused(eta):
    with pytest.raises(InputError, match=r"^eta: "):
        ddim(PROCESSES["VP"], uniform(3), eta)


def test_an_unknown_variance_is_refused():
    # Unwrapped, since the test run's type checker refuses it before the function can.
    with pytest.raises(InputError, match=r"^variance: 'gamma' .*posterior, beta, learned"):
        inspect.unwrap(ancestral)(PROCESSES["VP"], uniform(3), "gamma")


@pytest.mark.parametrize("spread", [[0.1, 0.2], [0.1, 0.2, 0.3, 0.4], [0.1, -0.2, 0.3], [0.1, math.nan, 0.3]])
def test_a_spread_of_x_0_that_does_not_fit_the_steps_is_refused(spread):
    with pytest.raises(InputError, match=r"^variance: .*at least 0 .*of the 3 steps"):
        ancestral(PROCESSES["VP"], uniform(3), torch.tensor(spread, dtype=torch.float64))
