"""The Frechet distance between Gaussians fitted to two sets, and its limit for infinitely many points.

    FD = |mu_x - mu_y|^2 + tr(C_x + C_y - 2 (C_x^(1/2) C_y C_x^(1/2))^(1/2))                 Dowson & Landau 1982

It is called FID only in the features of Inception-v3 (Heusel et al. 2017). From n points it is biased upwards, by
about a constant over n where n is several times the number of features, and by more below.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .sets import Sets

PARTS = (1, 2, 3)  # the sets are divided into so many parts, for the line through 1 / n


def frechet(sets: Sets) -> float:
    """The Frechet distance (squared, as FID is) between Gaussians fitted to the two sets.

    The trace of the matrix root is the sum of the singular values of ``A B^T``, where ``A^T A = C_x`` and
    ``B^T B = C_y``: no matrix root, and nothing to clip where a covariance is singular.
    """
    return _frechet(sets.samples, sets.real)


def frechet_infinite(sets: Sets) -> float:
    """The Frechet distance extrapolated to infinitely many points, which may come out below 0.

    Both sets are divided into 1, 2 and 3 parts; a straight line through the mean distance of the parts against
    1 / n is read off at 0. Both sets shrink together, so that the bias of both goes. Every part must have two points:
    fewer than six points are divided into 1 and 2 parts, and of fewer than four the result is nan.

    References:
        Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score" (their line has 15 sizes, and only the
        generated set shrinks).
    """
    fewest = min(len(sets.samples), len(sets.real))
    parts = [p for p in PARTS if fewest // p >= 2]  # one point has no covariance
    if len(parts) < 2:
        return math.nan
    inverse = torch.tensor(parts, dtype=torch.float64)
    means = torch.tensor([_in_parts(sets, p) for p in parts], dtype=torch.float64)
    slope = ((inverse - inverse.mean()) * (means - means.mean())).sum() / (inverse - inverse.mean()).square().sum()
    return float(means.mean() - slope * inverse.mean())


def _in_parts(sets: Sets, parts: int) -> float:
    """The mean distance of the parts, which are blocks of consecutive points."""
    pairs = zip(sets.samples.tensor_split(parts), sets.real.tensor_split(parts), strict=True)
    return sum(_frechet(x, y) for x, y in pairs) / parts


def _frechet(x: Tensor, y: Tensor) -> float:
    roots = [_root(x), _root(y)]
    spread = sum(float(root.square().sum()) for root in roots)
    overlap = float(torch.linalg.svdvals(roots[0] @ roots[1].mT).sum())
    return float((x.mean(0) - y.mean(0)).square().sum()) + spread - 2 * overlap


def _root(x: Float[Tensor, "n d"]) -> Float[Tensor, "r d"]:
    """A matrix A with A^T A = the covariance of x; square where there are more points than features."""
    centred = (x - x.mean(0)) / (len(x) - 1) ** 0.5
    root: Tensor = torch.linalg.qr(centred, mode="r").R if len(x) > x.shape[1] else centred
    return root
