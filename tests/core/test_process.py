"""Marginals, transitions, posteriors, the SDE and the prior of every scaling with every schedule.

Tolerances: log-SNRs here stay within 40, so one is rounded by about 40 * 1.1e-16 = 5e-15, and what is added between s
and t, ``c = -expm1(logsnr_t - logsnr_s)``, is off by that much in absolute terms: relative errors of variances are
1e-14 / c, and absolute errors 1e-14 sigma_t^2. A factor of ten is left on top.
"""

import math
import re
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch.distributions import Normal, kl_divergence

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Process,
    Schedule,
    Straight,
    Tabulated,
    cosine_betas,
    geometric,
    linear_betas,
    quadratic_betas,
    sigmoid_betas,
)
from sfumato.core.process import added_noise_fraction
from sfumato.errors import InputError

# torch.func.jvp imports a module of torch's that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

quick = settings(deadline=None, max_examples=25, derandomize=True)
unit = st.integers(0, 10**6).map(lambda k: k / 10**6)
pairs = st.tuples(unit, unit).map(sorted).filter(lambda pair: pair[1] - pair[0] > 1e-3)
paths = st.lists(st.integers(0, 100), min_size=3, max_size=6, unique=True).map(lambda ks: [k / 100 for k in sorted(ks)])

CHAINS = {
    "linear": linear_betas(1000),
    "short": linear_betas(10),
    "quadratic": quadratic_betas(200),
    "sigmoid": sigmoid_betas(200),
    "cosine": cosine_betas(100),
    "one-step": torch.tensor([0.3], dtype=torch.float64),
}


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def close(got, expected, *, rtol: float = 1e-12, atol: float = 0.0) -> None:
    got, expected = (torch.as_tensor(v, dtype=torch.float64).squeeze() for v in (got, expected))
    torch.testing.assert_close(got, expected.expand_as(got), rtol=rtol, atol=atol)


# ------------------------------------------------------------------------------------------------ marginals


@pytest.mark.parametrize("betas", CHAINS.values(), ids=CHAINS.keys())
def test_marginals_of_a_chain_are_products_of_its_single_steps(betas):
    process = Process(VP(), Tabulated(betas))
    means, variances = [1.0], [0.0]
    for beta in betas.tolist():
        means.append(math.sqrt(1 - beta) * means[-1])
        variances.append((1 - beta) * variances[-1] + beta)
    level = process.level(torch.arange(len(betas) + 1).double() / len(betas))
    # T roundings of the product, and the log-SNR's own.
    close(level.alpha, means)
    close(level.sigma**2, variances)


