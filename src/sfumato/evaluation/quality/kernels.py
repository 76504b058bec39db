"""Distances of two sets by pairs of points: kernel distances (MMD) and the energy distance, all unbiased.

    MMD^2  = E k(x, x') + E k(y, y') - 2 E k(x, y)                                           Gretton et al. 2012, eq. 3
    energy = 2 E|x - y| - E|x - x'| - E|y - y'|                                             Szekely & Rizzo 2013

Means over x, x' leave out pairs of a point with itself, so the expectation is that of infinitely many points, and a
value for equal distributions is below 0 as often as above.
"""

from jaxtyping import Float
from torch import Tensor

from .sets import Sets


def kernel_distance(sets: Sets) -> float:
    """MMD^2 with KID's kernel ``(x . y / d + 1)^3``, from all pairs. It sees means, covariances and third moments.

    References:
        Binkowski et al. 2018, "Demystifying MMD GANs", section 4 (they average over blocks of 1,000 points).
    """
    width = sets.samples.shape[1]
    norms = [points.square().sum(1) for points in (sets.samples, sets.real)]

    def cubic(distances: Tensor, a: Tensor, b: Tensor) -> Tensor:
        products: Tensor = (a[:, None] + b[None] - distances.square()) / 2
        return (products / width + 1) ** 3

    return _unbiased(
        cubic(sets.among_samples, norms[0], norms[0]),
        cubic(sets.among_real, norms[1], norms[1]),
        cubic(sets.across, norms[0], norms[1]),
    )


def mmd(sets: Sets) -> float:
    """MMD^2 with the kernel ``exp(-|x - y|^2 / 2 s^2)``, where s is the median distance of two real points.

    References:
        Gretton et al. 2012, section 8 (the median heuristic; there, of the points of both sets).
    """
    m = len(sets.real)
    # The zeros of the diagonal are the smallest of the m^2 distances, so the others' median is a later one of all.
    scale = sets.among_real.flatten().kthvalue(m + (m * (m - 1) + 1) // 2).values.clamp(min=1e-300)
    kernels = [(-(d / scale).square() / 2).exp() for d in (sets.among_samples, sets.among_real, sets.across)]
    return _unbiased(*kernels)


def energy_distance(sets: Sets) -> float:
    """The energy distance, in units of the features."""
    return -_unbiased(sets.among_samples, sets.among_real, sets.across)


def _unbiased(xx: Float[Tensor, "n n"], yy: Float[Tensor, "m m"], xy: Float[Tensor, "n m"]) -> float:
    """``E k(x, x') + E k(y, y') - 2 E k(x, y)``, without the diagonals."""
    within = sum(float((k.sum() - k.diagonal().sum()) / (len(k) * (len(k) - 1))) for k in (xx, yy))
    return within - 2 * float(xy.mean())
