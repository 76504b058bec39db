"""Rate and distortion of exact denoisers."""

import math

import torch

from sfumato.bounds import ContinuousGaussian
from sfumato.core import VP, LinearLogSNR, Process
from sfumato.denoisers import ExactDenoiser, GaussianMixture
from sfumato.likelihood import Span, bits_per_dim, estimate, walk, walk_times
from sfumato.likelihood.rate_distortion import rate_distortion

PROCESS = Process(VP(), LinearLogSNR(-8.0, 6.0))
S = 0.7
GAUSSIAN = GaussianMixture.gaussian(torch.zeros(8).double(), S**2 * torch.eye(8).double())


def test_a_gaussians_curve_is_shannons():
    # What is told by a level is log2(1 + SNR s^2) / 2 bits a number; the distortion is the posterior's variance.
    x_0 = GAUSSIAN.sample(200, torch.Generator().manual_seed(0))
    denoiser = ExactDenoiser(PROCESS, GAUSSIAN)
    for bound in (
        estimate(denoiser, x_0, ContinuousGaussian(), Span(0.0), evaluations=120),
        walk(denoiser, x_0, ContinuousGaussian(), walk_times(PROCESS, 200)),
    ):
        curve = rate_distortion(bound)
        assert (curve.logsnr.diff() > 0).all()
        assert (curve.rate.diff() > -1e-9).all()
        gain = 1 + curve.logsnr.exp() * S**2
        inside = (curve.logsnr > -6) & (curve.logsnr < 5)
        rate = 0.5 * torch.log2(gain)
        # Steps of D = 14 / 200 cost (e^D - 1) / D of the limit of many; visits of a group are spread over its width.
        assert ((curve.rate - rate).abs() < 0.04 + 0.036 * rate)[inside].all()
        torch.testing.assert_close(curve.rmse[inside], (S / gain.sqrt())[inside], rtol=0.08, atol=0)


def test_the_whole_rate_is_the_bound_without_its_decoder():
    x_0 = GAUSSIAN.sample(50, torch.Generator().manual_seed(0))
    bound = walk(ExactDenoiser(PROCESS, GAUSSIAN), x_0[:4], ContinuousGaussian(), walk_times(PROCESS, 40), draws=1)
    curve = rate_distortion(bound)
    sent = bound.prior + bound.contributions.sum(1) - bound.contributions[:, 0] / 2  # the last is half way
    total = bits_per_dim(sent.mean(), 8)
    assert math.isclose(float(curve.rate[-1]), float(total), rel_tol=1e-12)
    assert len(curve.rate) == 40
