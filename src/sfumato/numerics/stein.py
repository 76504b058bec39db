r"""Whether draws are of a law whose score is known: a kernel Stein discrepancy, and its test.

With the score ``s = grad log p``, ``f -> s_d f + df/dx_d`` has mean zero under p for every smooth f and each number d
of a sample (Stein's identity). Applied to both arguments of a kernel ``k(x_d, y_d)``, and summed over d,

    h(x, y) = sum_d [ s_d(x) s_d(y) k + s_d(x) dk/dy_d + s_d(y) dk/dx_d + d^2 k / dx_d dy_d ],

so ``E h(x, y) = 0`` for x ~ p and every y. For independent draws of another law, E h(x, y) is positive: the squared
discrepancy (Liu, Lee & Jordan 2016; Chwialkowski, Strathmann & Gretton 2016). The constant of p is not needed. k is the
inverse multiquadric ``(1 + (x_d - y_d)^2 / c^2)^(-1/2)``, which sees tails (Gorham & Mackey 2017), with c the median
distance. It is of single numbers, and s of the whole sample, as for slices along the axes (Gong, Li & Hernandez-Lobato
2021): of |x - y| in many dimensions k is nearly constant, and then sees a wrong mean alone.

Weights of modes far apart hardly change the score, so the discrepancy hardly sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_AT_ONCE = 512  # numbers of a sample
_REPEATS = 999  # of the bootstrap


@dataclass(frozen=True)
class Discrepancy:
    """How far draws are from a law.

    Arguments:
        ratio: the sum of h over all pairs of draws, over that of draws with themselves: 1 on average for independent
            draws of the law, and more for others.
        scatter: the standard deviation of the ratio for independent draws of the law.
        p_value: the probability of such a ratio or a larger one for them.
    """

    ratio: float
    scatter: float
    p_value: float


def stein_kernel(x: Float[Tensor, "n d"], score: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """h of all pairs of draws, float64.

    Arguments:
        x: draws, at least 2.
        score: ``grad log p`` at them.
    """
    x, score = x.double(), score.double()
    n, d = x.shape
    pairs = ~torch.eye(n, dtype=torch.bool)
    some = x[:, :: -(-d // _AT_ONCE)]
    c = (some[:, None] - some).abs()[pairs].median()
    total = torch.zeros(n, n, dtype=torch.float64)
    for part, s in zip(torch.split(x / c, _AT_ONCE, 1), torch.split(score * c, _AT_ONCE, 1), strict=True):
        apart = part[:, None] - part
        root = (1 + apart.square()).rsqrt()
        slope = (s[:, None] - s) * apart
        bend = 1 - 3 * apart.square() * root.square()
        total += (s[:, None] * s * root + (slope + bend) * root**3).sum(2)
    return total / c**2


def wild_bootstrap(kernels: Sequence[Tensor], generator: torch.Generator) -> Discrepancy:
    """Test sets of independent draws, each with a law of its own, as one.

    Signs at random, one per draw, change the sum of h as chance does for draws of the law (Chwialkowski et al. 2016).
    Each set counts by its size, relative to what its draws have with themselves.

    Arguments:
        kernels: ``stein_kernel`` of each set.
        generator: of the signs.
    """
    sums = torch.zeros(_REPEATS + 1, dtype=torch.float64)
    for h in kernels:
        signs = 2.0 * torch.randint(0, 2, (_REPEATS + 1, len(h)), generator=generator).double() - 1
        signs[0] = 1
        sums += ((signs @ h) * signs).sum(1) / h.trace()
    ratios = sums / len(kernels)
    p_value = float((ratios >= ratios[0]).sum()) / (_REPEATS + 1)
    return Discrepancy(float(ratios[0]), float(ratios[1:].std()), p_value)
