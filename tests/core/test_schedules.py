"""Schedules against published formulas, their inverses, their ends, and what they refuse.

Inverses: a log-SNR L is known to ``|L| u``, a time to u; passing through the other with slope L' costs
``u (1 + |L / L'|)`` in time. A factor of 32 covers the few operations on the way.
"""

import math
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

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
    Tabulated,
    cosine_betas,
    geometric,
    linear_betas,
    quadratic_betas,
    sigmoid_betas,
)
from sfumato.errors import InputError

U = 2.0**-52
quick = settings(deadline=None, max_examples=40, derandomize=True)
inside = st.integers(1, 10**6 - 1).map(lambda k: k / 10**6)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def slope(schedule, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    t = t.clone().requires_grad_()
    logsnr = schedule.logsnr(t)
    (rate,) = torch.autograd.grad(logsnr.sum(), t)
    return logsnr.detach(), rate


# ------------------------------------------------------------------------------------------------ every schedule


@quick
@given(times=st.lists(inside, min_size=1, max_size=20))
def test_time_inverts_logsnr_and_logsnr_inverts_time(schedule, times):
    t = tensor(*times)
    logsnr, rate = slope(schedule, t)
    slack = 32 * U * (1 + (logsnr / rate).abs())
    back = schedule.time(logsnr)
    assert ((back - t).abs() <= slack).all()
    # At a kink of a chain the slope on the other side, within a factor of the two rates, may be the one that counts.
    again = schedule.logsnr(back.clamp(0, 1))
    assert ((again - logsnr).abs() <= 3 * rate.abs() * slack).all()


@quick
@given(times=st.lists(inside, min_size=2, max_size=20, unique=True))
def test_strictly_decreasing(schedule, times):
    logsnr = schedule.logsnr(tensor(0.0, *sorted(times), 1.0))
    assert (logsnr[1:] < logsnr[:-1]).all()


def test_a_schedule_keeps_shape_and_takes_scalars(schedule):
    t = torch.rand(2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logsnr = schedule.logsnr(t)
    assert logsnr.shape == schedule.time(logsnr).shape == (2, 3)
    assert logsnr.dtype == torch.float64
    assert float(schedule.logsnr(t[1, 2])) == float(logsnr[1, 2])


@pytest.mark.parametrize(
    ("schedule", "start", "end"),
    [
        (LinearLogSNR(-5.0, 13.3), 13.3, -5.0),
        (geometric(0.01, 50.0), 2 * math.log(100.0), -2 * math.log(50.0)),
        (Cosine(-15.0, 15.0), 15.0, -15.0),
        (Cosine(-20.0, 9.0), 9.0, -20.0),
        (Logistic(-12.0, 14.0), 14.0, -12.0),
        (Logistic(), math.inf, -math.inf),
        (Logistic(-9.0), math.inf, -9.0),
        (Logistic(logsnr_max=9.0), 9.0, -math.inf),
        (Cosine(-15.0, math.inf), math.inf, -15.0),
        (LinearBeta(0.1, 20.0), math.inf, -math.log(math.expm1(10.05))),
        (Tabulated(linear_betas(3, 0.1, 0.3)), math.inf, math.log(0.504 / 0.496)),
    ],
)
def test_ends_are_the_declared_ones_and_invert(schedule, start, end):
    got = schedule.logsnr(tensor(0.0, 1.0))
    # The cosine's last angle is known to u, and is exp(-10) away from pi/2: 2 u / 4.5e-5.
    torch.testing.assert_close(got, tensor(start, end), rtol=1e-11, atol=0)
    torch.testing.assert_close(schedule.time(tensor(start, end)), tensor(0.0, 1.0), rtol=0, atol=1e-14)


@pytest.mark.parametrize("logsnr_max", [math.inf, 15.0])
def test_cosine_cut_nowhere_reaches_pure_noise(logsnr_max):
    process = Process(VP(), Cosine(-math.inf, logsnr_max))
    assert float(process.schedule.logsnr(tensor(1.0))) == -math.inf
    assert float(Noise().det(process.level(1.0))) == 0


@pytest.mark.parametrize("logsnr_min", [-40.0, -60.0, -80.0])
@pytest.mark.parametrize("clock", [Cosine, Logistic])
def test_a_clock_ends_where_it_says_however_far_out(clock, logsnr_min):
    assert float(clock(logsnr_min, 15.0).logsnr(tensor(1.0))) == pytest.approx(logsnr_min, rel=1e-11)


@pytest.mark.parametrize("schedule", [LinearBeta(0.1, 60.0), Tabulated(linear_betas(20, 0.1, 0.9999))])
def test_rates_invert_far_beyond_log_snr_minus_twenty(schedule):
    t = torch.linspace(0.9, 1, 11, dtype=torch.float64)
    logsnr, rate = slope(schedule, t)
    assert (logsnr[-3:] < -20).all()
    assert ((schedule.time(logsnr) - t).abs() <= 32 * U * (1 + (logsnr / rate).abs())).all()


# ------------------------------------------------------------------------------------------------ continuous clocks


def test_linear_beta_is_the_integral_of_its_rate():
    schedule = LinearBeta(0.1, 20.0)
    for t in (1e-4, 0.01, 0.3, 1.0):
        decay, _ = integrate.quad(lambda s: 0.1 + s * 19.9, 0, t, epsabs=0, epsrel=1e-13)
        expected = math.log(math.exp(-decay) / -math.expm1(-decay))
        assert float(schedule.logsnr(tensor(t))) == pytest.approx(expected, rel=1e-12)


def test_linear_beta_of_a_constant_rate():
    schedule = LinearBeta(3.0, 3.0)
    t = tensor(0.1, 0.5, 1.0)
    torch.testing.assert_close(torch.sigmoid(schedule.logsnr(t)), torch.exp(-3 * t), rtol=1e-13, atol=0)
    torch.testing.assert_close(schedule.time(schedule.logsnr(t)), t, rtol=1e-13, atol=0)


def test_cosine_uncut_is_cosine_and_sine():
    level = Process(VP(), Cosine(-50.0, math.inf)).level(torch.linspace(0, 0.99, 12, dtype=torch.float64))
    angle = torch.linspace(0, 0.99, 12, dtype=torch.float64) * math.pi / 2
    # The cut, at an angle exp(-25) short of pi/2, moves angles by 1e-11 of it.
    torch.testing.assert_close(level.alpha, torch.cos(angle), rtol=1e-8, atol=0)
    torch.testing.assert_close(level.sigma, torch.sin(angle), rtol=1e-8, atol=0)


def test_cosine_is_hoogeboom_et_al_with_truncated_ends():
    low, high = -13.0, 11.0
    start, end = math.atan(math.exp(-0.5 * high)), math.atan(math.exp(-0.5 * low))
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    expected = [-2 * math.log(math.tan(start + float(v) * (end - start))) for v in t]
    torch.testing.assert_close(Cosine(low, high).logsnr(t), tensor(*expected), rtol=1e-12, atol=1e-12)


def test_geometric_sigmas_are_in_geometric_progression():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    level = Process(VE(), geometric(0.01, 50.0)).level(t)
    torch.testing.assert_close(level.sigma, 0.01 * (50.0 / 0.01) ** t, rtol=1e-13, atol=0)


def test_logistic_on_the_straight_path_has_sigma_equal_to_t():
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    level = Process(Straight(), Logistic()).level(t)
    torch.testing.assert_close(level.sigma, t, rtol=1e-14, atol=0)
    torch.testing.assert_close(level.alpha, 1 - t, rtol=1e-14, atol=0)


def test_logistic_cut_is_a_piece_of_the_same_line():
    low, high = -6.0, 8.0
    t = torch.linspace(0, 1, 7, dtype=torch.float64)
    first, last = 1 / (1 + math.exp(high / 2)), 1 / (1 + math.exp(low / 2))
    sigma = Process(Straight(), Logistic(low, high)).level(t).sigma
    torch.testing.assert_close(sigma, first + t * (last - first), rtol=1e-13, atol=0)


# ------------------------------------------------------------------------------------------------ chains


def test_a_chain_is_log_linear_in_alpha_bar_between_its_levels():
    betas = [0.1, 0.4, 0.05]
    schedule = Tabulated(tensor(*betas))
    assert schedule.steps == 3
    alpha_bar = [1.0]
    for beta in betas:
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    for k in range(3):
        for share in (0.0, 0.25, 0.5, 0.9):
            expected = alpha_bar[k] ** (1 - share) * alpha_bar[k + 1] ** share
            got = torch.sigmoid(schedule.logsnr(tensor((k + share) / 3)))
            assert float(got) == pytest.approx(expected, rel=1e-13)


def test_published_betas():
    steps = 37
    linear, quadratic, sigmoid = linear_betas(steps), quadratic_betas(steps), sigmoid_betas(steps)
    for k in range(steps):
        u = k / (steps - 1)
        assert float(linear[k]) == pytest.approx(1e-4 + u * (0.02 - 1e-4), rel=1e-13)
        root = math.sqrt(1e-4) + u * (math.sqrt(0.02) - math.sqrt(1e-4))
        assert float(quadratic[k]) == pytest.approx(root**2, rel=1e-13)
        logistic = 1 / (1 + math.exp(6 - 12 * u))
        assert float(sigmoid[k]) == pytest.approx(1e-4 + logistic * (0.02 - 1e-4), rel=1e-13)
    for betas in (linear_betas(1), quadratic_betas(1)):
        assert betas.tolist() == pytest.approx([1e-4], rel=1e-15)


@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_cosine_betas_are_nichol_and_dhariwal_with_their_clip(steps):
    def f(t: float) -> float:
        return math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = cosine_betas(steps)
    for t in range(1, steps + 1):
        expected = min(1 - (f(t) / f(0)) / (f(t - 1) / f(0)), 0.999)
        # 1 - a ratio near one.
        assert float(betas[t - 1]) == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert float(betas[-1]) == 0.999
    assert (cosine_betas(steps, clip=0.5) <= 0.5).all()
    Tabulated(betas)


def test_cosine_betas_without_the_clip_are_refused():
    with pytest.raises(InputError, match="beta_50 = 1 of 50"):
        Tabulated(cosine_betas(50, clip=1.0))


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([0.1, 0.2, 1.5, 2.0], r"beta_3 = 1\.5 of 4 is outside \(0, 1\).*more steps"),
        ([0.0, 0.1], "beta_1 = 0 of 2"),
        ([0.1, 1.0], "beta_2 = 1 of 2"),
        ([0.1, -0.1], r"beta_2 = -0\.1 of 2"),
        ([math.nan], "beta_1 = nan of 1"),
        ([], r"shape \(0,\)"),
        ([[0.1, 0.2]], r"shape \(1, 2\)"),
    ],
)
def test_betas_that_are_no_chain_are_refused_naming_the_first(betas, message):
    with pytest.raises(InputError, match="^betas: .*" + message):
        Tabulated(torch.tensor(betas, dtype=torch.float64))


