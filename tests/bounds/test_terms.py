"""The terms of the bound against KL divergences of the Gaussians that they stand for.

Tolerances: a mean's square difference is formed from means that are right to 2e-16 of themselves; here |mean| / |mean -
mean'| stays below 1e4, so 1e-11 of the divergence, and 1e-9 is asked.
"""

import math

import pytest
import torch
from scipy import integrate, stats
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from sfumato.bounds.terms import noise_errors, prior_term, step_term
from sfumato.core import (
    VE,
    VP,
    Cosine,
    Gaussian,
    LinearLogSNR,
    Logistic,
    Prediction,
    Process,
    Straight,
    Tabulated,
    linear_betas,
)

F64 = torch.float64
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VE": Process(VE(), LinearLogSNR(-8.0, 10.0)),
    "straight": Process(Straight(), Logistic()),
    "chain": Process(VP(), Tabulated(linear_betas(100, 1e-3, 0.1))),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
PAIRS = [(0.3, 0.31), (0.1, 0.9), (0.72, 0.98), (0.02, 0.03)]
FORMS = (None, "noise", "x_0", "score")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def belief(process: Process, t: float, x_0: Tensor, noise: Tensor, share: Tensor | None = None):
    """(x_t, a wrong but consistent belief about it)."""
    level = process.level(t)
    x_t = level.alpha * x_0 + level.sigma * noise
    eps = noise + 0.3 * normal(*noise.shape, seed=9)
    return x_t, Prediction((x_t - level.sigma * eps) / level.alpha, eps, share)


def divergence(process: Process, x_t, x_0, prediction, t, s, variance) -> Tensor:
    q, p = process.posterior(x_t, x_0, t, s), process.posterior(x_t, prediction.x_0, t, s)
    law = kl_divergence(Normal(q.mean, q.variance.sqrt()), Normal(p.mean, torch.as_tensor(variance).sqrt()))
    return law.flatten(1).sum(1)


def unit_data_variance(process: Process, t: float, s: float) -> Tensor:
    """Var(x_s | x_t) where x_0 ~ N(0, 1), from the covariance of the two."""
    a, b = process.level(s), process.level(t)
    kept = b.alpha / a.alpha
    var_s, var_t = a.alpha**2 + a.sigma**2, b.alpha**2 + b.sigma**2
    return var_s - (kept * var_s) ** 2 / var_t


# ------------------------------------------------------------------------------------------------ one step


@each_process
@pytest.mark.parametrize(("s", "t"), PAIRS)
@pytest.mark.parametrize("shape", [(4, 3), (2, 2, 3, 3)], ids=str)
def test_a_step_costs_the_divergence_of_the_posteriors_at_x_0_and_at_its_estimate(process, s, t, shape):
    x_0, noise = normal(*shape), normal(*shape, seed=1)
    x_t, prediction = belief(process, t, x_0, noise)
    q, p = process.posterior(x_t, x_0, t, s), process.posterior(x_t, prediction.x_0, t, s)
    for form in FORMS:
        got = step_term(prediction, x_0, noise, process.level(t), process.level(s), form=form)
        torch.testing.assert_close(got, q.kl(p), rtol=1e-9, atol=0)


@each_process
@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_share_1_is_the_variance_for_data_of_unit_variance(process, s, t):
    x_0, noise = normal(5, 3), normal(5, 3, seed=1)
    x_t, prediction = belief(process, t, x_0, noise)
    variance = unit_data_variance(process, t, s)
    want = divergence(process, x_t, x_0, prediction, t, s, variance)
    got = step_term(prediction, x_0, noise, process.level(t), process.level(s), variance_share=1.0)
    # r - 1 - ln r with r - 1 = 0.01 loses four digits of what is left after var_s's own cancellation.
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


def test_share_1_is_beta_for_neighbours_of_a_chain():
    betas = linear_betas(1000)
    process = Process(VP(), Tabulated(betas))
    x_0, noise = normal(5, 3), normal(5, 3, seed=1)
    for k in (2, 500, 1000):
        t, s = k / 1000, (k - 1) / 1000
        x_t, prediction = belief(process, t, x_0, noise)
        want = divergence(process, x_t, x_0, prediction, t, s, betas[k - 1])
        got = step_term(prediction, x_0, noise, process.level(t), process.level(s), variance_share=1.0)
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


