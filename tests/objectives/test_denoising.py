"""The denoising loss against its definition, and against the closed form for an exact denoiser."""

import math

import pytest
import torch
from torch import nn

from sfumato.core import EDM, VE, VP, X0, Cosine, LinearLogSNR, Logistic, Noise, Process, Score, Straight, V, Velocity
from sfumato.denoisers import Condition, GaussianMixture, NetworkDenoiser
from sfumato.objectives import Batch, ChainTimes, DenoisingLoss, UniformTimes

PROCESSES = [Process(VP(), Cosine()), Process(VE(), LinearLogSNR(-8.0, 8.0)), Process(Straight(), Logistic(-9.0, 9.0))]
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p.scaling).__name__)


class Curved(nn.Module):
    """Nonlinear, and different at every label."""

    def forward(self, x, label, cond=None):
        y = torch.sin(2 * x) + 0.01 * label.to(x).reshape(-1, *(1,) * (x.ndim - 1))
        return y if cond is None else y + cond.reshape(-1, 1, 1)


def batch():
    generator = torch.Generator().manual_seed(0)
    x_0, noise = torch.randn(2, 5, 3, 2, generator=generator, dtype=torch.float64).unbind()
    return x_0, torch.tensor([0.05, 0.3, 0.5, 0.8, 0.97], dtype=torch.float64), noise


def always(z):
    """A source whose every draw is ``z``."""
    return lambda draw, like: z.to(like)


def heavier(level, rate):
    return rate * torch.exp(-0.1 * level.logsnr)


@each_process
@pytest.mark.parametrize("weight", [None, heavier])
def test_the_loss_is_the_weighted_error_of_the_noise(process, weight):
    x_0, t, noise = batch()
    loss = DenoisingLoss(UniformTimes()) if weight is None else DenoisingLoss(UniformTimes(), weight)
    for target in (X0(), Noise(), Score(), V(), Velocity(process.scaling), EDM(0.5)):
        denoiser = NetworkDenoiser(Curved(), process, target, "logsnr", 0.5)
        got = loss(denoiser, Batch(x_0, t, always(noise)))
        assert got.shape == (5,)
        eps_hat = denoiser(process.perturb(x_0, t, noise), t).eps
        for i in range(5):
            w = 1.0 if weight is None else float(process.rate(t[i]) * torch.exp(-0.1 * process.level(t[i]).logsnr))
            expected = w * sum(float(e) ** 2 for e in (noise[i] - eps_hat[i]).flatten()) / 6
            # The reference solves for eps: at log-SNR 9 from x_0, e^4.5 = 90 roundings of it.
            assert float(got[i]) == pytest.approx(expected, rel=1e-10)


def test_at_takes_one_time_or_one_for_each():
    x_0, _, noise = batch()
    denoiser = NetworkDenoiser(Curved(), PROCESSES[0], V())
    loss = DenoisingLoss(ChainTimes(10))
    each = loss.at(
        denoiser,
        Batch(x_0, torch.full((5,), 0.4, dtype=torch.float64), always(noise)),
        torch.full((5,), 0.4, dtype=torch.float64),
    )
    torch.testing.assert_close(
        loss.at(
            denoiser,
            Batch(x_0, torch.tensor(0.4, dtype=torch.float64), always(noise)),
            torch.tensor(0.4, dtype=torch.float64),
        ),
        each,
    )
    quantiles = torch.tensor([0.01, 0.35, 0.39, 0.8, 0.99], dtype=torch.float64)
    at_levels = loss.at(
        denoiser,
        Batch(x_0, torch.tensor([0.1, 0.4, 0.4, 0.9, 1.0], dtype=torch.float64), always(noise)),
        torch.tensor([0.1, 0.4, 0.4, 0.9, 1.0], dtype=torch.float64),
    )
    torch.testing.assert_close(loss(denoiser, Batch(x_0, quantiles, always(noise))), at_levels, rtol=1e-13, atol=0)


def test_a_condition_reaches_the_network():
    x_0, t, noise = batch()
    denoiser = NetworkDenoiser(Curved(), PROCESSES[0], Noise())
    loss, cond = DenoisingLoss(UniformTimes()), Condition(augmentation=torch.arange(5).double()[:, None])
    error = noise - denoiser(PROCESSES[0].perturb(x_0, t, noise), t, cond).eps
    torch.testing.assert_close(loss(denoiser, Batch(x_0, t, always(noise), cond)), error.square().flatten(1).mean(1))


def test_losses_of_float32_states():
    x_0, t, noise = batch()
    denoiser = NetworkDenoiser(Curved(), PROCESSES[0], V())
    loss = DenoisingLoss(UniformTimes())
    single = loss(denoiser, Batch(x_0.float(), t, always(noise.float())))
    assert single.dtype == torch.float32
    # A dozen roundings of 6e-8, squared once.
    torch.testing.assert_close(single.double(), loss(denoiser, Batch(x_0, t, always(noise))), rtol=5e-6, atol=0)


def test_pure_noise_has_no_eps_error_and_no_nan():
    x_0, _, noise = batch()
    denoiser = NetworkDenoiser(Curved(), Process(Straight(), Logistic()), Velocity(Straight()), "logsnr")
    got = DenoisingLoss(UniformTimes()).at(
        denoiser,
        Batch(x_0, torch.tensor(1.0, dtype=torch.float64), always(noise)),
        torch.tensor(1.0, dtype=torch.float64),
    )
    assert got.tolist() == [0] * 5


@each_process
def test_the_exact_denoiser_of_a_gaussian_has_the_closed_form_loss(process):
    # E |eps - E[eps | x_t]|^2 is the trace of eps's posterior covariance, I - sigma^2 (alpha^2 C + sigma^2 I)^-1.
    generator = torch.Generator().manual_seed(2)
    root = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    mixture = GaussianMixture.gaussian(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), root @ root.mT)

    class Exact(nn.Module):
        level = None

        def forward(self, x, label):
            scale = torch.sqrt(self.level.alpha**2 + self.level.sigma**2)
            return mixture.predict(x * scale, self.level).eps

    n = 20_000
    network = Exact()
    denoiser = NetworkDenoiser(network, process, Noise())
    x_0 = mixture.sample(n, generator)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    for t in (0.2, 0.5, 0.8):
        time = torch.tensor(t, dtype=torch.float64)
        network.level = level = process.level(time)
        total = level.alpha**2 * mixture.covariances[0] + level.sigma**2 * torch.eye(3, dtype=torch.float64)
        expected = float(torch.trace(torch.eye(3) - level.sigma**2 * torch.linalg.inv(total))) / 3
        losses = DenoisingLoss(UniformTimes()).at(denoiser, Batch(x_0, time, always(noise)), time)
        # Within 4 standard errors, of 0.7 % or so: a factor of 1.05 anywhere would be seen.
        error = float(losses.std()) / math.sqrt(n)
        assert abs(float(losses.mean()) - expected) < 4 * error
        assert error < 0.012 * expected