@pytest.mark.parametrize("steps", range(2, 26))
def test_linear_betas_rescaled_to_short_chains_pass_one_below_twenty_steps(steps):
    betas = linear_betas(steps, 0.1 / steps, 20 / steps)  # (1e-4, 0.02) * 1000 / T
    if steps > 20:
        assert Tabulated(betas).steps == steps
    else:
        first = next(k for k in range(steps) if 0.1 + (20 - 0.1) * k / (steps - 1) > steps - 1e-9) + 1
        with pytest.raises(InputError, match=rf"beta_{first} = \S+ of {steps} is outside \(0, 1\)"):
            Tabulated(betas)


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: LinearBeta(0.0, 20.0), ("beta_min", "0.0")),
        (lambda: LinearBeta(20.0, 0.1), ("beta_min", "beta_max")),
        (lambda: LinearBeta(0.1, math.inf), ("beta_max", "inf")),
        (lambda: LinearBeta(math.nan, 1.0), ("beta_min", "nan")),
        (lambda: Cosine(5.0, -5.0), ("logsnr_min", "5.0", "-5.0")),
        (lambda: Cosine(math.nan, 5.0), ("logsnr_min", "nan")),
        (lambda: Logistic(1.0, 1.0), ("logsnr_min", "logsnr_max")),
        (lambda: LinearLogSNR(-math.inf, 5.0), ("logsnr_min", "-inf", "finite")),
        (lambda: LinearLogSNR(-5.0, math.inf), ("logsnr_max", "inf", "finite")),
        (lambda: LinearLogSNR(5.0, 5.0), ("logsnr_min",)),
        (lambda: geometric(0.0, 1.0), ("sigma_min", "0.0")),
        (lambda: geometric(2.0, 1.0), ("sigma_min", "sigma_max")),
        (lambda: geometric(0.1, math.inf), ("sigma_max", "inf")),
        (lambda: linear_betas(0), ("steps", "0", "at least 1")),
        (lambda: cosine_betas(-3), ("steps", "-3")),
    ],
)
def test_bad_settings_are_refused_in_one_line(make, names):
    with pytest.raises(InputError) as caught:
        make()
    message = str(caught.value)
    assert "\n" not in message
    assert all(re.search(re.escape(name), message) for name in names)
