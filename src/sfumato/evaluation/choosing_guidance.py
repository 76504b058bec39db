"""The guidance whose samples are nearest to held-out data, class by class.

The distance is the energy distance of pairs (features, class), where two classes are as far apart as two real points
are in the median, so that a sample of another class than asked for is far from the real ones of that class. A small
grid of weights and intervals is measured on one half of the held-out data, all settings from the same noise. The best
one is then measured again, from fresh noise against the other half, and is kept if it still beats the model without
guidance by more than chance.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from sfumato.errors import InputError
from sfumato.guidance import Interval

from .quality.kernels import energy_distance
from .quality.sets import Sets

EVERYWHERE = Interval()
MIDDLE = Interval(-3, 3)  # sigma / alpha from 4.5 down to 0.22, for data of deviation about 1
GRID = tuple((weight, interval) for interval in (EVERYWHERE, MIDDLE) for weight in (1.25, 1.5, 2.0, 3.0))
FEWEST = 20  # real points in each half
_SURE = 1.645  # standard errors: chance alone passes in 1 of 20 cases


@dataclass(frozen=True)
class Tried:
    """One setting of guidance.

    Arguments:
        weight: the weight.
        interval: where it acts.
        distance: the energy distance of its samples to the real data; about 0, also below, for equal distributions.
        gain: by how much it is below that without guidance.
        error: the standard error of the gain.
    """

    weight: float
    interval: Interval
    distance: float
    gain: float
    error: float

    @property
    def proven(self) -> bool:
        """Whether the gain is more than chance."""
        return self.gain > _SURE * self.error

    def to_dict(self) -> dict[str, Any]:
        """As guidance.json holds it; an end of the interval that is missing is infinite."""
        ends = {"from": self.interval.low, "until": self.interval.high}
        finite = {name: end for name, end in ends.items() if math.isfinite(end)}
        return {"weight": self.weight, **finite, "distance": self.distance, "gain": self.gain, "error": self.error}


@dataclass(frozen=True)
class GuidanceChoice:
    """What was measured.

    Arguments:
        tried: the grid, on one half of the held-out data.
        best: the best of it.
        checked: the best one again, on the other half.
        kept: whether it is to be used.
    """

    tried: tuple[Tried, ...]
    best: Tried
    checked: Tried

    @property
    def kept(self) -> bool:
        """Whether the best one beats the model without guidance, also on data that it was not chosen on."""
        return self.best.gain > 0 and self.checked.proven


Draw = Callable[[float, Interval, int], Float[Tensor, "n d"]]
"""Features of samples by weight, interval and seed; sample i has the same noise and class under every setting."""


def choose_guidance(
    draw: Draw, classes: Int64[Tensor, "n"], real: Float[Tensor, "m d"], labels: Int64[Tensor, "m"], seed: int = 0
) -> GuidanceChoice:
    """Choose from ``GRID``.

    Arguments:
        draw: draws samples.
        classes: the classes that they are asked to be of.
        real: features of held-out data, in random order.
        labels: their classes.
        seed: of the samples that choose; the next one draws those that check.

    Raises:
        InputError: too little held-out data.
    """
    half = len(real) // 2
    if half < FEWEST:
        raise InputError(
            f"--guidance: {len(real)} held-out samples are too few to choose on and to check with; hold out at least "
            f"{2 * FEWEST} (training.held_out=0.1)"
        )
    scale = float(torch.cdist(real[:500], real[:500]).median())

    def pairs(points: Tensor, of_class: Tensor) -> Tensor:
        total = int(max(classes.max(), labels.max())) + 1
        return torch.cat((points.double(), functional.one_hot(of_class, total) * (scale / 2**0.5)), dim=1)

    def measured(settings: list[tuple[float, Interval]], part: slice, seed: int) -> list[Tried]:
        there = pairs(real[part], labels[part])
        plain = Sets(pairs(draw(1.0, EVERYWHERE, seed), classes), there)
        found = []
        for weight, interval in settings:
            guided = Sets(pairs(draw(weight, interval, seed), classes), there)
            found.append(Tried(weight, interval, energy_distance(guided), *gain(guided, plain, classes)))
        return found

    tried = measured(list(GRID), slice(half), seed)
    best = max(tried, key=lambda each: each.gain)
    (checked,) = measured([(best.weight, best.interval)], slice(half, None), seed + 1)
    return GuidanceChoice(tuple(tried), best, checked)


def gain(guided: Sets, plain: Sets, classes: Int64[Tensor, "n"]) -> tuple[float, float]:
    """By how much ``guided`` has the smaller energy distance, and the standard error of that.

    Sample i of both has the same noise, and the real points are the same, so most of what is random cancels. To first
    order a distance is a mean over samples and one over real points,

        a_i = 2 mean_y |s_i - y| - 2 mean_(j != i) |s_i - s_j|,     b_y = 2 mean_i |s_i - y|,

    and the variance of the gain is that of the differences of a over n plus that of the differences of b over m. The
    ``classes`` of samples are not random, so a varies within a class only.
    """
    (a, b), (a_plain, b_plain) = _influences(guided), _influences(plain)
    a, b = a_plain - a, b_plain - b
    within = a.clone()
    for each in set(classes.tolist()):
        within[classes == each] -= a[classes == each].mean()
    error = (float(within.square().mean()) / len(a) + float(b.var()) / len(b)) ** 0.5
    return energy_distance(plain) - energy_distance(guided), error


def _influences(sets: Sets) -> tuple[Float[Tensor, "n"], Float[Tensor, "m"]]:
    among = sets.among_samples.sum(1) / (len(sets.samples) - 1)
    return 2 * sets.across.mean(1) - 2 * among, 2 * sets.across.mean(0)
