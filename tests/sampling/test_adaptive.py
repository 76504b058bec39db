"""The adaptive solution of the probability-flow ODE against its closed form on Gaussians.

Along an eigen-axis of variance v and mean m, (x_t - alpha m) / sqrt(alpha^2 v + sigma^2) is conserved; at data that is
(x_0 - m) / sqrt(v). The last move, from sigma / alpha = r to data by x_0-hat, is off
by 1 - 1 / sqrt(1 + r^2 / v) of it.
"""

import math

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
    linear_betas,
)
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.sampling import solve

# torchode's and torch's own: scripted classes.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

F64 = torch.float64
VARIANCES = torch.tensor([0.3, 1.0, 2.5], dtype=F64)
MEAN = torch.tensor([1.0, -0.5, 0.3], dtype=F64)
GAUSSIAN = GaussianMixture.gaussian(MEAN, VARIANCES.diag())
MIXTURE = GaussianMixture.isotropic(torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]], dtype=F64), 0.4)
PROCESSES = {
    "VP": Process(VP(), Cosine()),
    "VP, data at infinity": Process(VP(), LinearBeta()),
    "VE": Process(VE(), LinearLogSNR(-9.0, 12.0)),
    "straight": Process(Straight(), Logistic()),
    "chain": Process(VP(), Tabulated(linear_betas(1000))),
}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES.keys())


def state(process: Process, t: float, count: int = 6) -> torch.Tensor:
    """Points of one flow at time t; at 0, of data itself."""
    z = torch.randn(count, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    if t == 0:
        return MEAN + VARIANCES.sqrt() * z
    level = process.level(t)
    return level.alpha * MEAN + torch.sqrt(level.alpha**2 * VARIANCES + level.sigma**2) * z


def scale(process: Process, t: float) -> float:
    return float(torch.hypot(process.level(t).alpha, process.level(t).sigma)) if t else 1.0


@each_process
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize(("start", "end"), [(1.0, 0.2), (0.7, 0.1), (0.2, 0.9), (0.3, 1.0), (1.0, 0.0), (0.0, 0.8)])
def test_the_closed_form_is_met_to_the_tolerance(process, tolerance, start, end):
    got = solve(ExactDenoiser(process, GAUSSIAN), state(process, start), start, end, tolerance=tolerance)
    error = float((got - state(process, end)).abs().max()) / scale(process, end)
    # The tolerance is each step's; tens of steps add up, and the flow stretches distances at most by sqrt(2.5 / 0.3).
    allowed = 100 * tolerance
    if 0 in (start, end):
        clock_end = float(process.level(0.0).ratio)
        r = clock_end if clock_end > 0 else min(0.002, math.sqrt(tolerance))
        allowed += 4 * r**2 / 2 / float(VARIANCES.min())
    assert error < allowed


@each_process
def test_a_smaller_tolerance_gives_a_smaller_error_for_more_evaluations(process):
    errors, counts = [], []
    for tolerance in (1e-3, 1e-5, 1e-7, 1e-9):
        rows = []
        got = solve(
            ExactDenoiser(process, GAUSSIAN),
            state(process, 0.95),
            0.95,
            0.2,
            tolerance=tolerance,
            watch=lambda row, t, x, p, rows=rows: rows.append(row),
        )
        errors.append(float((got - state(process, 0.2)).abs().max()))
        assert rows == list(range(len(rows)))
        counts.append(len(rows))
    assert errors == sorted(errors, reverse=True)
    assert counts == sorted(counts)
    assert errors[-1] < errors[0] / 1e3


@each_process
def test_down_and_up_again(process):
    denoiser = ExactDenoiser(process, MIXTURE)
    x = scale(process, 0.9) * torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    down = solve(denoiser, x, 0.9, 0.3, tolerance=1e-10)
    up = solve(denoiser, down, 0.3, 0.9, tolerance=1e-10)
    # Errors on the way down grow on the way up by what the mixture's modes part: less than a thousand here.
    assert float((up - x).abs().max()) / scale(process, 0.9) < 1e-6
    assert float((down - x).abs().max()) > 0.1


@each_process
def test_a_sample_does_not_depend_on_its_batch(process):
    denoiser = ExactDenoiser(process, MIXTURE)
    x = scale(process, 1.0) * torch.randn(6, 2, generator=torch.Generator().manual_seed(2), dtype=F64)
    together = solve(denoiser, x, tolerance=1e-6)
    for i in range(len(x)):
        alone = solve(denoiser, x[i : i + 1], tolerance=1e-6)
        # Its own steps: at 1e-6 others would show at 1e-7.
        torch.testing.assert_close(together[i : i + 1], alone, rtol=0, atol=1e-12)


def test_each_sample_has_its_own_times_and_a_trailing_shape():
    process = PROCESSES["VP"]
    seen = []
    x = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(3), dtype=F64)
    got = solve(
        ExactDenoiser(process, GAUSSIAN),
        x,
        watch=lambda row, t, state, p: seen.append((t.shape, state.shape, p.x_0.shape)),
    )
    assert got.shape == x.shape
    assert set(seen) == {((4,), x.shape, x.shape)}


