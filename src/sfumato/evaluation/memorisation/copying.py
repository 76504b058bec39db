"""Does a model copy its training data? Its samples are compared with held-out data, which cannot be copies.

A copy is much nearer to one training point than to the next ones. Each sample has the ratio of the distance to its
nearest training point to that of its fifth,

    q = d_1 / d_5,

which is small for a copy, and which blur, noise and a model that is generally too near or too far change little. With
j the hundredth part of the n held-out points (at least 1), and c their j-th smallest ratio, a sample that is no copy
has a ratio below c with a probability of a = j / (n + 1). If all copies do, the share of copies is

    share = (p - a) / (1 - a),        p = share of samples with q < c.

The interval puts those of p and a together as Newcombe does for a difference. A ratio like q, with fixed limits, is
used by Yoon et al. 2023 ("Diffusion probabilistic models generalize when they fail to memorize"); the calibration by
held-out data is ours.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.errors import InputError

from ..quality.neighbourhoods import coverage
from ..quality.sets import Sets
from .nearest import several_nearest

NEXT = 5  # the neighbour that the nearest is compared with
TAIL = 0.01  # of held-out data, whose ratios are those of copies
FAR = 0.99  # quantile of held-out distances beyond which a sample is no sample yet
UNCOVERED = 0.25  # coverage of held-out data below which samples are not samples of it; real data has 0.97
CERTAIN = 0.1  # a share of copies that is believed of what are no samples otherwise: their ratios are their own
_MOST_COVERED = 1000  # points on each side for the coverage


@dataclass(frozen=True, eq=False)
class Copying:
    """How near samples are to training data, and held-out data for comparison, in one feature space.

    Arguments:
        space: the name of the space.
        share: estimated share of copies among the samples; may be below 0 by chance.
        low: lower end of its interval.
        high: upper end of its interval.
        confidence: of the interval.
        nearer: share of samples that are nearer to a training point than every held-out point is.
        far: share of samples that are farther from all training points than 99 % of held-out data.
        covered: coverage of held-out data by as many samples; nan where there are fewer than ten.
        copies: number of samples at distance 0 from a training point.
        held_out_copies: the same number for held-out data: duplicates in the data.
        distances: distance (n,) of each sample to its nearest training point.
        held_out_distances: the same for held-out data (m,).
        ratios: d_1 / d_5 (n,) of the samples.
        nearest: numbers (n,) of the nearest training points.
    """

    space: str
    share: float
    low: float
    high: float
    confidence: float
    nearer: float
    far: float
    covered: float
    copies: int
    held_out_copies: int
    distances: Float[Tensor, "n"]
    held_out_distances: Float[Tensor, "m"]
    ratios: Float[Tensor, "n"]
    nearest: Int64[Tensor, "n"]

    @property
    def found(self) -> bool:
        """Whether the interval of the share lies above 0."""
        return self.low > 0

    def closest(self, count: int) -> Int64[Tensor, "k"]:
        """The numbers of the samples that look most like copies, first the smallest ratios, of those the nearest."""
        order = self.distances.argsort(stable=True)
        return order[self.ratios[order].argsort(stable=True)][:count]


def copying(
    samples: Float[Tensor, "n *s"],
    held_out: Float[Tensor, "m *s"],
    train: Float[Tensor, "k *s"],
    *,
    space: str = "pixels",
    confidence: float = 0.95,
) -> Copying:
    """Compare the distances of samples and of held-out data to training data.

    Arguments:
        samples: samples of the model.
        held_out: data of the same kind that the model was not trained on.
        train: all of the training data.
        space: the name of the feature space.
        confidence: of the interval of the share.

    Raises:
        InputError: no samples, no held-out data, or fewer than two training points.
    """
    for name, points, least in (("samples", samples, 1), ("held-out data", held_out, 1), ("training data", train, 2)):
        if len(points) < least:
            raise InputError(f"{name}: {len(points)} points are too few to look for copies; give at least {least}")
    references = train.flatten(1)
    (ours, numbers), (theirs, _) = (
        several_nearest(points.flatten(1).to(references), references, NEXT) for points in (samples, held_out)
    )
    ratios, others = _ratios(ours), _ratios(theirs)
    tail = max(1, math.floor(TAIL * len(held_out)))
    limit = others.sort().values[tail - 1]
    below = int((ratios < limit).sum()) if limit > 0 else int((ratios == 0).sum())
    chance = tail if limit > 0 else int((others == 0).sum())  # more duplicates in the data than the tail has points
    share, low, high = _share(below, len(samples), chance, len(held_out) + 1, confidence)
    distances, held_out_distances = ours[:, 0], theirs[:, 0]
    return Copying(
        space=space,
        share=share,
        low=low,
        high=high,
        confidence=confidence,
        nearer=float((distances < held_out_distances.min()).double().mean()),
        far=float((distances > held_out_distances.quantile(FAR)).double().mean()),
        covered=_covered(samples, held_out),
        copies=int((distances == 0).sum()),
        held_out_copies=int((held_out_distances == 0).sum()),
        distances=distances,
        held_out_distances=held_out_distances,
        ratios=ratios,
        nearest=numbers[:, 0],
    )


def verdict(found: Sequence[Copying]) -> str:
    """One sentence: whether the samples are copies, with its uncertainty.

    Samples that are not samples yet are never cleared: where, in some space, most lie farther from the training data
    than 99 % of held-out data does, or where they cover less than a quarter of held-out data.

    Arguments:
        found: the measurements in each feature space; the confidence of each should allow for their number.
    """
    worst, why = max(found, key=lambda each: each.low), unfit(found)
    if worst.low > (0 if why is None else CERTAIN):
        exact = f", {worst.copies} of them exactly" if worst.copies > worst.held_out_copies else ""
        return (
            f"The model copies: about {_percent(worst.share)} of the samples ({_percent(worst.low)} to "
            f"{_percent(worst.high)}) are copies of training samples, or nearly{exact} (in {worst.space})."
        )
    if why is not None:
        return f"These are not yet samples: {why}, so whether the model copies cannot be said."
    widest = max(found, key=lambda each: each.high)
    return (
        f"No sign of copying: samples are no nearer to single training samples than held-out data is; at most "
        f"{_percent(max(widest.high, 0))} of them can be copies (in {widest.space})."
    )


def unfit(found: Sequence[Copying]) -> str | None:
    """Why these are not samples yet, in words: most lie far from all data, or they leave most of it out; else None."""
    farthest = max(found, key=lambda each: each.far)
    barest = min(found, key=lambda each: 1.0 if math.isnan(each.covered) else each.covered)
    if farthest.far > 0.5:
        return (
            f"{_percent(farthest.far)} of them lie farther from the training data than 99 % of held-out data does "
            f"(in {farthest.space})"
        )
    if barest.covered < UNCOVERED:
        return (
            f"they cover {_percent(barest.covered)} of held-out data, of which real data covers about 97 % "
            f"(in {barest.space})"
        )
    return None


def _covered(samples: Tensor, held_out: Tensor) -> float:
    count = min(len(samples), len(held_out), _MOST_COVERED)
    return coverage(Sets(samples[:count], held_out[:count])) if count >= 10 else math.nan


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _ratios(distances: Float[Tensor, "n k"]) -> Float[Tensor, "n"]:
    """d_1 / d_5; 0 for a copy, also of a point that the data holds five times."""
    nearest, later = distances[:, 0], distances[:, -1]
    return torch.where(nearest > 0, nearest / later.clamp(min=torch.finfo(later.dtype).tiny), 0.0)


def _share(below: int, count: int, tail: int, of: int, confidence: float) -> tuple[float, float, float]:
    """The share of copies and the ends of its interval.

    References:
        Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p, a = below / count, tail / of
    (p_low, p_high), (a_low, a_high) = _wilson(below, count, z), _wilson(tail, of, z)
    low = p - a - math.hypot(p - p_low, a_high - a)
    high = p - a + math.hypot(p_high - p, a - a_low)
    return (p - a) / (1 - a), low / (1 - a), min(high / (1 - a), 1.0)


def _wilson(hits: int, of: int, z: float) -> tuple[float, float]:
    """The interval of Wilson 1927 for a share."""
    p, width = hits / of, z**2 / of
    centre, reach = p + width / 2, z * math.sqrt(p * (1 - p) / of + width / (4 * of))
    return max((centre - reach) / (1 + width), 0.0), min((centre + reach) / (1 + width), 1.0)
