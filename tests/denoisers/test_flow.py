"""The probability flow in the angle, against the process's own ODE and the closed form on Gaussians."""

import math

import pytest
import torch
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
    linear_betas,
)
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.denoisers.flow import ProbabilityFlow, angle, check_tolerance
from sfumato.errors import InputError

# torch.func.jvp imports a module of torch's that warns of torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")

F64 = torch.float64
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VP, data at infinity": Process(VP(), LinearBeta()),
    "VE": Process(VE(), LinearLogSNR(-9.0, 12.0)),
    "straight": Process(Straight(), Logistic()),
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())
MIXTURE = GaussianMixture.isotropic(torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]], dtype=F64), 0.4)
MEAN, VARIANCES = torch.tensor([1.0, -0.5], dtype=F64), torch.tensor([0.3, 2.5], dtype=F64)
GAUSSIAN = GaussianMixture.gaussian(MEAN, VARIANCES.diag())
SHAPE = torch.Size([2])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@each_process
@pytest.mark.parametrize("t", [0.0504, 0.3004, 0.7004, 0.9504])  # between levels of the chain, where its rate jumps
def test_it_is_the_processs_own_ode_in_other_variables(process, t):
    """dx/dt = f x + g^2 / (2 sigma) eps-hat (Song et al. 2021), with y = x / s(t), theta(t) by differences."""
    denoiser = ExactDenoiser(process, MIXTURE)
    level = process.level(t)
    y = normal(6, 2)
    x = y * torch.hypot(level.alpha, level.sigma)
    f, g2 = process.sde(t)
    rate = f * x + 0.5 * g2 / level.sigma * denoiser(x, torch.tensor(t, dtype=F64)).eps
    h = 1e-5
    before, after = process.level(t - h), process.level(t + h)
    log_unit = (torch.hypot(after.alpha, after.sigma) / torch.hypot(before.alpha, before.sigma)).log() / (2 * h)
    angle_rate = (torch.atan2(after.sigma, after.alpha) - torch.atan2(before.sigma, before.alpha)) / (2 * h)
    want = (rate / torch.hypot(level.alpha, level.sigma) - y * log_unit) / angle_rate
    theta = torch.atan2(level.sigma, level.alpha).expand(6)
    got = ProbabilityFlow(denoiser, SHAPE, F64).velocity(theta, y)
    # Central differences at h = 1e-5 of a function of t whose third derivatives here are below 1e4: 1e-6.
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


@each_process
def test_the_velocity_on_a_gaussian(process):
    """(y - cos m) / s is conserved with s^2 = cos^2 v + sin^2, so dy = (s' / s) (y - cos m) - sin m."""
    theta = torch.linspace(0.02, 1.55, 7, dtype=F64)
    y = normal(7, 2)
    c, s = theta.cos()[:, None], theta.sin()[:, None]
    want = s * c * (1 - VARIANCES) / (c**2 * VARIANCES + s**2) * (y - c * MEAN) - s * MEAN
    got = ProbabilityFlow(ExactDenoiser(process, GAUSSIAN), SHAPE, F64).velocity(theta, y)
    # Straight and VP clocks are read back from the angle; at 1.55 the log-SNR is right to 1e-13, alpha to 1e-12.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-10)


def test_one_velocity_for_every_process():
    theta, y = torch.linspace(0.05, 1.5, 5, dtype=F64), normal(5, 2)
    found = [ProbabilityFlow(ExactDenoiser(p, MIXTURE), SHAPE, F64).velocity(theta, y) for p in PROCESSES.values()]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-9, atol=1e-10)


def test_states_have_the_shape_and_type_of_samples():
    """A denoiser sees (B, *) in the samples' own type; the flow stays flat and float64. ``watch`` sees the same."""

    class Seen(Denoiser):
        def __init__(self, process: Process) -> None:
            super().__init__()
            self.process = process

        def forward(self, x_t: Tensor, t: Tensor, cond=None) -> Prediction:
            shapes.append((x_t.shape, x_t.dtype, t.shape, cond))
            return Prediction(x_t * 0 + 1, x_t * 0 + 2)

    cond = Condition(classes=torch.arange(4))
    shapes: list[tuple] = []
    watched: list[tuple] = []
    flow = ProbabilityFlow(
        Seen(PROCESSES["VE"]),
        torch.Size([1, 2, 3]),
        torch.float32,
        cond,
        lambda row, t, x, prediction: watched.append((row, t, x.shape, prediction.eps.shape)),
    )
    theta = torch.full((4,), 0.7, dtype=F64)
    for _ in range(2):
        v = flow.velocity(theta, normal(4, 6))
    torch.testing.assert_close(v, torch.full((4, 6), 2 * math.cos(0.7) - math.sin(0.7), dtype=F64))
    assert shapes == [((4, 1, 2, 3), torch.float32, (4,), cond)] * 2
    assert [(row, s, e) for row, _, s, e in watched] == [
        (0, (4, 1, 2, 3), (4, 1, 2, 3)),
        (1, (4, 1, 2, 3), (4, 1, 2, 3)),
    ]
    level = PROCESSES["VE"].level(watched[0][1])
    torch.testing.assert_close(torch.atan2(level.sigma, level.alpha), theta, rtol=1e-12, atol=0)
    assert flow.evaluations == 2


def test_an_estimate_that_is_not_finite_is_named_with_its_time():
    class Broken(Denoiser):
        process = PROCESSES["VP"]

        def forward(self, x_t: Tensor, t: Tensor, cond=None) -> Prediction:
            return Prediction(x_t / (t[:, None] < 0.5), x_t)

    flow = ProbabilityFlow(Broken(), SHAPE, F64)
    theta = torch.tensor([0.3, 1.2], dtype=F64)
    t = float(PROCESSES["VP"].schedule.time(-2 * torch.log(torch.tan(theta[1]))))
    with pytest.raises(FloatingPointError, match=f"adaptive: the estimate of x_0 at t = {t:.6g} is not finite"):
        flow.velocity(theta, normal(2, 2))


@each_process
@pytest.mark.parametrize("t", [0.2, 0.8, 1.0])
def test_the_angle_of_a_time(process, t):
    level = process.level(t)
    assert float(angle(process, t, 1e-5)) == pytest.approx(math.atan2(level.sigma, level.alpha), rel=1e-12)


@pytest.mark.parametrize("name", ["VP, data at infinity", "straight", "chain"])
def test_where_the_clock_ends_in_data_the_angle_is_that_of_the_finest_level_worth_a_visit(name):
    for tolerance, ratio in ((1e-3, 0.002), (1e-5, 0.002), (1e-8, 1e-4), (1e-10, 1e-5)):
        assert float(angle(PROCESSES[name], 0.0, tolerance)) == pytest.approx(math.atan(ratio), rel=1e-9)


def test_a_finite_end_is_the_end_whatever_the_tolerance():
    assert float(angle(PROCESSES["VE"], 0.0, 1e-12)) == pytest.approx(math.atan(math.exp(-6.0)), rel=1e-12)


@pytest.mark.parametrize("tolerance", [0.0, -1e-5, 1e-13, 1.0, math.nan, math.inf])
def test_tolerances_that_are_none(tolerance):
    with pytest.raises(InputError, match=f"tolerance: {tolerance} does not suit an ODE"):
        check_tolerance(tolerance)


def test_tolerances_that_are():
    for tolerance in (1e-12, 1e-5, 0.999):
        check_tolerance(tolerance)