@pytest.mark.parametrize("betas", CHAINS.values(), ids=CHAINS.keys())
def test_a_single_step_of_a_chain_is_its_beta(betas):
    process = Process(VP(), Tabulated(betas))
    T, x = len(betas), tensor(1.0, -2.0)
    for k in sorted({1, 2, T // 2, T - 1, T} & set(range(1, T + 1))):
        step = process.transition(x, (k - 1) / T, k / T)
        beta = float(betas[k - 1])
        close(step.mean, math.sqrt(1 - beta) * x, rtol=1e-12)
        close(step.variance, beta, rtol=1e-14 / beta)


@quick
@given(times=paths)
def test_transitions_compose_along_any_times(process, times):
    one = tensor(1.0)
    gain, variance = one, tensor(0.0)
    for s, t in pairwise(times):
        step = process.transition(gain, s, t)
        gain, variance = step.mean, process.transition(one, s, t).mean ** 2 * variance + step.variance
    start, end = process.level(times[0]), process.level(times[-1])
    whole = process.transition(one, times[0], times[-1])
    slack = 1e-13 * float(end.sigma) ** 2
    close(gain, whole.mean)
    close(variance, whole.variance, atol=slack)
    # The law of total variance leads from the marginal at s to the one at t.
    close(gain * start.alpha, end.alpha)
    close(gain**2 * start.sigma**2 + variance, end.sigma**2)


def test_perturb_draws_from_the_marginal_for_each_sample_of_an_image_batch(process):
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(3, 2, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0.1, 0.6, 1.0], dtype=torch.float64)
    x_t = process.perturb(x_0, t, noise)
    for i in range(3):
        level = process.level(float(t[i]))
        assert torch.equal(x_t[i], level.alpha * x_0[i] + level.sigma * noise[i])
    # In float32 the level is rounded once, and the two products and the sum once each.
    single = process.perturb(x_0.float(), t, noise.float())
    assert single.dtype == torch.float32
    scale = float((x_0.abs().max() + noise.abs().max()) * process.level(t).sigma.max().clamp(min=1))
    close(single.double().flatten(), x_t.flatten(), rtol=0, atol=4 * 6e-8 * scale)


# ------------------------------------------------------------------------------------------------ posteriors


def by_precisions(process: Process, x_t, x_0, t: float, s: float):
    """q(x_s | x_t, x_0): the precisions of q(x_s | x_0) and of q(x_t | x_s), read as a function of x_s, add up."""
    at_t, at_s = process.level(t), process.level(s)
    gain = at_t.alpha / at_s.alpha
    likelihood = gain**2 / (at_t.sigma**2 - gain**2 * at_s.sigma**2)
    prior = 1 / at_s.sigma**2
    pull = gain / (at_t.sigma**2 - gain**2 * at_s.sigma**2) * x_t
    return (prior * at_s.alpha * x_0 + pull) / (prior + likelihood), 1 / (prior + likelihood)


@quick
@given(pair=pairs)
def test_posterior_is_gaussian_conditioning(process, pair):
    s, t = pair
    x_t, x_0 = tensor(1.3, -0.4, 20.0), tensor(-0.7, 2.0, 0.1)
    posterior = process.posterior(x_t, x_0, t, s)
    at_t, at_s = process.level(t), process.level(s)
    if at_s.sigma == 0:
        assert torch.equal(posterior.mean, x_0)
        assert float(posterior.variance) == 0
        return
    mean, variance = by_precisions(process, x_t, x_0, t, s)
    # sigma_t^2 - gain^2 sigma_s^2, the reference's own difference, loses the same 1 / c.
    slack = 1e-13 / float(added_noise_fraction(at_t, at_s))
    close(posterior.variance, variance, rtol=slack)
    close(posterior.mean, mean, rtol=slack, atol=slack * float(x_0.abs().max() * at_s.alpha))


@pytest.mark.parametrize("betas", CHAINS.values(), ids=CHAINS.keys())
def test_posterior_of_neighbours_is_ho_et_al_equations_6_and_7(betas):
    process = Process(VP(), Tabulated(betas))
    T, x_t, x_0 = len(betas), 0.9, -1.7
    alpha_bar, means, variances = 1.0, [], []
    for beta in betas.tolist():
        before, alpha_bar = alpha_bar, alpha_bar * (1 - beta)
        from_x_0 = math.sqrt(before) * beta / (1 - alpha_bar)
        from_x_t = math.sqrt(1 - beta) * (1 - before) / (1 - alpha_bar)
        means.append(from_x_0 * x_0 + from_x_t * x_t)
        variances.append((1 - before) / (1 - alpha_bar) * beta)
    k = torch.arange(1, T + 1).double()
    one = torch.ones(T, 1, dtype=torch.float64)
    posterior = process.posterior(x_t * one, x_0 * one, k / T, (k - 1) / T)
    # 1 - alpha-bar, formed here by subtraction, is off by u / (1 - alpha-bar) at the clean end.
    slack = 1e-12 + 1e-14 / float(betas[0])
    close(posterior.mean, means, rtol=slack, atol=slack)
    close(posterior.variance, variances, rtol=slack)


@pytest.mark.parametrize("scaling", [VP(), Straight()], ids=["VP", "Straight"])
@pytest.mark.parametrize("s", [0.0, 0.2, 0.9])
def test_posterior_from_pure_noise_is_the_marginal(scaling, s):
    process = Process(scaling, Logistic())
    assert float(process.level(1.0).alpha) == 0
    x_0, level = tensor(0.3, -2.0), process.level(s)
    posterior = process.posterior(tensor(5.0, -9.0), x_0, 1.0, s)
    assert torch.equal(posterior.mean, level.alpha * x_0)
    assert torch.equal(posterior.variance, level.sigma**2)


def test_posterior_and_transition_make_one_joint_distribution(process):
    # Moments of (x_s, x_t) given x_0, drawn forwards, and backwards by the posterior from x_t's marginal.
    s, t, one = 0.35, 0.8, tensor(1.0)
    at_s, at_t = process.level(s), process.level(t)
    forward = process.transition(one, s, t).mean * at_s.sigma**2
    pull = process.posterior(one, 0 * one, t, s).mean
    keep = process.posterior(0 * one, one, t, s).mean
    variance = process.posterior(one, one, t, s).variance
    close(pull * at_t.sigma**2, forward)
    close(pull * at_t.alpha + keep, at_s.alpha)
    close(pull**2 * at_t.sigma**2 + variance, at_s.sigma**2)


def test_posterior_and_transition_take_a_time_for_each_sample(process):
    s, t = (torch.tensor(v, dtype=torch.float64) for v in ([0.1, 0.4], [0.5, 0.9]))
    x, x_0 = torch.ones(2, 3, 2, dtype=torch.float64), torch.full((2, 3, 2), -0.5, dtype=torch.float64)
    for whole, parts in (
        (
            process.posterior(x, x_0, t, s),
            [process.posterior(x[:1], x_0[:1], float(t[i]), float(s[i])) for i in (0, 1)],
        ),
        (process.transition(x, s, t), [process.transition(x[:1], float(s[i]), float(t[i])) for i in (0, 1)]),
    ):
        assert whole.mean.shape == x.shape
        assert whole.variance.shape == (2, 1, 1)
        for i in (0, 1):
            close(whole.mean[i], parts[i].mean[0], rtol=1e-15)
            close(whole.variance[i], parts[i].variance, rtol=1e-15)


def test_a_grid_ends_at_data_whatever_the_clock(process):
    times = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    grid, level = process.grid(times), process.level(times)
    assert [float(v[2]) for v in (grid.alpha, grid.sigma, grid.logsnr)] == [1.0, 0.0, math.inf]
    for got, expected in zip(
        (grid.alpha, grid.sigma, grid.logsnr), (level.alpha, level.sigma, level.logsnr), strict=True
    ):
        assert torch.equal(got[:2], expected[:2])


# ------------------------------------------------------------------------------------------------ the SDE


def test_sde_transports_the_moments_by_reverse_mode_derivatives(process):
    for time in (0.03, 0.31, 0.58, 0.83, 0.97):  # off the kinks of the chains, at multiples of 1/20 and 1/50
        t = torch.tensor(time, dtype=torch.float64, requires_grad=True)
        level = process.level(t)
        alpha, variance = level.alpha.detach(), level.sigma.detach() ** 2
        (alpha_rate,) = torch.autograd.grad(level.alpha + 0 * t, t, retain_graph=True)  # constant in VE
        (variance_rate,) = torch.autograd.grad(level.sigma**2, t)
        f, g2 = process.sde(time)
        close(f * alpha, alpha_rate, rtol=1e-11, atol=1e-14)
        close(2 * f * variance + g2, variance_rate, rtol=1e-11, atol=1e-13 * float((f * variance).abs()))


def test_sde_transports_the_moments_by_central_differences(process):
    h = 1e-5
    for time in (0.13, 0.47, 0.91):
        before, here, after = process.level(time - h), process.level(time), process.level(time + h)
        f, g2 = process.sde(time)
        variance_rate = (after.sigma**2 - before.sigma**2) / (2 * h)
        # h^2 / 6 times third derivatives, at most about (40)^3 of the value, plus u / h from rounding.
        close(f * here.alpha, (after.alpha - before.alpha) / (2 * h), rtol=2e-6, atol=1e-10)
        close(2 * f * here.sigma**2 + g2, variance_rate, rtol=2e-6, atol=1e-10)


def test_sde_of_the_linear_rate_is_song_et_al_equation_11():
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    beta = 0.1 + t * (20 - 0.1)
    f, g2 = Process(VP(), LinearBeta(0.1, 20.0)).sde(t)
    close(f, -beta / 2)
    close(g2, beta, rtol=1e-11)


def test_sde_of_a_chain_has_the_rate_that_its_step_adds_up_to():
    betas = linear_betas(40)
    process = Process(VP(), Tabulated(betas))
    for k in (1, 2, 20, 40):
        rate = -40 * math.log1p(-float(betas[k - 1]))
        f, g2 = process.sde((k - 0.3) / 40)
        close(f, -rate / 2)
        close(g2, rate, rtol=1e-11)


def test_sde_of_the_geometric_clock_is_song_et_al_equation_9():
    t = torch.linspace(0.0, 1.0, 5, dtype=torch.float64)
    f, g2 = Process(VE(), geometric(0.01, 50.0)).sde(t)
    sigma = 0.01 * (50.0 / 0.01) ** t
    assert torch.equal(f, torch.zeros_like(t))
    close(g2, 2 * sigma**2 * math.log(50.0 / 0.01))


def test_sde_of_the_straight_path():
    # alpha = 1 - t and sigma = t: f = -1 / (1 - t), and 2 t = 2 f t^2 + g^2.
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    f, g2 = Process(Straight(), Logistic()).sde(t)
    close(f, -1 / (1 - t))
    close(g2, 2 * t / (1 - t))


# ------------------------------------------------------------------------------------------------ refusals


class Rising(Schedule):
    """Falls, but for a bump between 0.4 and 0.6."""

    def logsnr(self, t):
        return 5 - 10 * t + 8 * torch.exp(-(((t - 0.5) / 0.05) ** 2))

    def time(self, logsnr):
        return (5 - logsnr) / 10

    @property
    def remedy(self):
        return "do not rise"


class Flat(Rising):
    def logsnr(self, t):
        return torch.zeros_like(t)


class Broken(Rising):
    def logsnr(self, t):
        return torch.where(t > 0.7, torch.nan, -t)


@pytest.mark.parametrize(
    ("schedule", "where"), [(Rising(), r"t = 0\.39"), (Flat(), r"t = 0\.0000"), (Broken(), r"t = 0\.(69|70)")]
)
def test_a_schedule_that_does_not_fall_is_refused_with_the_place(schedule, where):
    with pytest.raises(InputError, match=rf"^{type(schedule).__name__}: .*{where}.*strictly decreasing$"):
        Process(VP(), schedule)


def test_ve_refuses_a_clock_that_reaches_pure_noise():
    with pytest.raises(InputError, match=r"VE: sigma is infinite at t = 1; give Logistic a finite logsnr_min"):
        Process(VE(), Logistic())


# ------------------------------------------------------------------------------------------------ the prior


def test_prior_is_the_marginal_of_data_of_unit_second_moment(process):
    for t in (0.2, 1.0):
        level, prior = process.level(t), process.prior(t)
        assert float(prior.mean) == 0
        close(prior.variance, level.alpha**2 + level.sigma**2, rtol=1e-15)


def test_prior_variances_are_the_familiar_ones():
    close(Process(VP(), Cosine()).prior(0.37).variance, 1.0, rtol=1e-14)
    close(Process(VE(), geometric(0.01, 50.0)).prior().variance, 1 + 50.0**2, rtol=1e-13)
    close(Process(Straight(), Logistic()).prior().variance, 1.0, rtol=0)


def test_check_prior_is_the_divergence_averaged_over_data(process):
    # Data of two points +-a has second moment a^2, and the divergence is the same for both.
    a = 0.5
    level = process.level(1.0)
    nats = kl_divergence(
        Normal(level.alpha * a, level.sigma), Normal(0.0, (level.alpha**2 + level.sigma**2).sqrt(), validate_args=False)
    )
    check = process.check_prior(a**2)
    # What is subtracted is of order 1 at most.
    close(check.bits_per_dim, nats / math.log(2), rtol=1e-9, atol=1e-14)
    close(check.signal, level.alpha / torch.hypot(level.alpha, level.sigma), atol=1e-300)


@pytest.mark.parametrize(
    "process", [Process(VP(), Tabulated(linear_betas(100))), Process(VE(), LinearLogSNR(-2.0, 9.0))]
)
def test_check_prior_is_the_divergence_by_quadrature(process):
    level = process.level(1.0)
    alpha, sigma = float(level.alpha), float(level.sigma)
    wide = math.hypot(alpha, sigma)
    total = 0.0
    points = ((-0.6, 0.3), (0.2, 0.5), (1.1, 0.2))  # (x_0, its share)
    for x_0, share in points:
        q, p = stats.norm(alpha * x_0, sigma), stats.norm(0, wide)
        ends = alpha * x_0 - 12 * sigma, alpha * x_0 + 12 * sigma
        total += share * integrate.quad(lambda x, q=q, p=p: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), *ends)[0]
    second_moment = sum(share * x_0**2 for x_0, share in points)
    close(process.check_prior(second_moment).bits_per_dim, total / math.log(2), rtol=1e-9)


