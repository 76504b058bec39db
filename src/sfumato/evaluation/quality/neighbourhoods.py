"""Fidelity and coverage by nearest neighbours: precision and recall, density and coverage, and their clipped forms.

Each point of a set has a ball that reaches to its k-th nearest neighbour in the set. In D features of two sets,
with samples s and real points x,

    precision         share of samples in at least one ball of real points           Kynkaanniemi et al. 2019
    recall            share of real points in at least one ball of samples
    density           mean number of balls of real points around a sample, over k    Naeem et al. 2020
    coverage          share of balls of real points with a sample in them
    clipped density   see there                                                      Salvy, Talbot & Thirion 2026
    clipped coverage

The border belongs to a ball, so that a copy of a point that the data holds more than k times is in its ball.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from .sets import Sets

NEIGHBOURS = 5  # k


def precision(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The share of samples in a ball of real points: how many are realistic."""
    return float(_around_samples(sets, k).any(1).double().mean())


def recall(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The share of real points in a ball of samples: how much of the data is reached. Far samples inflate it."""
    return float((sets.across <= _radii(sets, "among_samples", k)[:, None]).any(0).double().mean())


def density(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The mean number of balls of real points around a sample, over k; 1 for real data, and it may exceed 1."""
    return float(_around_samples(sets, k).sum(1).double().mean()) / k


def coverage(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The share of balls of real points with a sample in them."""
    return float(_around_samples(sets, k).any(0).double().mean())


def clipped_density(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The share of good samples: density with clipped radii and contributions, over what real data scores.

        raw(s) = mean_j min(1, 1/k sum_i [|s_j - x_i| <= min(r_i, median r)])        score = raw(s) / raw(x)

    ``raw(x)`` leaves each point's own ball out. No radius of an outlier, and no sample in a dense place, counts for
    more than one, so that the score falls in proportion to the samples that are replaced by noise.

    The definition is that of Salvy, Talbot & Thirion 2026, who cap the score at 1. Here it is not capped, so that
    real data scores 1 on average, not less.
    """
    radii = _radii(sets, "among_real", k)
    radii = radii.clamp(max=float(radii.median()))
    own = (sets.among_real <= radii).fill_diagonal_(False)
    calibration = _clipped(own, k).mean()
    return float(_clipped(sets.across <= radii, k).mean() / calibration) if calibration > 0 else float("nan")


def clipped_coverage(sets: Sets, k: int = NEIGHBOURS) -> float:
    """The share of good samples that would cover the data as well: coverage with clipped contributions, calibrated.

        raw = mean_i min(1, 1/k sum_j [|s_j - x_i| <= r_i])

    If g of the samples are drawn like the m real points, and all others lie far away, the number in a ball is
    beta-binomial: the ball's mass is the k-th of m - 1 uniform numbers, so

        P(c in the ball) = BetaBinomial(c; g, k, m - k)        E[raw] = 1/k sum_(c<k) P(more than c in the ball).

    The score is the g for which ``E[raw]`` is what was found, over the number of samples. It falls in proportion to the
    samples that are noise, and when modes are missing.

    Clipping and calibration by the expectation for a known share of good samples are from Salvy, Talbot &
    Thirion 2026; the formula of the expectation is derived here. It is not capped at 1: g may be up to twice n.
    """
    n, m = sets.across.shape
    raw = float(_clipped(_around_samples(sets, k).mT, k).mean())
    expected = _expected_coverage(2 * n, m, k)
    above = int(torch.searchsorted(expected, torch.tensor(raw, dtype=torch.float64)))
    if above in (0, 2 * n + 1):
        return min(above, 2 * n) / n
    low, high = float(expected[above - 1]), float(expected[above])
    return (above - 1 + (raw - low) / (high - low)) / n


def _expected_coverage(most: int, real: int, k: int) -> Float[Tensor, "g"]:
    """``E[min(1, c / k)]`` for 0 to ``most`` good samples among balls of ``real`` points."""
    good = torch.arange(most + 1, dtype=torch.float64)[:, None]
    c = torch.arange(k, dtype=torch.float64)
    a, b = float(k), float(real - k)
    log_ways = torch.lgamma(good + 1) - torch.lgamma(c + 1) - torch.lgamma((good - c).clamp(min=0) + 1)
    logs = log_ways + _log_beta(c + a, (good - c).clamp(min=0) + b) - _log_beta(torch.tensor(a), torch.tensor(b))
    probability = torch.where(c <= good, logs.exp(), 0.0)
    return 1 - (probability.cumsum(1).sum(1) / k).clamp(max=1)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)


def _clipped(inside: Bool[Tensor, "points balls"], k: int) -> Float[Tensor, "points"]:
    return (inside.sum(1).double() / k).clamp(max=1)


def _around_samples(sets: Sets, k: int) -> Bool[Tensor, "n m"]:
    """Whether sample j is in the ball of real point i, at [j, i]."""
    return sets.once(f"around samples, {k}", lambda: sets.across <= _radii(sets, "among_real", k))


def _radii(sets: Sets, within: Literal["among_samples", "among_real"], k: int) -> Float[Tensor, "m"]:
    """The distance of each point to its k-th nearest neighbour in its own set, or to its last."""
    distances: Tensor = getattr(sets, within)
    nth = min(k + 1, len(distances))  # the nearest of all is the point itself
    return sets.once(f"radii {within}, {k}", lambda: distances.kthvalue(nth, dim=1).values)
