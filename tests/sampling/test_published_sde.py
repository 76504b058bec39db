"""Samplers that add noise against the algorithms as they are printed, with a nonlinear belief and given noise.

The belief is a function of x_t / alpha and rho = sigma / alpha, so that an algorithm printed in one paper's units can
be run in all of them. Row r of a table takes draw r + 1: the loops here count rows.
"""

import math
from itertools import pairwise

import pytest
import torch

from sfumato.core import (
    VE,
    VP,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Prediction,
    Process,
    Straight,
    Tabulated,
    cosine_betas,
    geometric,
    linear_betas,
)
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import (
    ancestral,
    annealed_langevin,
    chain,
    corrected,
    ddim,
    dpm_solver_pp,
    euler_maruyama,
    heun,
    langevin,
    posterior_spread,
    repaint,
    run,
    uniform,
)

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64
CLOSE = {"rtol": 1e-10, "atol": 1e-10}
UNITS = {
    "VP": Process(VP(), Cosine()),
    "VP-chain": Process(VP(), Tabulated(linear_betas(100, 0.001, 0.15))),
    "VE": Process(VE(), LinearLogSNR(-8.0, 8.0)),
    "straight": Process(Straight(), Logistic(logsnr_min=-9.0)),
}
each_unit = pytest.mark.parametrize("process", UNITS.values(), ids=UNITS.keys())


def D(y, rho):
    """E[x_0] at x_t / alpha = y and sigma / alpha = rho: bounded, nonlinear, and different at every level."""
    return torch.sin(2 * y / math.hypot(1, rho)) + math.tanh(math.log(rho))


class Belief(Denoiser):
    def __init__(self, process: Process, share: torch.Tensor | None = None) -> None:
        super().__init__()
        self.process, self.share = process, share

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t)
        x_0 = D(x_t / level.alpha, float(level.sigma / level.alpha))
        return Prediction(x_0, (x_t - level.alpha * x_0) / level.sigma, self.share)


