"""The control variate: what a Gaussian denoiser pays, and that its mean is known.

A square error is a quadratic in the noise, so three Gauss-Hermite points a number give its mean exactly.
"""

import math
from itertools import product

import pytest
import torch

from sfumato.core import VE, VP, Level, Straight
from sfumato.denoisers import GaussianMixture
from sfumato.likelihood.control_variate import ControlVariate

F64 = torch.float64
POINTS = torch.tensor([-math.sqrt(3), 0.0, math.sqrt(3)], dtype=F64)
WEIGHTS = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=F64)
NOISE = torch.tensor(list(product(POINTS.tolist(), repeat=3)), dtype=F64)
MASS = torch.tensor([math.prod(w) for w in product(WEIGHTS.tolist(), repeat=3)], dtype=F64)
DATA = torch.tensor([1.0, -0.5, 0.2], dtype=F64) + torch.tensor([0.2, 0.6, 1.4], dtype=F64) * torch.randn(
    9, 3, generator=torch.Generator().manual_seed(0), dtype=F64
)
LOGSNR = torch.tensor([9.0, 1.0, -1.0, -8.0], dtype=F64)
each_scaling = pytest.mark.parametrize("scaling", [VP(), VE(), Straight()], ids=lambda scaling: type(scaling).__name__)


def errors(scaling, x, logsnr):
    """|eps - eps-hat|^2 of the Gaussian of the data's own moments, at every noise of the rule.

    Of nine samples of three numbers the covariances count three quarters: 3 / (9 + 3) is left to the variances.
    """
    level = scaling.at(logsnr)
    moments = torch.cov(DATA.T, correction=0)
    twin = GaussianMixture.gaussian(DATA.mean(0), 0.75 * moments + 0.25 * moments.diag().diag())
    eps = twin.predict(level.alpha * x + level.sigma * NOISE, level).eps
    return (NOISE - eps).square().sum(1)


@each_scaling
def test_the_mean_errors_are_those_of_the_gaussian_denoiser(scaling):
    got = ControlVariate.of(DATA).mean_errors(DATA, scaling.at(LOGSNR))
    want = torch.stack([torch.stack([MASS @ errors(scaling, x, v) for v in LOGSNR]) for x in DATA])
    # 1e-12 is added to the variances; over 0.04 that is 3e-11.
    torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


@each_scaling
def test_the_excess_is_the_error_less_its_mean(scaling):
    control = ControlVariate.of(DATA)
    for x in DATA[:3]:
        for v in LOGSNR:
            want = errors(scaling, x, v)
            got = control.excess(x.expand(27, 3), NOISE, scaling.at(v))
            torch.testing.assert_close(got, want - MASS @ want, rtol=1e-8, atol=1e-12)
            assert abs(float(MASS @ got)) < 1e-12 * float(want.max() + 1)


def test_samples_of_any_shape_and_levels_of_their_own():
    x = DATA[:6].reshape(6, 3, 1, 1)
    noise, level = NOISE[:6].reshape(6, 3, 1, 1), VP().at(torch.linspace(-3, 3, 6, dtype=F64))
    flat, shaped = ControlVariate.of(DATA[:6]), ControlVariate.of(x)
    each = [
        flat.excess(DATA[i : i + 1], NOISE[i : i + 1], Level(level.alpha[i], level.sigma[i], level.logsnr[i]))
        for i in range(6)
    ]
    torch.testing.assert_close(shaped.excess(x, noise, level), torch.cat(each), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(shaped.mean_errors(x, level), flat.mean_errors(DATA[:6], level), rtol=1e-12, atol=0)
    assert shaped.excess(x.float(), noise.float(), level).dtype == F64


def test_wide_samples_get_a_variance_a_number(monkeypatch):
    full = ControlVariate.of(DATA)
    monkeypatch.setattr("sfumato.likelihood.control_variate.WIDEST", 2)
    plain = ControlVariate.of(DATA)
    assert full.axes is not None
    assert plain.axes is None
    level = VP().at(LOGSNR)
    # The same mean errors in all at the ends, where a Gaussian's correlations have no say.
    ends = torch.tensor([0, 3])
    torch.testing.assert_close(
        plain.mean_errors(DATA, level)[:, ends], full.mean_errors(DATA, level)[:, ends], rtol=0.02, atol=0
    )
    for v in LOGSNR:
        z = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
        excess = plain.excess(DATA[:1].expand(200_000, 3), z, VP().at(v))
        assert abs(float(excess.mean())) < 4 * float(excess.std()) / 200_000**0.5