@pytest.mark.parametrize(("steps", "published"), [(1000, 7.3e-6), (100, 0.13)])
def test_prior_gap_of_the_linear_chains(steps, published):
    alpha_bar = math.prod((1 - linear_betas(steps)).tolist())
    closed = (alpha_bar * 0.25 - alpha_bar - math.log1p(-alpha_bar)) / (2 * math.log(2))
    check = Process(VP(), Tabulated(linear_betas(steps))).check_prior(0.25)
    # Terms of order alpha-bar cancel down to the gap: u / gap is left.
    close(check.bits_per_dim, closed, rtol=1e-9)
    assert check.bits_per_dim == pytest.approx(published, rel=0.01)
    close(check.signal, math.sqrt(alpha_bar))


def test_a_gap_that_matters_is_told_with_its_mend():
    short, long, cosine = (
        Process(VP(), Tabulated(betas)).check_prior()
        for betas in (linear_betas(100), linear_betas(1000), cosine_betas(100))
    )
    assert long.warning is None
    assert cosine.warning is None
    assert short.warning is not None
    assert "\n" not in short.warning
    assert f"{short.bits_per_dim:.2g} bits/dim" in short.warning
    assert short.warning.endswith("use more steps, a larger last beta, or cosine betas")
    assert Process(Straight(), Logistic()).check_prior().bits_per_dim == 0