@each_process
@pytest.mark.parametrize(("s", "t"), PAIRS)
def test_a_learned_share_lies_between_the_two_on_a_log_scale_and_goes_before_the_setting(process, s, t):
    x_0, noise = normal(5, 3), normal(5, 3, seed=1)
    share = torch.rand(5, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    x_t, prediction = belief(process, t, x_0, noise, share)
    small, large = process.posterior(x_t, x_0, t, s).variance, unit_data_variance(process, t, s)
    variance = torch.exp(share * large.log() + (1 - share) * small.log())
    want = divergence(process, x_t, x_0, prediction, t, s, variance)
    for setting in (0.0, 1.0):
        got = step_term(prediction, x_0, noise, process.level(t), process.level(s), variance_share=setting)
        torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("s", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("share", [0.0, 1.0, None], ids=["posterior's", "unit data's", "learned"])
@pytest.mark.parametrize("form", FORMS)
def test_from_pure_noise(s, share, form):
    """alpha_t = 0: the posterior is q(x_s | x_0) itself, and x_t says nothing."""
    process = PROCESSES["straight"]
    x_0, noise = normal(5, 3), normal(5, 3, seed=1)
    learned = torch.full((5, 3), 0.4, dtype=F64) if share is None else None
    prediction = Prediction(x_0 + 0.2 * normal(5, 3, seed=2), noise, learned)
    level, v = process.level(s), 0.4 if share is None else share
    small, large = level.sigma**2, level.alpha**2 + level.sigma**2
    q = Normal(level.alpha * x_0, level.sigma)
    p = Normal(level.alpha * prediction.x_0, torch.sqrt(small ** (1 - v) * large**v))
    got = step_term(prediction, x_0, noise, process.level(1.0), level, variance_share=share or 0.0, form=form)
    # 1e-16 of r: r - 1 - ln r itself is 4e-9 at s = 0.99.
    torch.testing.assert_close(got, kl_divergence(q, p).sum(1), rtol=1e-9, atol=1e-14)


def test_each_sample_may_have_levels_of_its_own():
    process = PROCESSES["VP"]
    x_0, noise = normal(4, 2, 2), normal(4, 2, 2, seed=1)
    s, t = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=F64), torch.tensor([0.15, 0.5, 0.9, 0.41], dtype=F64)
    beliefs = [belief(process, float(v), x_0[i : i + 1], noise[i : i + 1])[1] for i, v in enumerate(t)]
    together = Prediction(torch.cat([b.x_0 for b in beliefs]), torch.cat([b.eps for b in beliefs]))
    for share in (0.0, 1.0):
        got = step_term(together, x_0, noise, process.level(t), process.level(s), variance_share=share)
        for i in range(4):
            at_t, at_s = process.level(float(t[i])), process.level(float(s[i]))
            one = step_term(beliefs[i], x_0[i : i + 1], noise[i : i + 1], at_t, at_s, variance_share=share)
            torch.testing.assert_close(got[i : i + 1], one, rtol=1e-13, atol=0)


# ------------------------------------------------------------------------------------------------ three forms


@each_process
@pytest.mark.parametrize("t", [0.02, 0.4, 0.9])
def test_three_forms_are_one_square_error_of_the_noise(process, t):
    x_0, noise = normal(6, 3), normal(6, 3, seed=1)
    _, prediction = belief(process, t, x_0, noise)
    want = (noise - prediction.eps) ** 2
    for form in FORMS:
        got = noise_errors(prediction, x_0, noise, process.level(t), form)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_each_form_reads_what_it_says():
    """An inconsistent belief tells them apart; without a form, x_0-hat counts where SNR < 1."""
    x_0, noise = normal(6, 3), normal(6, 3, seed=1)
    prediction = Prediction(x_0 + 0.5, noise - 2.0)
    for scaling in (VP(), VE(), Straight()):
        for logsnr in (-1.0, 1.0):
            level = scaling.at(torch.tensor(logsnr, dtype=F64))
            by_x_0, by_noise = math.exp(logsnr) * 0.25, 4.0
            for form, want in zip(FORMS, (by_x_0 if logsnr < 0 else by_noise, by_noise, by_x_0, by_noise), strict=True):
                got = noise_errors(prediction, x_0, noise, level, form)
                torch.testing.assert_close(got, torch.full_like(x_0, want), rtol=1e-12, atol=1e-12)


# ------------------------------------------------------------------------------------------------ the prior's term


@each_process
@pytest.mark.parametrize("t", [0.3, 0.9, 1.0])
def test_the_prior_term_is_the_divergence_from_the_prior(process, t):
    x_0, level = normal(5, 2, 3), process.level(t)
    q = Normal(level.alpha * x_0, level.sigma)
    p = Normal(0.0, torch.hypot(level.alpha, level.sigma))
    got = prior_term(process, x_0, t)
    # ratio - 1 - ln(ratio), formed from a ratio that is right to a few 1e-16.
    torch.testing.assert_close(got, kl_divergence(q, p).flatten(1).sum(1), rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(got, Gaussian(q.mean, level.sigma**2).kl(process.prior(t)), rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("name", ["VP", "VE"])
def test_the_prior_term_by_numerical_integration(name):
    process = PROCESSES[name]
    level, x = process.level(0.6), 1.7
    mean, std, wide = float(level.alpha) * x, float(level.sigma), math.hypot(level.alpha, level.sigma)

    def integrand(y: float) -> float:
        return stats.norm.pdf(y, mean, std) * (stats.norm.logpdf(y, mean, std) - stats.norm.logpdf(y, 0, wide))

    want, _error = integrate.quad(integrand, mean - 12 * std, mean + 12 * std, epsabs=1e-12)
    assert float(prior_term(process, torch.full((1, 1), x, dtype=F64), 0.6)) == pytest.approx(want, abs=1e-10)


def test_the_prior_term_of_ddpms_chain():
    """``L_T = (abar E[x^2] - abar - ln(1 - abar)) / 2`` nats a number; Ho et al. report about 1e-5 bits/dim."""
    kept = 1.0
    for k in range(1000):
        kept *= 1 - (1e-4 + (0.02 - 1e-4) * k / 999)
    x_0 = torch.tensor([[0.5, -0.5], [-0.5, -0.5]], dtype=F64)
    bits = prior_term(Process(VP(), Tabulated(linear_betas(1000))), x_0) / (2 * math.log(2))
    want = (kept * 0.25 - kept - math.log1p(-kept)) / (2 * math.log(2))
    torch.testing.assert_close(bits, torch.full((2,), want, dtype=F64), rtol=1e-9, atol=0)
    assert want == pytest.approx(7.3e-6, rel=0.01)


def test_a_pure_noise_end_costs_nothing():
    assert prior_term(PROCESSES["straight"], normal(4, 3)).abs().max() == 0
