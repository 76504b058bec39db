"""Progressive lossy coding (Ho et al. 2020, section 4.3): the rate and the distortion at each level.

A bound is a code: the prior term and the steps above a level transmit x_t, and x_0-hat is the receiver's picture. The
length of that code is the rate, the error of x_0-hat the distortion; the decoder term is left for the exact data.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .bits import bits_per_dim
from .bound import Bound

POINTS = 64


@dataclass(frozen=True, eq=False)
class Curve:
    """A curve of P points, with falling noise.

    Arguments:
        logsnr: the log-SNRs (P,).
        rate: the bits/dim (P,) that were sent up to there.
        rmse: the root mean square error (P,) of x_0-hat in model units.
    """

    logsnr: Tensor
    rate: Tensor
    rmse: Tensor


def rate_distortion(bound: Bound) -> Curve:
    """The curve of a bound, from its visits; it has at most 64 points, and at most one per visit of a sample."""
    logsnr, errors, costs = (x.flatten() for x in (bound.logsnr, bound.errors, bound.contributions))
    order = logsnr.argsort()
    groups = [g for g in order.tensor_split(min(POINTS, bound.logsnr.shape[1])) if len(g)]
    spent = torch.stack([costs[g].sum() for g in groups]) / len(bound.prior)
    sent = spent.cumsum(0) - spent / 2  # at the middle of a group's levels, where its x_0-hats are
    return Curve(
        logsnr=torch.stack([logsnr[g].clamp(min=-40).mean() for g in groups]),
        rate=bits_per_dim(bound.prior.mean() + sent, bound.dimensions),
        rmse=torch.stack([errors[g].mean().sqrt() for g in groups]),
    )
