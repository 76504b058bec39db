"""The evidence of measurements against simulated ones: closed forms of a Gaussian prior."""

import pytest
import torch

from sfumato import Model
from sfumato.core import VP, Cosine, Process
from sfumato.data import LAYOUTS, Affine, DataSpec
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.errors import InputError
from sfumato.evidence import explained

ROOT = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.5, 0.3, 0.6]]).double()
SPEC = DataSpec(
    LAYOUTS["vector"], (3,), "float32", Affine((0.0, 1.0, 0.0), (1.0, 2.0, 1.0)), (), 1.0, 8.0, (), (), 100,
    "0" * 64, "a Gaussian",
)  # fmt: skip
MODEL = Model(
    ExactDenoiser(Process(VP(), Cosine()), GaussianMixture.gaussian(torch.zeros(3).double(), ROOT @ ROOT.T)), SPEC
)
ROW = torch.tensor([[1.0, 0.5, 0.0]]).double()
NOISE = 0.5


def test_p_is_that_of_the_closed_form_and_tells_what_the_residual_does_not():
    """A reading of a Gaussian is Gaussian, and log p(y) falls with its distance z from the mean: p = P(|Z| > z)."""
    factor = torch.diag(torch.tensor([1.0, 2.0, 1.0]).double()) @ ROOT
    spread = float(ROW @ factor @ factor.T @ ROW.T + NOISE**2) ** 0.5
    z = torch.tensor([0.2, -0.9, 5.0]).double()
    y = (0.5 + spread * z)[:, None]  # the mean is ROW (0, 1, 0)
    found = explained(MODEL, y, ROW, NOISE, simulations=39)
    exact = torch.special.erfc(z.abs() / 2**0.5)
    # Three standard errors of a share among 39, and the scatter of the estimates.
    assert ((found.p_value - exact).abs() < 3 * (exact * (1 - exact) / 39).sqrt() + 0.03).all()
    assert float(found.p_value[2]) == pytest.approx(1 / 40)
    # One reading of three numbers is always met within the noise.
    far = MODEL.reconstruct(y[2:], ROW, noise=NOISE, draws=20, particles=64, steps=6)
    assert float(far.p_value) > 0.05


@pytest.mark.parametrize(
    ("operator", "noise", "message"),
    [
        (ROW, torch.ones(3, 1), "noise: shape"),
        (lambda x: x.pow(2), 0.1, "linear operators alone"),
    ],
    ids=["noise of each measurement", "squares"],
)
def test_what_cannot_be_simulated_is_refused(operator, noise, message):
    with pytest.raises(InputError, match=message):
        explained(MODEL, torch.zeros(1, 3 if callable(operator) else 1), operator, noise, simulations=2)
