"""The exact value along the probability flow, against known densities.

What is left are the ODE's steps and the two ends. At t = 1 a sample's density is off by alpha |E x_0| |y| + alpha^2
nats, and MIXTURE has E x_0 = 0; at data sigma / alpha is 0.0025 or less, where the trapezium is right to its third
power, over the distribution's width.
"""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

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
)
from sfumato.denoisers import Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.likelihood import flow_likelihood

# torchode's own: scripted classes.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

F64 = torch.float64
COSINE = Process(VP(), Cosine(-14.0, 12.0))
CLOCKS = {
    "VP": COSINE,
    "VP, data at infinity": Process(VP(), LinearBeta()),
    "VE": Process(VE(), LinearLogSNR(-13.0, 12.0)),
    "straight": Process(Straight(), Logistic()),
    "chain": Process(VP(), Tabulated(cosine_betas(1000))),
}
MIXTURE = GaussianMixture.isotropic(torch.tensor([[1.0, 0.0], [-0.5, 0.8], [-0.5, -0.8]], dtype=F64), 0.3)


def draw(mixture: GaussianMixture, count: int, seed: int = 5) -> Tensor:
    return mixture.sample(count, torch.Generator().manual_seed(seed))


def rms(nats: Tensor, mixture: GaussianMixture, x: Tensor) -> float:
    """In bits/dim."""
    return float(((nats + mixture.log_prob(x)) / (x.shape[1] * math.log(2))).square().mean().sqrt())


def peer(process: Process, mixture: GaussianMixture, x: Tensor, tolerance: float) -> tuple[Tensor, int]:
    """(nats, evaluations) by scipy's RK45 in the clock's own time, with the trace in closed form.

    dx/dt = f x - g^2 score / 2, and the Hessian of a mixture's log-density is
    sum_k w_k (g_k g_k^T - S_k^-1) - (sum_k w_k g_k)(...)^T with g_k = -S_k^-1 (x - alpha m_k).
    """
    B, D = x.shape
    means, weights = mixture.means.numpy(), mixture.weights.numpy()
    calls = 0

    def rate(t: float, state: np.ndarray) -> np.ndarray:
        nonlocal calls
        calls += 1
        y = state[: B * D].reshape(B, D)
        level = process.level(t)
        alpha, sigma = float(level.alpha), float(level.sigma)
        f, g2 = (float(v) for v in process.sde(t))
        scores, logs, traces = [], [], []
        for k, w in enumerate(weights):
            S = alpha**2 * mixture.covariances[k].numpy() + sigma**2 * np.eye(D)
            inverse = np.linalg.inv(S)
            off = y - alpha * means[k]
            scores.append(-off @ inverse)
            logs.append(math.log(w) + 0.5 * (off * scores[-1]).sum(1) - 0.5 * np.linalg.slogdet(S)[1])
            traces.append(np.trace(inverse))
        share = np.exp(np.array(logs) - np.max(logs, axis=0))
        share /= share.sum(0)
        score = np.einsum("kb,kbd->bd", share, np.array(scores))
        hessian = np.einsum("kb,kb->b", share, np.square(scores).sum(2) - np.array(traces)[:, None])
        trace = D * f - 0.5 * g2 * (hessian - (score**2).sum(1))
        return np.concatenate([(f * y - 0.5 * g2 * score).ravel(), trace])

    start = np.concatenate([x.numpy().ravel(), np.zeros(B)])
    end = solve_ivp(rate, (1e-5, 1), start, rtol=tolerance, atol=tolerance, method="RK45").y[:, -1]
    z = torch.from_numpy(end[: B * D].reshape(B, D))
    return 0.5 * (z**2 + math.log(2 * math.pi)).sum(1) - torch.from_numpy(end[B * D :]), calls


# ------------------------------------------------------------------------------------------------ against densities


def test_it_is_the_density_to_a_thousandth_of_a_bit_at_scipys_cost(target, counted):
    """At the usual settings against scipy's RK45 at its usual 1e-5 (Song et al. 2021), on the same data.

    scipy makes one step for all samples and we go as far as the hardest: a step of six evaluations more or less is
    chance, and so is which error is the smaller where both are a tenth of what is allowed.
    """
    x = draw(target, 64 if target.means.shape[1] == 2 else 5)
    denoiser = counted(COSINE, target)
    found = flow_likelihood(denoiser, x)
    nats, calls = peer(COSINE, target, x, 1e-5)
    assert rms(found.nats, target, x) < min(1e-3, 1.2 * rms(nats, target, x) + 1e-4)
    assert denoiser.count == found.evaluations * len(x)
    assert found.evaluations <= 1.1 * calls
    assert float(found.variance.abs().max()) == 0.0
    assert found.estimate.method == 0.0
    assert found.dimensions == x.shape[1]
    assert found.estimate.mean == pytest.approx(float(found.nats.mean()) / (x.shape[1] * math.log(2)))


@pytest.mark.parametrize("name", CLOCKS)
def test_every_process_gives_the_density(name):
    """Up to alpha^2 (1 + |y|^2) at the end, 5e-6 and for LinearBeta 4e-5 times some, and the ODE at 1e-7."""
    x = draw(MIXTURE, 16)
    process = CLOCKS[name]
    found = flow_likelihood(ExactDenoiser(process, MIXTURE), x, tolerance=1e-7)
    allowed = 2e-4 if name == "VP, data at infinity" else 5e-5
    assert float((found.nats + MIXTURE.log_prob(x)).abs().max()) < allowed


