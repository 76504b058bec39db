"""The learned uncertainty of levels: its shape, its minimiser, and that it changes nothing that is measured."""

import math

import numpy as np
import pytest
import torch

from sfumato.core import VP, LinearLogSNR, Process, V
from sfumato.denoisers import NetworkDenoiser
from sfumato.objectives import Batch, DenoisingLoss, LogNormalTimes, Objective, UncertaintyWeighted, UniformTimes
from sfumato.objectives.weights import min_snr, simple

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64
PROCESS = Process(VP(), LinearLogSNR(-9.0, 11.0))
U = torch.tensor([0.02, 0.3, 0.5, 0.77, 0.99], dtype=F64)


class Network(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.3, dtype=F64))

    def forward(self, x, label, cond=None):
        return self.gain * torch.sin(x)


class Known(Objective):
    """Losses that are a function of the log-SNR and of the first number of a sample."""

    def __init__(self, function, times=None) -> None:
        super().__init__(times or UniformTimes())
        self.function = function

    def weight(self, level, rate):
        return simple(level, rate)

    def at(self, denoiser, batch, t):
        return self.function(denoiser.process.level(t).logsnr, batch.x_0[:, 0])


def denoiser() -> NetworkDenoiser:
    return NetworkDenoiser(Network(), PROCESS, V(), "logsnr")


def no_noise(draw, like):
    return torch.zeros_like(like)


def with_heights(loss: UncertaintyWeighted, values: torch.Tensor) -> UncertaintyWeighted:
    """Set so that u at the knots -20, -18.75, .. 20 is ``values``: a tenth of them, being learned ten times as fast."""
    (heights,) = loss.parameters(recurse=False)
    heights.data.copy_(values / 10)
    return loss


KNOTS = torch.linspace(-20, 20, 33, dtype=F64)


def test_u_is_linear_between_its_knots_and_constant_beyond():
    values = torch.randn(33, generator=torch.Generator().manual_seed(0), dtype=F64)
    loss = with_heights(UncertaintyWeighted(DenoisingLoss(UniformTimes())), values)
    logsnr = torch.cat((torch.linspace(-25, 25, 401, dtype=F64), KNOTS, torch.tensor([-math.inf, math.inf])))
    expected = np.interp(logsnr.numpy(), KNOTS.numpy(), values.numpy())
    got = loss.uncertainty(logsnr)
    assert got.dtype == F64
    # Heights are float32.
    torch.testing.assert_close(got.detach(), torch.from_numpy(expected), rtol=0, atol=2e-6)


def test_at_the_start_it_is_the_objective_itself():
    inner = DenoisingLoss(UniformTimes(), min_snr)
    x_0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    model = denoiser()
    assert torch.equal(
        UncertaintyWeighted(inner)(model, Batch(x_0, U, no_noise)), inner(model, Batch(x_0, U, no_noise))
    )


def test_a_loss_is_divided_by_its_own_and_pays_for_that():
    # log c linear in the log-SNR, as u can be: loss / e^u + u = 1 + log c, and there the gradient vanishes.
    inner = Known(lambda logsnr, _: torch.exp(0.3 * logsnr - 1))
    loss = with_heights(UncertaintyWeighted(inner), 0.3 * KNOTS - 1)
    x_0 = torch.zeros(5, 1, dtype=F64)
    got = loss(denoiser(), Batch(x_0, U, no_noise))
    logsnr = 11 - 20 * U
    torch.testing.assert_close(got.detach(), 1 + 0.3 * logsnr - 1, rtol=0, atol=1e-5)
    got.sum().backward()
    assert float(loss.heights.grad.abs().max()) < 1e-4
    # Elsewhere it is 1 - loss / e^u for each sample, tenfold, shared by its two knots.
    other = UncertaintyWeighted(inner)
    other(denoiser(), Batch(x_0, U, no_noise)).sum().backward()
    shares = torch.stack([(1 - (logsnr - k).abs() / 1.25).clamp(min=0) for k in KNOTS])
    expected = 10 * shares @ (1 - torch.exp(0.3 * logsnr - 1))
    torch.testing.assert_close(other.heights.grad.double(), expected, rtol=1e-5, atol=1e-6)


def test_its_minimum_is_the_log_of_the_expected_loss():
    # Losses that scatter: 1 or 9 times e^(0.2 logsnr), by the sample. The least is at the log of the mean, 5.
    loss = UncertaintyWeighted(Known(lambda logsnr, x: (5 + 4 * x) * torch.exp(0.2 * logsnr)))
    u = torch.linspace(0.005, 1, 200, dtype=F64).repeat(2)
    x_0 = torch.cat((torch.ones(200, 1), -torch.ones(200, 1))).double()
    optimiser = torch.optim.LBFGS(loss.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        mean = loss(denoiser(), Batch(x_0, u, no_noise)).mean()
        mean.backward()
        return mean

    optimiser.step(closure)
    logsnr = torch.linspace(-8, 10, 40, dtype=F64)
    torch.testing.assert_close(
        loss.uncertainty(logsnr).detach(), math.log(5) + 0.2 * logsnr, rtol=0, atol=5e-3
    )  # as far as 400 samples of a convex function in float32 are solved


def test_every_level_then_pulls_alike():
    # With u at its minimum the network's gradient is that of log L: unchanged when levels count differently.
    x_0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    pulls = []
    for weight in (simple, lambda level, rate: 7 * torch.exp(-0.4 * level.logsnr)):
        model = denoiser()
        inner = DenoisingLoss(UniformTimes(), weight)
        each = inner(model, Batch(x_0, U, no_noise))
        u = each.detach().log()
        (each / u.exp() + u).sum().backward()
        pulls.append(float(model.network.gain.grad))
        model.network.gain.grad = None
        outer = UncertaintyWeighted(inner)
        outer.uncertainty = lambda logsnr, u=u: u  # what it would have learned
        outer(model, Batch(x_0, U, no_noise)).sum().backward()
        assert float(model.network.gain.grad) == pytest.approx(pulls[-1], rel=1e-12)
    assert pulls[1] == pytest.approx(pulls[0], rel=1e-9)


def test_what_is_measured_and_where_is_the_objectives():
    inner = DenoisingLoss(LogNormalTimes(PROCESS), min_snr)
    loss = with_heights(UncertaintyWeighted(inner), torch.linspace(-3, 4, 33, dtype=F64))
    model = denoiser()
    x_0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    assert torch.equal(loss.evaluate(model, Batch(x_0, U, no_noise)), inner.evaluate(model, Batch(x_0, U, no_noise)))
    for even in (False, True):
        for got, expected in zip(loss.noise_levels(model, U, even), inner.noise_levels(model, U, even), strict=True):
            assert torch.equal(got, expected)
    assert not torch.equal(loss(model, Batch(x_0, U, no_noise)), inner(model, Batch(x_0, U, no_noise)))
    # What counts of a level is its weight divided by e^u.
    u = loss.uncertainty(inner.noise_levels(model, U, True)[1]).detach()
    torch.testing.assert_close(
        loss.relative_weight(model, U), inner.relative_weight(model, U) / u.exp(), rtol=1e-12, atol=0
    )


def test_losses_keep_their_type_and_the_heights_are_saved():
    loss = UncertaintyWeighted(DenoisingLoss(UniformTimes()))
    x_0 = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    assert loss(denoiser(), Batch(x_0, U, no_noise)).dtype == torch.float32
    assert {name: value.shape for name, value in loss.state_dict().items()} == {"heights": (33,)}