def test_float32_stays_and_is_as_good_as_it_can_be():
    process = PROCESSES["VP"]
    x = state(process, 0.9)
    got = solve(ExactDenoiser(process, GAUSSIAN), x.float(), 0.9, 0.2, tolerance=1e-6)
    assert got.dtype == torch.float32
    assert float((got - state(process, 0.2)).abs().max()) < 2e-5


def test_pure_noise_on_the_straight_path_needs_no_care():
    process = PROCESSES["straight"]
    got = solve(ExactDenoiser(process, GAUSSIAN), state(process, 1.0), tolerance=1e-8)
    assert float(process.level(1.0).alpha) == 0
    assert float((got - state(process, 0.0)).abs().max()) < 1e-6


class Conditional(Denoiser):
    """The prediction for data that is the condition's vector: the flow is x_t = alpha vector + sigma z."""

    process = PROCESSES["VP"]

    def forward(self, x_t, t, cond=None):
        level = self.process.level(t, like=x_t)
        return Prediction(cond.vector, (x_t - level.alpha * cond.vector) / level.sigma)


def test_a_condition_reaches_every_evaluation():
    x, cond = torch.tensor([[0.4, -2.0]], dtype=F64), torch.tensor([[1.5, 0.5]], dtype=F64)
    got = solve(Conditional(), x, cond=Condition(vector=cond))
    torch.testing.assert_close(got, cond, rtol=1e-12, atol=1e-12)


class Coarse(Conditional):
    """On a clock that stops far above data, at sigma / alpha = 0.37."""

    process = Process(VP(), Cosine(-10.0, 2.0))


def test_upwards_data_is_entered_without_noise():
    # Believed in for certain, x_0 stays on x_t = alpha x_0: eps is 0 from where it is entered. An error at the entry
    # grows with sigma, here tenfold.
    x = torch.tensor([[0.4, -2.0]], dtype=F64)
    got = solve(Coarse(), x, 0.0, 0.8, cond=Condition(vector=x), tolerance=1e-8)
    torch.testing.assert_close(got, Coarse.process.level(0.8).alpha * x, rtol=1e-6, atol=0)


class Broken(Conditional):
    """Not finite below t = 1/2 in the second sample."""

    def forward(self, x_t, t, cond=None):
        wrong = (t[:, None] < 0.5) & (torch.arange(len(x_t))[:, None] == 1)
        return Prediction(torch.where(wrong, math.nan, 0.0) + 0 * x_t, x_t)


def test_an_estimate_that_is_not_finite_stops_with_its_time():
    seen = []
    with pytest.raises(FloatingPointError, match=r"^adaptive: the estimate of x_0 at t = .* is not finite") as raised:
        solve(Broken(), torch.ones(3, 2, dtype=F64), 1.0, 0.3, watch=lambda row, t, x, p: seen.append(t))
    # The time of the sample that failed, where it fails.
    t = float(str(raised.value).split("t = ")[1].split()[0])
    assert 0.3 <= t < 0.5
    assert all(float(times[1]) >= 0.5 for times in seen)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tolerance": 0.0}, r"^tolerance: 0\.0 .*1e-12 to below 1"),
        ({"tolerance": 1.0}, r"^tolerance: 1\.0"),
        ({"tolerance": math.nan}, r"^tolerance: nan"),
        ({"tolerance": -1e-3}, r"^tolerance: -0\.001"),
        ({"start": 1.2}, r"^start 1\.2, end 0\.0: give two different times"),
        ({"end": -0.1}, r"^start 1\.0, end -0\.1"),
        ({"start": 0.5, "end": 0.5}, r"^start 0\.5, end 0\.5"),
        ({"start": math.nan}, r"^start nan"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        solve(ExactDenoiser(PROCESSES["VP"], GAUSSIAN), state(PROCESSES["VP"], 1.0), **settings)
