"""Scalings: the definitions of alpha and sigma, their ends, and the direction of travel."""

import math

import pytest
import torch

from sfumato.core import VE, VP, Straight

LOGSNR = torch.linspace(-40, 40, 81, dtype=torch.float64)


def test_log_snr_is_what_it_says(scaling):
    level = scaling.at(LOGSNR)
    # log of a ratio whose terms are each exact to a few u, and the log-SNR's own 40 u.
    torch.testing.assert_close(2 * torch.log(level.alpha / level.sigma), LOGSNR, rtol=0, atol=2e-14)
    torch.testing.assert_close(level.ratio, level.sigma / level.alpha, rtol=2e-14, atol=0)
    assert level.logsnr is LOGSNR


def test_each_scaling_keeps_its_own_constant():
    vp, ve, straight = (scaling.at(LOGSNR) for scaling in (VP(), VE(), Straight()))
    one = torch.ones_like(LOGSNR)
    torch.testing.assert_close(vp.alpha**2 + vp.sigma**2, one, rtol=0, atol=2e-15)
    assert torch.equal(ve.alpha, one)
    torch.testing.assert_close(straight.alpha + straight.sigma, one, rtol=0, atol=2e-15)


def test_the_end_of_data(scaling):
    level = scaling.at(torch.tensor(math.inf, dtype=torch.float64))
    assert (float(level.alpha), float(level.sigma), float(level.ratio)) == (1, 0, 0)


@pytest.mark.parametrize("scaling", [VP(), Straight()])
def test_the_end_of_noise(scaling):
    level = scaling.at(torch.tensor(-math.inf, dtype=torch.float64))
    assert (float(level.alpha), float(level.sigma), float(level.ratio)) == (0, 1, math.inf)


def test_tangent_is_the_derivative_along_the_coordinate(scaling):
    logsnr = torch.linspace(-12, 12, 25, dtype=torch.float64, requires_grad=True)
    level = scaling.at(logsnr)
    tau = scaling.coordinate(level)
    rates = [
        torch.autograd.grad((v + 0 * logsnr).sum(), logsnr, retain_graph=True)[0]
        for v in (tau, level.alpha, level.sigma)
    ]
    assert (rates[0] < 0).all()  # tau grows as the log-SNR falls
    a, b = scaling.tangent(level)
    # The coordinate's derivative is small at either end, where tau itself is known to u.
    torch.testing.assert_close(rates[1] / rates[0], a.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(rates[2] / rates[0], b.detach(), rtol=1e-9, atol=1e-12)


def test_coordinate_starts_at_zero_and_is_the_familiar_one():
    logsnr = torch.tensor([math.inf, 3.0, -1.0], dtype=torch.float64)
    for scaling in (VP(), VE(), Straight()):
        assert float(scaling.coordinate(scaling.at(logsnr))[0]) == 0
    vp, ve = VP().at(logsnr), VE().at(logsnr)
    torch.testing.assert_close(VP().coordinate(vp).cos(), vp.alpha, rtol=1e-14, atol=0)
    assert torch.equal(VE().coordinate(ve), ve.sigma)
    end = VP().at(torch.tensor(-math.inf, dtype=torch.float64))
    assert float(VP().coordinate(end)) == math.pi / 2


def test_like_shapes_a_level_against_a_batch(scaling):
    x = torch.zeros(3, 2, 4, 5)
    single, each = scaling.at(torch.tensor(1.0, dtype=torch.float64)), scaling.at(LOGSNR[:3])
    assert single.like(x).alpha.shape == ()
    shaped = each.like(x)
    for before, after in zip(
        (each.alpha, each.sigma, each.logsnr), (shaped.alpha, shaped.sigma, shaped.logsnr), strict=True
    ):
        assert after.shape == (3, 1, 1, 1)
        assert after.dtype == torch.float32
        assert torch.equal(after.flatten(), before.float())