@pytest.mark.parametrize(
    ("schedule", "mend"),
    [
        (LinearBeta(0.1, 2.0), "raise beta_max"),
        (Cosine(-1.0, 10.0), "lower logsnr_min"),
        (geometric(0.01, 2.0), r"lower logsnr_min \(raise sigma_max\)"),
        (Logistic(-1.0, 10.0), "lower logsnr_min"),
    ],
)
def test_the_mend_is_one_that_works(schedule, mend):
    warning = Process(VP(), schedule).check_prior().warning
    assert warning is not None

    assert re.search(mend + "$", warning)


@pytest.mark.parametrize("process", [Process(VP(), Cosine()), Process(Straight(), Logistic())])
def test_a_scale_that_samplers_do_not_suit_is_told_with_its_mend(process):
    for size in (0.051, 0.3, 1.0, 2.5):
        assert process.check_prior(size**2).warning is None
    for size in (0.01, 0.04, 3.0, 100.0):
        warning = process.check_prior(size**2).warning
        assert warning is not None
        assert "\n" not in warning
        assert f"a root mean square of {size:g} per number" in warning
        assert "scale the data to about unit variance" in warning


def test_a_gap_and_a_scale_are_one_line():
    warning = Process(VP(), Tabulated(linear_betas(100))).check_prior(1e4).warning
    assert warning is not None
    assert "\n" not in warning
    assert "bits/dim" in warning
    assert "root mean square of 100" in warning


def test_prior_gap_does_not_depend_on_the_scaling():
    for schedule in (Tabulated(linear_betas(100)), LinearLogSNR(-3.0, 9.0), Logistic(-2.0, 9.0)):
        vp, ve, straight = (Process(scaling, schedule).check_prior(0.25) for scaling in (VP(), VE(), Straight()))
        for other in (ve, straight):
            close(other.bits_per_dim, vp.bits_per_dim)
            close(other.signal, vp.signal)
