"""Approximate posteriors against Gaussian conditioning, and each sample on its own."""

import pytest
import torch

from sfumato.core import Prediction, Process, SeededNoise
from sfumato.core.scalings import VP
from sfumato.core.schedules import Cosine
from sfumato.denoisers import Condition, Denoiser, ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.generate import generate
from sfumato.restoration import DPS, MMPS, Function, Matrix, Measurement, PiGDM
from sfumato.sampling import run
from sfumato.sampling.methods import tableau

PROCESS = Process(VP(), Cosine())
G = torch.Generator().manual_seed(3)
ROOT = torch.randn(4, 4, generator=G, dtype=torch.float64)
COVARIANCE = ROOT @ ROOT.T / 4 + 0.1 * torch.eye(4)
MEAN = torch.randn(4, generator=G, dtype=torch.float64)
GAUSSIAN = ExactDenoiser(PROCESS, GaussianMixture.gaussian(MEAN, COVARIANCE))
OPERATOR = Matrix(torch.randn(2, 4, generator=G), (4,))
NOISE = torch.tensor([0.2, 0.5])
MEASURED = Measurement(OPERATOR, torch.tensor([[0.5, -1.0]]), NOISE)


def conditioned() -> tuple[torch.Tensor, torch.Tensor]:
    """The posterior's mean and covariance, by precisions."""
    weighted = OPERATOR.matrix.T / NOISE.double() ** 2
    covariance = torch.linalg.inv(torch.linalg.inv(COVARIANCE) + weighted @ OPERATOR.matrix)
    mean = covariance @ (torch.linalg.solve(COVARIANCE, MEAN) + weighted @ MEASURED.y[0])
    return mean, covariance


def test_mmps_is_exact_for_gaussian_data():
    """The flow is affine, so the image of the origin and of unit vectors gives the law of the end without sampling."""
    mean, covariance = conditioned()
    posterior, table = MMPS(GAUSSIAN, MEASURED, tolerance=1e-10), tableau(PROCESS, "dpm++2m", 256)
    ends = run(posterior, table, torch.cat((torch.zeros(1, 4), torch.eye(4))).double())
    off = torch.linalg.solve(torch.linalg.cholesky(covariance), ends[0] - mean)
    assert off.abs().max() < 0.02
    slopes = (ends[1:] - ends[0]).T
    assert (slopes @ slopes.T - covariance).norm() < 0.06 * covariance.norm()


@pytest.mark.parametrize("method", [DPS, PiGDM, MMPS])
def test_draws_come_closer_to_the_readings_and_do_not_depend_on_the_batch(method):
    many = Measurement(OPERATOR, torch.tensor([[0.5, -1.0], [3.0, 2.0], [-2.0, 0.0]]), NOISE)
    table, x = tableau(PROCESS, "ancestral", 60), torch.randn(3, 4, generator=G)
    noise = SeededNoise.samples(0, 3)
    together = run(method(GAUSSIAN, many), table, x, noise=noise)
    for i in range(3):
        alone = run(method(GAUSSIAN, many.row(i)), table, x[i : i + 1], noise=noise.rows(slice(i, i + 1)))
        assert torch.allclose(alone[0], together[i], atol=1e-5)
    prior = run(GAUSSIAN, table, x, noise=noise)
    # The pull of DPS is bounded, so an outlier such as the second measurement moves it less.
    assert many.residual(together).norm() < (0.8 if method is DPS else 0.5) * many.residual(prior).norm()


def test_pigdm_is_exact_where_its_assumption_holds():
    unit = ExactDenoiser(PROCESS, GaussianMixture.gaussian(torch.zeros(4).double(), torch.eye(4).double()))
    x, t = torch.randn(5, 4, generator=G, dtype=torch.float64), torch.tensor(0.4)
    one, other = PiGDM(unit, MEASURED, 1e-10)(x, t), MMPS(unit, MEASURED, 1e-10)(x, t)
    assert torch.allclose(one.x_0, other.x_0, atol=1e-8)
    level = PROCESS.level(t, like=x)
    assert torch.allclose(level.alpha * one.x_0 + level.sigma * one.eps, x, atol=1e-8)


def test_dps_takes_a_nonlinear_operator_and_the_others_refuse_it():
    measured = Measurement(Function(lambda x: x.clamp(-1, 1), (4,)), torch.tensor([[0.9, -0.9, 0.0, 0.5]]), 0.1)
    table = tableau(PROCESS, "ddim", 100)
    draws = generate(DPS(GAUSSIAN, measured), table, 32, (4,))
    prior = generate(GAUSSIAN, table, 32, (4,))
    gap, before = ((measured.y - x.clamp(-1, 1)).norm(dim=1).mean() for x in (draws, prior))
    assert gap < 0.5 * before
    with pytest.raises(InputError, match="not linear"):
        MMPS(GAUSSIAN, measured)


class Bent(Denoiser):
    """x_0-hat = J x_t with a Jacobian as networks have it: one direction shrinks beyond zero."""

    def __init__(self, jacobian: torch.Tensor) -> None:
        super().__init__()
        self.process = PROCESS
        self.jacobian = jacobian

    def forward(self, x_t: torch.Tensor, t: torch.Tensor, cond: Condition | None = None) -> Prediction:
        level = self.process.level(t, like=x_t)
        x_0 = x_t @ self.jacobian.T
        return Prediction(x_0, (x_t - level.alpha * x_0) / level.sigma)


def test_mmps_leaves_out_directions_in_which_a_jacobian_is_negative():
    """All of x is read with a noise far below the wrong variance: each direction of the readings is pulled or left."""
    U, _ = torch.linalg.qr(torch.randn(4, 4, generator=G, dtype=torch.float64))
    J = (U * torch.tensor([-0.5, 0.2, 0.9, 1.0]).double()) @ U.T
    noise, t = 0.05, torch.tensor(0.8)
    whole = Measurement(Matrix(torch.eye(4), (4,)), torch.randn(3, 4, generator=G), noise)
    x = torch.randn(3, 4, generator=G, dtype=torch.float64)
    level = PROCESS.level(t, like=x)
    variances = level.sigma**2 / level.alpha * torch.tensor([0.0, 0.2, 0.9, 1.0])
    shares = (variances / (variances + noise**2)).double()
    x_0 = x @ J.T
    expected = x_0 + (whole.y.double() - x_0) @ (U * shares) @ U.T
    assert torch.allclose(MMPS(Bent(J), whole, 1e-10)(x, t).x_0, expected, atol=1e-7)


def test_another_number_of_measurements_is_refused():
    with pytest.raises(InputError, match="3 for 2 samples"):
        MMPS(GAUSSIAN, Measurement(OPERATOR, torch.zeros(3, 2), 0.1))(torch.zeros(2, 4), torch.tensor(0.5))