@pytest.mark.parametrize("name", CLOCKS)
@pytest.mark.parametrize("t", [0.3, 0.8])
def test_from_a_noisy_level_it_is_the_density_there_in_the_units_of_that_level(name, t):
    process = CLOCKS[name]
    level = process.level(t)
    x = level.alpha * draw(MIXTURE, 8) + level.sigma * torch.randn(
        8, 2, generator=torch.Generator().manual_seed(1), dtype=F64
    )
    found = flow_likelihood(ExactDenoiser(process, MIXTURE), x, t, tolerance=1e-8)
    allowed = 2e-4 if name == "VP, data at infinity" else 3e-5
    assert float((found.nats + MIXTURE.log_prob(x, level)).abs().max()) < allowed


def test_the_error_falls_with_the_tolerance():
    x = draw(MIXTURE, 16)
    process = Process(VP(), LinearLogSNR(-25.0, 20.0))
    errors = [
        rms(flow_likelihood(ExactDenoiser(process, MIXTURE), x, tolerance=tolerance).nats, MIXTURE, x)
        for tolerance in (1e-3, 1e-5, 1e-7, 1e-9)
    ]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine > 20  # a hundred, were the error just the tolerance


def test_pictures_and_float32():
    """(B, C, H, W) is the flat sample; in float32 x_0-hat is right to 1e-7, and 1e-7 / theta of the trace."""
    x = draw(MIXTURE, 6)
    flat = flow_likelihood(ExactDenoiser(COSINE, MIXTURE), x)
    shaped = flow_likelihood(ExactDenoiser(COSINE, MIXTURE), x.reshape(6, 1, 2, 1))
    torch.testing.assert_close(shaped.nats, flat.nats, rtol=1e-12, atol=1e-12)
    single = flow_likelihood(ExactDenoiser(COSINE, MIXTURE), x.float())
    assert single.nats.dtype == F64
    torch.testing.assert_close(single.nats, flat.nats, rtol=0, atol=1e-3)


# ------------------------------------------------------------------------------------------------ each by itself


@pytest.mark.parametrize("probes", [None, 3])
def test_a_sample_does_not_depend_on_its_batch(probes):
    """64 together or one at a time, the first three."""
    x = draw(MIXTURE, 64)
    denoiser = ExactDenoiser(COSINE, MIXTURE)
    whole = flow_likelihood(denoiser, x, probes=probes, seed=2)
    one = flow_likelihood(denoiser, x[:3], probes=probes, seed=2, batch=1)
    torch.testing.assert_close(one.nats, whole.nats[:3], rtol=0, atol=1e-9)
    torch.testing.assert_close(one.variance, whole.variance[:3], rtol=0, atol=1e-9)
    cut = flow_likelihood(denoiser, x, probes=probes, seed=2, batch=40)
    torch.testing.assert_close(cut.nats, whole.nats, rtol=0, atol=1e-9)


def test_progress_counts_samples():
    seen: list[tuple[int, int]] = []
    flow_likelihood(
        ExactDenoiser(COSINE, MIXTURE),
        draw(MIXTURE, 7),
        batch=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(3, 7), (6, 7), (7, 7)]


# ------------------------------------------------------------------------------------------------ Hutchinson


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_probes_are_without_bias_and_their_variance_is_true(probes):
    """400 copies of each of two samples, each with probes of its own: 4 sigma, and a variance known to 10% or so."""
    mixture = GaussianMixture.gaussian(
        torch.zeros(3, dtype=F64),
        torch.tensor([[0.5, 0.3, 0.1], [0.3, 0.4, -0.1], [0.1, -0.1, 0.3]], dtype=F64),
    )
    x = draw(mixture, 2)
    denoiser = ExactDenoiser(COSINE, mixture)
    exact = flow_likelihood(denoiser, x, tolerance=1e-5).nats
    found = flow_likelihood(denoiser, x.repeat(400, 1), tolerance=1e-5, probes=probes, seed=1, batch=800)
    nats = found.nats.reshape(400, 2)
    assert float(((nats.mean(0) - exact) / (nats.std(0) / 20)).abs().max()) < 4
    if probes == 1:
        assert bool(found.variance.isnan().all())
    else:
        # Few probes of few directions make a skewed variance: 15% for 2 x 400 of them.
        assert 0.75 < float(found.variance.mean() / nats.var(0).mean()) < 1.35


def test_more_seeds_are_other_probes_and_the_same_seed_the_same():
    x, denoiser = draw(MIXTURE, 4), ExactDenoiser(COSINE, MIXTURE)
    a, b, c = (flow_likelihood(denoiser, x, probes=1, seed=seed).nats for seed in (0, 0, 1))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


# ------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"tolerance": 0.0}, "tolerance: 0.0 does not suit an ODE"),
        ({"tolerance": 1.0}, "tolerance: 1.0 does not suit an ODE"),
        ({"probes": 0}, "probes: 0 is not allowed; give a whole number of at least 1"),
        ({"start": 1.0}, "start: 1.0 is no time to start from"),
        ({"start": -0.1}, "start: -0.1 is no time to start from"),
        ({"start": math.nan}, "start: nan is no time to start from"),
    ],
    ids=str,
)
def test_settings_that_are_none(setting, said):
    with pytest.raises(InputError, match=said) as error:
        flow_likelihood(ExactDenoiser(COSINE, MIXTURE), draw(MIXTURE, 2), **setting)
    assert "\n" not in str(error.value)


def test_an_estimate_that_is_not_finite_is_named_with_its_time():
    class Broken(Denoiser):
        process = COSINE

        def forward(self, x_t: Tensor, t: Tensor, cond=None) -> Prediction:
            return Prediction(x_t * math.nan, x_t)

    with pytest.raises(FloatingPointError, match="adaptive: the estimate of x_0 at t = "):
        flow_likelihood(Broken(), draw(MIXTURE, 2))
