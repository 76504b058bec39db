"""Progressive lossy coding (Ho et al. 2020, section 4.3): what has been sent by a level, how far off x_0-hat is there.

A bound is a code: the prior term and the steps above a level have told the receiver x_t, from which x_0-hat is the
picture so far. Their length is the rate, the error of x_0-hat the distortion; the decoder term is what is left for the
exact data.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .bits import bits_per_dim
from .bound import Bound

POINTS = 64


@dataclass(frozen=True, eq=False)
class Curve:
    """With falling noise, (P,) each: ``logsnr``, ``rate`` in bits/dim so far, ``rmse`` of x_0-hat in model units."""

    logsnr: Tensor
    rate: Tensor
    rmse: Tensor


def rate_distortion(bound: Bound) -> Curve:
    """The curve of the visits that a bound was made of, at as many levels as they tell apart, 64 at most."""
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