class Bounded(Denoiser):
    """A belief that exists at pure noise."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process

    def forward(self, x_t, t, cond=None):
        x_0 = torch.sin(2 * x_t) * torch.as_tensor(t)
        return Prediction(x_0, x_0)


def start() -> torch.Tensor:
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=F64)


DRAWS = torch.randn(400, 4, 3, generator=torch.Generator().manual_seed(1), dtype=F64)


def noise(draw, like):
    return DRAWS[draw]


def numbers(process: Process, times) -> list[tuple[float, float, float]]:
    """(alpha, sigma, rho) of each time of a grid; data at 0."""
    level = process.grid(times)
    return [(float(a), float(s), float(s / a)) for a, s in zip(level.alpha, level.sigma, strict=True)]


GRID = torch.tensor([0.95, 0.8, 0.66, 0.5, 0.3, 0.12, 0.04], dtype=F64)
TO_DATA = torch.cat((GRID, torch.zeros(1, dtype=F64)))


# --- EDM, algorithm 2 -------------------------------------------------------------------------------------------------


def edm_algorithm_2(y, sigmas, S_churn, S_tmin, S_tmax, S_noise, sigma_max):
    """Karras et al. 2022, algorithm 2, on y = x / alpha; the raise goes to sigma_max and no further."""
    N, row = len(sigmas) - 1, 0
    for i in range(N):
        t = sigmas[i]
        gamma = min(S_churn / N, math.sqrt(2) - 1) if S_tmin <= t <= S_tmax else 0.0
        t_hat = min(t + gamma * t, sigma_max)
        if gamma > 0:
            row += 1
            y = y + math.sqrt(max(t_hat**2 - t**2, 0)) * S_noise * DRAWS[row]
        d = (y - D(y, t_hat)) / t_hat
        after = y + (sigmas[i + 1] - t_hat) * d
        row += 1
        if sigmas[i + 1] != 0:
            d_after = (after - D(after, sigmas[i + 1])) / sigmas[i + 1]
            after = y + (sigmas[i + 1] - t_hat) * (d / 2 + d_after / 2)
            row += 1
        y = after
    return y, row


@each_unit
@pytest.mark.parametrize("times", [GRID, TO_DATA], ids=["above data", "to data"])
@pytest.mark.parametrize(
    ("S_churn", "S_tmin", "S_tmax", "S_noise"),
    [(0.0, 0.0, math.inf, 1.0), (1.0, 0.0, math.inf, 1.0), (40.0, 0.0, math.inf, 1.0), (1.5, 0.2, 4.0, 1.007)],
    ids=["none", "some", "most", "inside"],
)
def test_heun_with_churn_is_edms_algorithm_2(process, times, S_churn, S_tmin, S_tmax, S_noise):
    levels = numbers(process, times)
    highest = float(process.level(1.0).ratio)
    table = heun(process, times, S_churn, S_tmax, S_tmin, S_noise)
    got = run(Belief(process), table, levels[0][0] * start(), noise=noise)
    expected, rows = edm_algorithm_2(start(), [rho for _, _, rho in levels], S_churn, S_tmin, S_tmax, S_noise, highest)
    assert len(table.times) == rows
    assert table.evaluations == 2 * len(times) - 2 - int(times[-1] == 0)
    torch.testing.assert_close(got / levels[-1][0], expected, **CLOSE)


def test_churn_stops_at_the_noisiest_level():
    # From the end itself there is nowhere to go; from rho / 1.1, with gamma = 0.25, only to the end.
    process = Process(VE(), geometric(0.01, 50.0))
    times = process.schedule.time(-2 * torch.tensor([50.0, 50 / 1.1, 5.0], dtype=F64).log())
    table = heun(process, times, churn=0.5)
    jumps = table.times.isnan().nonzero().flatten().tolist()
    stds = table.noise[jumps, 0]
    torch.testing.assert_close(
        stds, torch.tensor([0.0, 50 * math.sqrt(1 - 1 / 1.1**2)], dtype=F64), rtol=1e-9, atol=1e-9
    )
    assert float(table.times[jumps[1] + 1]) == pytest.approx(1.0, abs=1e-12)
    got = run(Belief(process), table, 50 * start(), noise=noise)
    expected, _ = edm_algorithm_2(50 * start(), [50.0, 50 / 1.1, 5.0], 0.5, 0.0, math.inf, 1.0, 50.0)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", [{"churn": -1.0}, {"churn": 1.0, "churn_noise": -0.1}])
def test_negative_churn_is_refused(settings):
    with pytest.raises(InputError, match=r"^churn .*at least 0"):
        heun(UNITS["VP"], uniform(4), **settings)


# --- Euler-Maruyama ---------------------------------------------------------------------------------------------------

SDES = {
    # alpha, sigma, f and g^2 of dx = f x dt + g dw, each by hand.
    "VP": (
        Process(VP(), LinearBeta(0.1, 20.0)),
        lambda t: math.exp(-0.5 * (0.1 * t + 19.9 * t * t / 2)),
        lambda t: math.sqrt(-math.expm1(-(0.1 * t + 19.9 * t * t / 2))),
        lambda t: -0.5 * (0.1 + 19.9 * t),
        lambda t: 0.1 + 19.9 * t,
    ),
    "VE": (
        Process(VE(), geometric(0.01, 50.0)),
        lambda t: 1.0,
        lambda t: 0.01 * 5000**t,
        lambda t: 0.0,
        lambda t: 2 * (0.01 * 5000**t) ** 2 * math.log(5000),
    ),
    "straight": (
        Process(Straight(), Logistic()),
        lambda t: 1 - t,
        lambda t: t,
        lambda t: -1 / (1 - t),
        lambda t: 2 * t / (1 - t),
    ),
}


@pytest.mark.parametrize("last", [0.0, 0.02])
@pytest.mark.parametrize("case", SDES.values(), ids=SDES.keys())
def test_euler_maruyama_is_song_et_als_discretised_reverse_sde(case, last):
    process, alpha, sigma, f, g2 = case
    times = [0.9, 0.8, 0.5, 0.3, 0.1, last]
    x = alpha(0.9) * start() + sigma(0.9) * DRAWS[0]
    got = run(Belief(process), euler_maruyama(process, torch.tensor(times, dtype=F64)), x, noise=noise)
    for i in range(5):
        t, dt = times[i], times[i + 1] - times[i]
        x_0 = D(x / alpha(t), sigma(t) / alpha(t))
        if times[i + 1] == 0:
            x = x_0
            continue
        score = (alpha(t) * x_0 - x) / sigma(t) ** 2
        x = x + (f(t) * x - g2(t) * score) * dt + math.sqrt(g2(t) * -dt) * DRAWS[i + 1]
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


# --- Langevin ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denoise", [True, False])
def test_annealed_langevin_is_ncsns_algorithm_1(denoise):
    sigmas, epsilon, T = [10.0, 3.0, 1.0, 0.25], 0.02, 5
    process = Process(VE(), geometric(0.01, 50.0))
    times = process.schedule.time(-2 * torch.tensor(sigmas, dtype=F64).log())
    x, draw = 10 * start(), 0
    table = annealed_langevin(
        process, torch.cat((times, times.new_zeros(1))) if denoise else times, T, epsilon / sigmas[-1] ** 2
    )
    got = run(Belief(process), table, x, noise=noise)
    for i, sigma in enumerate(sigmas):
        alpha_i = epsilon * sigma**2 / sigmas[-1] ** 2
        if i:
            draw += 1  # the row between levels, which in VE does nothing
        for _ in range(T):
            draw += 1
            score = (D(x, sigma) - x) / sigma**2
            x = x + alpha_i / 2 * score + math.sqrt(alpha_i) * DRAWS[draw]
    if denoise:
        x = x + sigmas[-1] ** 2 * (D(x, sigmas[-1]) - x) / sigmas[-1] ** 2
    assert table.evaluations == len(sigmas) * T + denoise
    torch.testing.assert_close(got, x, **CLOSE)


@pytest.mark.parametrize("name", ["VP", "straight"])
def test_annealed_langevin_is_the_same_in_other_units(name):
    logsnr = torch.tensor([-6.0, -2.0, 1.0, 4.0], dtype=F64)
    ends = []
    for process in (UNITS["VE"], UNITS[name]):
        times = process.schedule.time(logsnr)
        alpha, final = process.level(times[0]).alpha, process.level(times[-1]).alpha
        table = annealed_langevin(process, times, 3, 0.3)
        ends.append(run(Belief(process), table, alpha * 20 * start(), noise=noise) / final)
    torch.testing.assert_close(ends[1], ends[0], **CLOSE)


@each_unit
def test_a_langevin_move_is_half_a_step_along_the_score_and_a_root_of_noise(process):
    level, step, x = process.level(0.4), 0.7, start()
    alpha, sigma = float(level.alpha), float(level.sigma)
    got = run(Belief(process), langevin(process, 0.4, 4, step), x, noise=noise)
    for draw in range(1, 5):
        score = (alpha * D(x / alpha, sigma / alpha) - x) / sigma**2
        x = x + step * sigma**2 / 2 * score + math.sqrt(step) * sigma * DRAWS[draw]
    torch.testing.assert_close(got, x, **CLOSE)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: langevin(p, 0.5, 0, 0.1), r"^repeats: 0 .*at least 1"),
        (lambda p: langevin(p, 0.5, 1, 0.0), r"^step: .*size 0 .*more than 0 and less than 4"),
        (lambda p: langevin(p, 0.5, 1, 4.0), r"^step: .*size 4 "),
        (lambda p: langevin(p, 0.5, 1, math.nan), r"^step: .*size nan "),
        (lambda p: annealed_langevin(p, GRID, 0), r"^repeats: 0"),
        (lambda p: annealed_langevin(p, GRID.flip(0)), r"^times: entry 1"),
        (lambda p: corrected(p, GRID, repeats=0), r"^repeats: 0"),
        (lambda p: corrected(p, GRID, snr=0.0), r"^step: "),
        (lambda p: corrected(p, GRID, snr=1.0), r"^step: "),
        (lambda p: corrected(p, GRID.flip(0)), r"^times: entry 1"),
    ],
)
def test_langevin_moves_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make(UNITS["VP"])


# --- Predictor-corrector ----------------------------------------------------------------------------------------------


def ddim_step(x, here, there):
    (a, s, rho), (a_s, s_s, _) = here, there
    x_0 = D(x / a, rho)
    return a_s * x_0 + s_s * (x - a * x_0) / s, 1


def ancestral_step(x, here, there, draw):
    """q(x_s | x_t, x_0) as the product of two Gaussians: q(x_s | x_0) and the likelihood of x_t."""
    (a, s, rho), (a_s, s_s, _) = here, there
    x_0 = D(x / a, rho)
    if s_s == 0:
        return x_0, 1
    added = s**2 - (a / a_s * s_s) ** 2
    precision = 1 / s_s**2 + (a / a_s) ** 2 / added
    mean = (a_s * x_0 / s_s**2 + a / a_s * x / added) / precision
    return mean + DRAWS[draw] / math.sqrt(precision), 1


def heun_step(x, here, there):
    (a, _, rho), (a_s, _, rho_s) = here, there
    after, rows = edm_algorithm_2(x / a, [rho, rho_s], 0.0, 0.0, math.inf, 1.0, math.inf)
    return a_s * after, rows


@each_unit
@pytest.mark.parametrize("times", [GRID, TO_DATA], ids=["above data", "to data"])
@pytest.mark.parametrize("name", ["ddim", "ancestral", "heun"])
@pytest.mark.parametrize(("repeats", "snr"), [(1, 0.16), (3, 0.4)])
def test_corrected_is_song_et_als_algorithm_1(process, times, name, repeats, snr):
    predictor = {"ddim": ddim, "ancestral": ancestral, "heun": heun}[name]
    x = start()
    got = run(Belief(process), corrected(process, times, predictor, repeats, snr), x, noise=noise)
    levels, row = numbers(process, times), 0
    for here, there in pairwise(levels):
        if name == "ancestral":
            x, rows = ancestral_step(x, here, there, row + 1)
        else:
            x, rows = (ddim_step if name == "ddim" else heun_step)(x, here, there)
        row += rows
        alpha, sigma, rho = there
        for _ in range(repeats if sigma > 0 else 0):
            row += 1
            # epsilon = 2 (r |z| / |s|)^2, with |s| = |z| / sigma
            epsilon = 2 * (snr * sigma) ** 2
            score = (alpha * D(x / alpha, rho) - x) / sigma**2
            x = x + epsilon * score + math.sqrt(2 * epsilon) * DRAWS[row]
    torch.testing.assert_close(got, x, **CLOSE)


# --- DPM-Solver++, SDE form -------------------------------------------------------------------------------------------


@each_unit
@pytest.mark.parametrize("times", [GRID, TO_DATA], ids=["above data", "to data"])
@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("eta", [1.0, 0.4])
def test_dpm_solver_pp_with_noise_is_its_sde_form(process, times, order, eta):
    """Lu et al. 2022b, eq. 17 at eta = 1; order 3 with the integrals of its Newton polynomial, each by parts.

    For eta below 1 the score's weight is (1 + eta) / 2 of the reverse SDE's, and the variance of the noise eta times.
    """
    x = start()
    got = run(Belief(process), dpm_solver_pp(process, times, order, eta), x, noise=noise)
    levels = numbers(process, times)
    a = 1 + eta
    before: list[tuple[float, torch.Tensor]] = []  # (lambda, estimate), the newest first
    for i in range(len(levels) - 1):
        (_, s, rho), (alpha_s, s_s, rho_s) = levels[i], levels[i + 1]
        here = -math.log(rho)
        before.insert(0, (here, D(x / levels[i][0], rho)))
        x_0 = before[0][1]
        if rho_s == 0:
            x = alpha_s * x_0
            continue
        h = -math.log(rho_s) - here
        whole = 1 - math.exp(-a * h)
        step = whole * x_0  # a times the integral over u in [0, h] of exp(-a (h - u)) x_0
        if order == 2 and i >= 1:
            r = (here - before[1][0]) / h
            step = step + whole / (2 * r) * (x_0 - before[1][1])
        if order == 3 and i >= 1:
            slope = (x_0 - before[1][1]) / (here - before[1][0])
            first = h - whole / a  # a times the integral of exp(-a (h - u)) u
            step = step + first * slope
            if i >= 2:
                slope_before = (before[1][1] - before[2][1]) / (before[1][0] - before[2][0])
                curve = (slope - slope_before) / (here - before[2][0])
                second = h**2 - 2 * h / a + 2 * whole / a**2  # ... u^2
                step = step + (second + (here - before[1][0]) * first) * curve
        std = s_s * math.sqrt(1 - math.exp(-2 * eta * h))
        x = s_s / s * math.exp(-eta * h) * x + alpha_s * step + std * DRAWS[i + 1]
    torch.testing.assert_close(got, x, **CLOSE)


def test_first_order_with_noise_is_ancestral_sampling():
    # Lu et al. 2022b, section 6: SDE-DPM-Solver++ 1 is DDIM with eta = 1, the posterior's variance.
    for process in UNITS.values():
        one, other = dpm_solver_pp(process, TO_DATA, 1, 1.0), ancestral(process, TO_DATA)
        for part in ("states", "estimates", "noise"):
            torch.testing.assert_close(getattr(one, part), getattr(other, part), rtol=1e-11, atol=1e-13)


# --- Variances of ancestral sampling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("betas", [linear_betas(50, 0.001, 0.2), cosine_betas(30)], ids=["linear", "cosine"])
def test_learned_variance_is_nichol_and_dhariwals(betas):
    """Improved DDPM, eq. 15, on the chain that their network was trained on."""
    T, x = len(betas), start()
    process = Process(VP(), Tabulated(betas))
    v = torch.rand(4, 3, generator=torch.Generator().manual_seed(7), dtype=F64)
    got = run(Belief(process, v), ancestral(process, chain(T, T), "learned"), x, noise=noise)
    alpha_bar = [1.0]
    for beta in betas.tolist():
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    for k in range(T, 0, -1):
        beta, here, below = float(betas[k - 1]), alpha_bar[k], alpha_bar[k - 1]
        x_0 = D(x / math.sqrt(here), math.sqrt((1 - here) / here))
        mean = math.sqrt(below) * beta / (1 - here) * x_0 + math.sqrt(1 - beta) * (1 - below) / (1 - here) * x
        if k == 1:
            x = mean
            continue
        tilde = (1 - below) / (1 - here) * beta
        x = mean + torch.exp((v * math.log(beta) + (1 - v) * math.log(tilde)) / 2) * DRAWS[T - k + 1]
    # Eighty multiplications of alpha-bar, and a slope of 2 / alpha at the noisy end, where alpha is 1e-3.
    torch.testing.assert_close(got, x, rtol=1e-9, atol=1e-9)


def test_optimal_variance_is_analytic_dpms_equation_7():
    """lambda^2 + (sqrt(beta-bar_n / alpha_n) - sqrt(beta-bar_{n-1} - lambda^2))^2 (1 - beta-bar_n Gamma_n)."""
    betas = linear_betas(20, 0.01, 0.4)
    process = Process(VP(), Tabulated(betas))
    gamma = torch.linspace(0.2, 0.9, 20, dtype=F64)  # beta-bar_n Gamma_n = E |eps-hat|^2 / D, at n = 20..1
    level = process.level(chain(20, 20)[:-1])
    table = ancestral(process, chain(20, 20), (level.sigma / level.alpha) ** 2 * (1 - gamma))
    alpha_bar = [1.0]
    for beta in betas.tolist():
        alpha_bar.append(alpha_bar[-1] * (1 - beta))
    for n in range(20, 1, -1):
        beta, beta_bar, below = float(betas[n - 1]), 1 - alpha_bar[n], 1 - alpha_bar[n - 1]
        tilde = below / beta_bar * beta
        root = math.sqrt(beta_bar / (1 - beta)) - math.sqrt(below - tilde)
        expected = tilde + root**2 * (1 - float(gamma[20 - n]))
        assert table.noise[20 - n].tolist() == pytest.approx([math.sqrt(expected)] * 2, rel=1e-10)
    assert table.noise[-1].tolist() == [0, 0]
    assert "analytic" in table.name


@each_unit
@pytest.mark.parametrize("v", [0.0, 0.3, 1.0, 4.0])
def test_optimal_variance_is_the_exact_one_for_gaussian_data(process, v):
    # x_s and x_t are jointly Gaussian: Var(x_s | x_t) = V_s - (alpha_t / alpha_s)^2 V_s^2 / V_t.
    levels = numbers(process, GRID)
    spread = [v * s**2 / (a**2 * v + s**2) for a, s, _ in levels[:-1]]
    table = ancestral(process, GRID, torch.tensor(spread, dtype=F64))
    for i in range(len(levels) - 1):
        (a, s, _), (a_s, s_s, _) = levels[i], levels[i + 1]
        V_t, V_s = a**2 * v + s**2, a_s**2 * v + s_s**2
        assert float(table.noise[i, 0]) ** 2 == pytest.approx(V_s - (a / a_s * V_s) ** 2 / V_t, rel=1e-9)


def corners(process: Process, v) -> tuple[ExactDenoiser, torch.Tensor, torch.Tensor]:
    """Data and noise with the second moments of Gaussians of variances ``v`` and 1, by taking all signs of both."""
    v = torch.as_tensor(v, dtype=F64)
    D = len(v)
    signs = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=F64)] * (2 * D))
    mean = torch.arange(D, dtype=F64) - 0.7
    denoiser = ExactDenoiser(process, GaussianMixture.gaussian(mean, v.diag()))
    return denoiser, mean + v.sqrt() * signs[:, :D], signs[:, D:]


@each_unit
def test_posterior_spread_is_the_exact_posterior_variance(process):
    variances = torch.tensor([0.01, 0.5, 3.0], dtype=F64)
    denoiser, x_0, eps = corners(process, variances)
    draws = []

    def source(draw, like):
        draws.append(draw)
        return eps

    got = posterior_spread(denoiser, x_0, GRID, source)
    assert draws == list(range(len(GRID)))
    assert got.dtype == F64
    expected = [float((variances * s**2 / (a**2 * variances + s**2)).mean()) for a, s, _ in numbers(process, GRID)]
    # (sigma / alpha)^2 (1 - power) cancels at the noisy end: (sigma / alpha)^2 is up to 3,000 there.
    torch.testing.assert_close(got, torch.tensor(expected, dtype=F64), rtol=1e-10, atol=1e-11)


def test_posterior_spread_is_an_estimate_of_what_is_not_known():
    # The definition itself, on a mixture: E |x_0 - x_0-hat|^2 / D, over other draws.
    process = UNITS["VP"]
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=F64)
    denoiser = ExactDenoiser(process, GaussianMixture.isotropic(means, 0.2))
    generator = torch.Generator().manual_seed(0)
    times = torch.tensor([0.7, 0.5, 0.3], dtype=F64)
    x_0 = denoiser.distribution.sample(20_000, generator)

    def source(draw, like):
        return torch.randn(like.shape, generator=generator, dtype=F64)

    got = posterior_spread(denoiser, x_0, times, source)
    for t, spread in zip(times, got.tolist(), strict=True):
        x_t = process.perturb(x_0, t, source(0, x_0))
        squares = (x_0 - denoiser(x_t, t).x_0).pow(2).mean(1)
        powers = float(process.level(t).ratio) ** 2 * denoiser(x_t, t).eps.pow(2).mean(1)
        # Five standard errors of the difference of two means over 20,000.
        slack = 5 * math.sqrt((float(squares.var()) + float(powers.var())) / len(x_0))
        assert spread == pytest.approx(float(squares.mean()), abs=slack)


@pytest.mark.parametrize(("eps", "share"), [(0.0, 1.0), (0.6, 0.64), (2.0, 0.0)])
def test_posterior_spread_is_kept_between_nothing_and_all_of_the_noise(eps, share):
    process = UNITS["VE"]

    class Flat(Denoiser):
        def __init__(self):
            super().__init__()
            self.process = process

        def forward(self, x_t, t, cond=None):
            return Prediction(x_t, torch.full_like(x_t, eps))

    got = posterior_spread(Flat(), start(), GRID, noise)
    rho = [rho for _, _, rho in numbers(process, GRID)]
    assert got.tolist() == pytest.approx([share * r**2 for r in rho], rel=1e-12)


# --- RePaint ----------------------------------------------------------------------------------------------------------


def repaint_levels(T: int, jump: int, repeats: int) -> list[int]:
    """Lugmayr et al. 2022, appendix B: level numbers from T - 1 (noise) to 0, then -1 (data).

    Going down by ones; on reaching each of 0, j, 2 j, ... below T - j, as often as it has returns left, up j by ones.
    """
    budget = dict.fromkeys(range(0, T - jump, jump), repeats - 1)
    walk, level = [], T
    while level > 0:
        level -= 1
        walk.append(level)
        if budget.get(level, 0) > 0:
            budget[level] -= 1
            for _ in range(jump):
                level += 1
                walk.append(level)
    return [*walk, -1]


@pytest.mark.parametrize(
    ("N", "jump", "repeats"),
    [
        (1, 1, 1),
        (1, 10, 10),
        (6, 1, 2),
        (6, 2, 3),
        (7, 3, 2),
        (12, 5, 4),
        (13, 4, 1),
        (13, 4, 3),
        (10, 10, 5),
        (25, 10, 10),
    ],
)
def test_repaint_visits_its_papers_levels(N, jump, repeats):
    times = torch.linspace(0.9, 0, N + 1, dtype=F64)
    table = repaint(UNITS["VP"], times, ddim, jump, repeats)
    # A move down is an evaluation at its upper level; a whole way up is one row.
    walk, expected = repaint_levels(N, jump, repeats), []
    for here, there in pairwise(walk):
        if there < here:
            expected.append(float(times[N - 1 - here]))
        elif not expected or expected[-1] is not None:
            expected.append(None)
    # Ways up never follow each other without a step down.
    assert [None if math.isnan(t) else t for t in table.times.tolist()] == expected


@each_unit
def test_repaints_jumps_are_draws_of_the_forward_chain(process):
    N, jump, repeats = 6, 2, 3
    times = TO_DATA[1:]
    levels, x, row = numbers(process, times), start(), 0
    table = repaint(process, times, ancestral, jump, repeats)
    got = run(Belief(process), table, x, noise=noise)
    walk, i = repaint_levels(N, jump, repeats), 0
    while i + 1 < len(walk):
        here = levels[N - 1 - walk[i]]
        row += 1
        if walk[i + 1] < walk[i]:
            x, _ = ancestral_step(x, here, levels[N - 1 - walk[i + 1]], row)
            i += 1
        else:
            # One level at a time; the noises of the steps add up to one of their variance.
            ratio, variance = 1.0, 0.0
            for up in walk[i + 1 : i + 1 + jump]:
                (a, s, _), (a_up, s_up, _) = here, levels[N - 1 - up]
                ratio, variance = ratio * a_up / a, (a_up / a) ** 2 * variance + s_up**2 - (a_up / a * s) ** 2
                here = levels[N - 1 - up]
            x = ratio * x + math.sqrt(variance) * DRAWS[row]
            i += jump
    assert row == len(table.times)
    torch.testing.assert_close(got, x, **CLOSE)


def test_repaint_gives_a_multistep_predictor_each_way_down_whole():
    process, times = UNITS["VP"], TO_DATA
    table = repaint(process, times, dpm_solver_pp, 3, 2)
    # Levels 7 - 1 .. 0: from entry 0 down to entry 3 (level 3), up to 0, down to 6 (level 0), up to 3, down to data.
    first, second, third = (dpm_solver_pp(process, times[a:b]) for a, b in ((0, 4), (0, 7), (3, 8)))
    rows = [len(part.times) for part in (first, second, third)]
    assert rows == [3, 6, 4]
    at = 0
    for part, n in zip((first, second, third), rows, strict=True):
        assert torch.equal(table.states[at : at + n, at : at + n], part.states)
        assert torch.equal(table.estimates[at : at + n, at : at + n], part.estimates)
        at += n + 1


def test_repaint_goes_back_to_pure_noise():
    # On the straight path nothing is left of the sample there.
    process = Process(Straight(), Logistic())
    x = run(Bounded(process), repaint(process, uniform(3), ddim, 2, 2), start(), noise=noise)
    # Levels 2, 1, 0, jump to 2, down again; the jump is row 2.
    again = run(Bounded(process), ddim(process, uniform(3)), DRAWS[3])
    torch.testing.assert_close(x, again, **CLOSE)


@pytest.mark.parametrize("settings", [{"jump": 0}, {"repeats": 0}, {"jump": -2, "repeats": 3}])
def test_jumps_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError, match=r"^(jump|repeats): (0|-2) is not allowed"):
        repaint(UNITS["VP"], uniform(5), **settings)
    with pytest.raises(InputError, match=r"^times: entry 1"):
        repaint(UNITS["VP"], uniform(5).flip(0))
