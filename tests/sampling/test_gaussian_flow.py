"""Orders of convergence on Gaussian data, where everything a sampler does is known in closed form.

Along an eigen-direction of the covariance, of variance v and mean m, let y = x_t / alpha and r = sigma / alpha. The
probability-flow ODE is dy/dr = E[eps | x_t] = r (y - m) / (v + r^2), so (y - m) / sqrt(v + r^2) is conserved: the
standardised coordinate of x_t stays what it is. With the exact denoiser, samplers are affine in the state and in each
noise, so that a batch of unit probes gives mean and variance of their output without a single random number.
"""

import math

import pytest
import torch

from sfumato.core import VE, VP, Cosine, LinearLogSNR, Logistic, Process, Straight, Tabulated, linear_betas
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.sampling import ancestral, ddim, run, uniform

PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-8.0, 8.0)),
    "straight": Process(Straight(), Logistic()),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
DECADE = [40, 100, 400]


def order(steps: list[int], errors: list[float]) -> float:
    """The slope of log error against log step size, by least squares."""
    x, y = (torch.tensor([math.log(v) for v in values], dtype=torch.float64) for values in (steps, errors))
    return -float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


def full_gaussian() -> GaussianMixture:
    generator = torch.Generator().manual_seed(3)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    return GaussianMixture.gaussian(torch.tensor([1.0, -0.5, 2.0], dtype=torch.float64), root @ root.mT)


def flow(gaussian: GaussianMixture, process: Process, x_t, t, s):
    """The probability flow from t to s in closed form, with an eigen-decomposition of its own."""
    variances, axes = torch.linalg.eigh(gaussian.covariances[0])
    at_t, at_s = process.level(t), process.level(s)
    spread = torch.sqrt((at_s.alpha**2 * variances + at_s.sigma**2) / (at_t.alpha**2 * variances + at_t.sigma**2))
    mean = gaussian.means[0]
    return at_s.alpha * mean + ((x_t - at_t.alpha * mean) @ axes * spread) @ axes.mT


def even_in_logsnr(process: Process, steps: int, first: float = -6.0, last: float = 6.0) -> torch.Tensor:
    return process.schedule.time(torch.linspace(first, last, steps + 1, dtype=torch.float64))


@each_process
def test_ddim_converges_to_the_probability_flow_at_first_order(process):
    gaussian, errors = full_gaussian(), []
    z = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for steps in DECADE:
        times = even_in_logsnr(process, steps)
        level = process.level(times[0])
        x = level.alpha * gaussian.means[0] + torch.hypot(level.alpha, level.sigma) * z
        got = run(ExactDenoiser(process, gaussian), ddim(process, times), x)
        errors.append(float((got - flow(gaussian, process, x, times[0], times[-1])).abs().max()))
    assert order(DECADE, errors) == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.05


def test_ddim_on_even_times_from_pure_noise_converges_at_first_order():
    process, gaussian, errors = PROCESSES["straight"], full_gaussian(), []
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for steps in DECADE:
        got = run(ExactDenoiser(process, gaussian), ddim(process, uniform(steps)), x)
        errors.append(float((got - flow(gaussian, process, x, 1.0, 0.0)).abs().max()))
    assert order(DECADE, errors) == pytest.approx(1, abs=0.1)


VARIANCES = torch.tensor([0.04, 0.3, 1.0, 2.5], dtype=torch.float64)
MEANS = torch.tensor([1.0, -0.5, 0.0, 2.0], dtype=torch.float64)


def moments(process: Process, tableau, variances=VARIANCES, means=MEANS):
    """Exact mean and variance of a sampler's output that starts from the exact marginal, by unit probes.

    Row 0 of the batch starts at the mean without noise; row 1 one standard deviation off; row 2 + i sees one unit in
    draw i + 1. The output is affine, so squares of differences from row 0 add up to the variance.
    """
    gaussian = GaussianMixture.gaussian(means, variances.diag())
    level, rows = process.level(tableau.times[0]), len(tableau.times)
    x = (level.alpha * means).repeat(2 + rows, 1)
    x[1] += torch.sqrt(level.alpha**2 * variances + level.sigma**2)

    def probe(draw, like):
        z = torch.zeros_like(like)
        z[1 + draw] = 1
        return z

    out = run(ExactDenoiser(process, gaussian), tableau, x, noise=probe)
    return out[0], ((out[1:] - out[0]) ** 2).sum(0)


@each_process
@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_ancestral_sampling_converges_weakly_at_first_order(process, variance):
    errors, mean_errors = [], []
    for steps in DECADE:
        times = even_in_logsnr(process, steps)
        level = process.level(times[-1])
        mean, spread = moments(process, ancestral(process, times, variance))
        expected = level.alpha**2 * VARIANCES + level.sigma**2
        relative = (spread / expected - 1).abs()
        if variance == "beta":  # exact for data of unit variance
            assert float(relative[2]) < 1e-12
        errors.append(float(relative.max()))
        mean_errors.append(float((mean - level.alpha * MEANS).abs().max()))
    assert order(DECADE, errors) == pytest.approx(1, abs=0.1)
    assert errors[-1] < 0.1
    # Each step is right in the mean, whatever its size.
    assert max(mean_errors) < 1e-12


@each_process
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_of_any_stochasticity_converges_weakly_at_first_order(process, eta):
    errors = []
    for steps in DECADE:
        times = even_in_logsnr(process, steps)
        level = process.level(times[-1])
        _, spread = moments(process, ddim(process, times, eta))
        errors.append(float((spread / (level.alpha**2 * VARIANCES + level.sigma**2) - 1).abs().max()))
    assert order(DECADE, errors) == pytest.approx(1, abs=0.1)


@each_process
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_each_variance_is_exact_for_its_own_data_at_any_number_of_steps(process, steps):
    # Ho et al., section 3.2: the posterior's variance for a point, beta for data of unit variance.
    one = torch.ones(2, dtype=torch.float64)
    times = even_in_logsnr(process, steps)
    level = process.level(times[-1])
    mean, spread = moments(process, ancestral(process, times, "posterior"), 0 * one, 0.7 * one)
    torch.testing.assert_close(mean, level.alpha * 0.7 * one, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(spread, level.sigma**2 * one, rtol=1e-11, atol=0)
    mean, spread = moments(process, ancestral(process, times, "beta"), one, 0 * one)
    torch.testing.assert_close(mean, 0 * one, rtol=0, atol=1e-14)
    torch.testing.assert_close(spread, (level.alpha**2 + level.sigma**2) * one, rtol=1e-11, atol=0)


def test_the_variances_enclose_the_truth_for_data_in_between():
    # For 0 < v < 1 the exact reverse variance lies between the two choices, and so do the outputs.
    process = Process(VP(), Tabulated(linear_betas(50, 0.001, 0.2)))
    times = torch.arange(50, 0, -1).double() / 50
    v, m = torch.tensor([0.2, 0.8], dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    level = process.level(times[-1])
    truth = level.alpha**2 * v + level.sigma**2
    _, low = moments(process, ancestral(process, times, "posterior"), v, m)
    _, high = moments(process, ancestral(process, times, "beta"), v, m)
    assert (low < truth).all()
    assert (truth < high).all()
