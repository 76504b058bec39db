"""Each weight against the loss that its paper writes, in the paper's own terms: from the errors of a network, by hand.

The network, its label and its target differ from weight to weight as they do in the papers; the loss must not care.
"""

import math

import pytest
import torch
from torch import nn

from sfumato.bounds import ContinuousGaussian
from sfumato.core import (
    EDM,
    VE,
    VP,
    X0,
    Cosine,
    LinearBeta,
    LinearLogSNR,
    Logistic,
    Noise,
    Process,
    Score,
    Straight,
    SubVP,
    SubVPBeta,
    Tabulated,
    V,
    Velocity,
    geometric,
    linear_betas,
)
from sfumato.denoisers import NetworkDenoiser
from sfumato.objectives import Batch, BoundLoss, DenoisingLoss, LogNormalTimes, UniformTimes, weights

# Process.sde differentiates forwards, for which torch imports a module of its own that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

T = [0.04, 0.3, 0.5, 0.8, 0.96]


class Curved(nn.Module):
    """Nonlinear, and different at every label."""

    def __init__(self, factor: float = 2.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x, label, cond=None):
        return torch.sin(self.factor * x) + 0.01 * label.to(x).reshape(-1, 1, 1)


def batch():
    x_0, noise = torch.randn(2, 5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    return x_0, torch.tensor(T, dtype=torch.float64), noise


def losses(process, weight, target, times=None, network=None) -> torch.Tensor:
    """Ours, at the times of the quantiles ``T``."""
    x_0, t, noise = batch()
    denoiser = NetworkDenoiser(network or Curved(), process, target, "logsnr")
    return DenoisingLoss(times or UniformTimes(), weight)(denoiser, Batch(x_0, t, lambda draw, like: noise))


def by_hand(process, target, error) -> torch.Tensor:
    """The mean over the numbers of a sample of ``error(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat)``."""
    x_0, times, noise = batch()
    denoiser = NetworkDenoiser(Curved(), process, target, "logsnr")
    means = []
    for i, t in enumerate(T):
        level = process.level(t)
        alpha, sigma = float(level.alpha), float(level.sigma)
        belief = denoiser(alpha * x_0[i : i + 1] + sigma * noise[i : i + 1], times[i])
        means.append(error(t, alpha, sigma, x_0[i], noise[i], belief.x_0[0], belief.eps[0]).mean())
    return torch.stack(means)


def close(got, expected):
    # Noise is solved for from x_0 and back: at sigma / alpha = 0.01 with a hundred roundings.
    torch.testing.assert_close(got, expected, rtol=1e-8, atol=0)


@pytest.mark.parametrize("most", [1.0, 5.0])
@pytest.mark.parametrize("target", [X0(), Noise(), V()])
def test_min_snr_is_hang_et_als_on_the_error_of_x_0(target, most):
    process = Process(VP(), Cosine())

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        return min(alpha**2 / sigma**2, most) * (x_0 - x_0_hat) ** 2

    def weight(level, rate):
        return weights.min_snr(level, rate, most)

    close(losses(process, weight, target), by_hand(process, target, theirs))
    snr = process.level(torch.tensor(T, dtype=torch.float64)).logsnr.exp()
    assert snr.min() < most < snr.max()  # both sides are tried


def test_min_snr_has_the_papers_five():
    level = Process(VP(), Cosine()).level(torch.tensor(T, dtype=torch.float64))
    rate = torch.ones_like(level.alpha)
    assert torch.equal(weights.min_snr(level, rate), weights.min_snr(level, rate, 5.0))
    assert torch.equal(weights.p2(level, rate), weights.p2(level, rate, 1.0, 1.0))
    assert torch.equal(weights.edm(level, rate), weights.edm(level, rate, 0.5))
    assert torch.equal(weights.sigmoid(level, rate), weights.sigmoid(level, rate, 2.0))


@pytest.mark.parametrize("sigma_data", [0.5, 1.3])
def test_edm_is_karras_et_als_lambda_on_the_error_of_d(sigma_data):
    process = Process(VE(), geometric(0.02, 30.0))

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * (x_0_hat - x_0) ** 2

    def weight(level, rate):
        return weights.edm(level, rate, sigma_data)

    times = LogNormalTimes(process)
    got = losses(process, weight, EDM(sigma_data), times)
    # At the times of the log-normal law, which has no say in EDM's weight.
    at = times(torch.tensor(T, dtype=torch.float64))
    x_0, _, noise = batch()
    denoiser = NetworkDenoiser(Curved(), process, EDM(sigma_data), "logsnr")
    for i in range(5):
        sigma = float(process.level(at[i]).sigma)
        D = denoiser(x_0[i : i + 1] + sigma * noise[i : i + 1], at[i]).x_0[0]
        expected = float(theirs(None, 1.0, sigma, x_0[i], None, D, None).mean())
        assert float(got[i]) == pytest.approx(expected, rel=1e-8)


def test_edms_weight_is_one_on_the_networks_own_output():
    process, (x_0, t, noise) = Process(VE(), geometric(0.02, 30.0)), batch()
    denoiser, level = NetworkDenoiser(Curved(), process, EDM(0.5), "logsnr"), process.level(t)
    target = EDM(0.5).encode(x_0, noise, level)
    output = denoiser.output(process.perturb(x_0, t, noise), t)
    close(losses(process, weights.edm, EDM(0.5)), (target - output).square().flatten(1).mean(1))


@pytest.mark.parametrize(("offset", "power"), [(1.0, 1.0), (1.0, 0.5), (0.3, 2.0)])
def test_p2_is_choi_et_als_on_the_terms_of_the_bound(offset, power):
    steps = 50
    betas = linear_betas(steps, 1e-3, 0.3)
    process = Process(VP(), Tabulated(betas))
    levels = [2, 15, 25, 40, 48]

    def weight(level, rate):
        return weights.p2(level, rate, offset, power)

    x_0, _, noise = batch()
    denoiser = NetworkDenoiser(Curved(), process, Noise(), "logsnr")
    got = DenoisingLoss(UniformTimes(), weight).at(
        denoiser,
        Batch(x_0, torch.tensor(levels).double() / steps, lambda draw, like: noise),
        torch.tensor(levels).double() / steps,
    )
    for i, k in enumerate(levels):
        beta, alpha_bar = float(betas[k - 1]), math.prod((1 - betas[:k]).tolist())
        x_t = math.sqrt(alpha_bar) * x_0[i] + math.sqrt(1 - alpha_bar) * noise[i]
        eps_hat = denoiser(x_t[None], torch.tensor(k / steps, dtype=torch.float64)).eps[0]
        # Their L_t, lambda_t that turns it into L_simple, and what they divide it by.
        L = beta / ((1 - beta) * (1 - alpha_bar)) * (noise[i] - eps_hat).square().mean()
        lam = (1 - beta) * (1 - alpha_bar) / beta
        snr = alpha_bar / (1 - alpha_bar)
        assert float(got[i]) == pytest.approx(float(lam / (offset + snr) ** power * L), rel=1e-9)


@pytest.mark.parametrize("target", [Velocity(Straight()), Noise(), V()])
def test_flow_is_lipman_et_als_error_of_the_velocity(target):
    process = Process(Straight(), Logistic(-14.0, 14.0))
    got = losses(process, weights.flow, target)

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        return ((eps - x_0) - (eps_hat - x_0_hat)) ** 2

    close(got, by_hand(process, target, theirs))
    if isinstance(target, Velocity):  # |v - v_hat|^2 of what the network says
        x_0, t, noise = batch()
        denoiser = NetworkDenoiser(Curved(), process, target, "logsnr")
        v_hat = denoiser.output(process.perturb(x_0, t, noise), t)
        close(got, (noise - x_0 - v_hat).square().flatten(1).mean(1))


SDES = {
    "VP": (Process(VP(), LinearBeta(0.1, 20.0)), lambda t: 0.1 + 19.9 * t),
    "VE": (
        Process(VE(), geometric(0.01, 50.0)),
        lambda t: 2 * math.log(50 / 0.01) * (0.01 * (50 / 0.01) ** t) ** 2,
    ),
    "sub-VP": (
        Process(SubVP(), SubVPBeta(LinearBeta(0.1, 20.0))),
        lambda t: (0.1 + 19.9 * t) * -math.expm1(-2 * (0.1 * t + 9.95 * t**2)),
    ),
}


@pytest.mark.parametrize("target", [Noise(), Score()])
@pytest.mark.parametrize("name", SDES)
def test_likelihood_is_g_squared_on_the_error_of_the_score(name, target):
    process, g2 = SDES[name]

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        return g2(t) * (eps_hat / -sigma - eps / -sigma) ** 2

    close(losses(process, weights.likelihood, target), by_hand(process, target, theirs))


@pytest.mark.parametrize("name", SDES)
def test_simple_is_sigma_squared_on_the_error_of_the_score(name):
    process, _ = SDES[name]

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        return sigma**2 * (eps_hat / -sigma - eps / -sigma) ** 2

    close(losses(process, weights.simple, Score()), by_hand(process, Score(), theirs))


@pytest.mark.parametrize(
    ("process", "first"),
    [
        (Process(VP(), LinearLogSNR(-8.0, 6.0)), 0.0),
        (Process(VE(), LinearLogSNR(-8.0, 6.0)), 0.0),
        (Process(Straight(), Logistic(-9.0, 9.0)), 0.0),
        # At sigma / alpha = 0.002 the bound is entered, without a grid.
        (Process(Straight(), Logistic()), 0.002 / 1.002),
    ],
    ids=["VP", "VE", "straight", "straight from data"],
)
def test_elbo_is_what_the_bound_says_of_the_network(process, first):
    # The rest of a bound, prior and decoder, does not ask the network: two networks differ by their noise errors.
    x_0, u, noise = batch()
    times = UniformTimes(first)
    bound = BoundLoss(UniformTimes(), ContinuousGaussian(needs_prediction=False))
    target = Velocity(process.scaling)
    networks = (Curved(2.0), Curved(0.7))
    ours = [losses(process, weights.elbo, target, times, network) for network in networks]
    theirs = [
        bound(NetworkDenoiser(network, process, target, "logsnr"), Batch(x_0, u, lambda draw, like: noise))
        for network in networks
    ]
    torch.testing.assert_close(ours[0] - ours[1], theirs[0] - theirs[1], rtol=1e-7, atol=1e-9)
    assert ((ours[0] - ours[1]).abs() > 1e-3).all()


def test_likelihood_is_twice_the_elbo():
    process = SDES["VP"][0]
    close(losses(process, weights.likelihood, Noise()), 2 * losses(process, weights.elbo, Noise()))


@pytest.mark.parametrize("bias", [-1.0, 2.0])
def test_sigmoid_is_kingma_and_gaos_whatever_the_clock(bias):
    # L_w = E_t [w(lambda) (-d lambda / dt) |eps - eps_hat|^2] / 2 with w = sigmoid(-lambda + k), on the cosine clock:
    # lambda = -2 log tan(pi t / 2), d lambda / dt = -2 pi / sin(pi t).
    process = Process(VP(), Cosine(-math.inf, math.inf))

    def theirs(t, alpha, sigma, x_0, eps, x_0_hat, eps_hat):
        lam = -2 * math.log(math.tan(math.pi * t / 2))
        w = 1 / (1 + math.exp(lam - bias))
        return 0.5 * w * 2 * math.pi / math.sin(math.pi * t) * (eps - eps_hat) ** 2

    def weight(level, rate):
        return weights.sigmoid(level, rate, bias)

    close(losses(process, weight, V()), by_hand(process, V(), theirs))


@pytest.mark.parametrize("weight", [weights.p2, weights.min_snr, weights.sigmoid])
def test_no_overflow_at_the_ends(weight):
    level = Process(VP(), Cosine(-math.inf, math.inf)).level(torch.tensor([0.0, 1.0], dtype=torch.float64))
    got = weight(level, torch.ones(2, dtype=torch.float64))
    at_noise = {weights.p2: 1.0, weights.min_snr: 1.0, weights.sigmoid: 0.5}[weight]
    assert got.tolist() == [0.0, at_noise]


def test_the_rate_free_weights_do_not_use_the_rate():
    level = VP().at(torch.linspace(-9, 9, 7, dtype=torch.float64))
    everything = {f for f in vars(weights).values() if callable(f) and getattr(f, "__module__", "") == weights.__name__}
    for weight in everything:
        one, another = (weight(level, torch.full_like(level.alpha, rate)) for rate in (1.0, 3.0))
        assert torch.equal(one, another) == (weight in weights.RATE_FREE)
