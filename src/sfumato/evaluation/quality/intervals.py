"""Intervals of measures, by a jackknife over groups of both sets.

    V = (G - 1) / G sum_g (f without group g - their mean)^2,    one such term for the samples and one for the real data

The bootstrap, which draws points twice, would put points at distance 0 from themselves, and adds a second bias to a
Frechet distance. Leaving out a tenth at a time does neither.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .sets import Sets

GROUPS = 10


@dataclass(frozen=True)
class Interval:
    """A number with its interval of 95 %.

    The interval is for the expectation of the number at these sizes, over new samples and new real data.

    Arguments:
        value: the number.
        error: its standard error; nan where it is not known.
        degrees: degrees of freedom of the error.
    """

    value: float
    error: float
    degrees: float = math.inf

    @property
    def low(self) -> float:
        """The lower end."""
        return self.value - student(self.degrees) * self.error

    @property
    def high(self) -> float:
        """The upper end."""
        return self.value + student(self.degrees) * self.error


def jackknife(measure: Callable[[Sets], float], sets: Sets, groups: int = GROUPS) -> Interval:
    """The measure of two sets, with its interval.

    Group g is every point whose number is g modulo the number of groups. The degrees of freedom are Welch's
    (Satterthwaite 1946). The error is nan for sets of fewer than four points.

    Arguments:
        measure: a smooth function of the two sets.
        sets: the sets, in random order.
        groups: how many groups each set is divided into, at most.

    References:
        Efron & Stein 1981: such a variance is too large on average, not too small.
    """
    value = measure(sets)  # first: it computes the distances that the smaller sets take over
    terms, degrees = [], []
    for name in ("samples", "real"):
        count = len(getattr(sets, name))
        used = min(groups, count // 2)
        if used < 2:
            return Interval(value, math.nan)
        left = [measure(sets.without(**{name: torch.arange(g, count, used)})) for g in range(used)]
        terms.append((used - 1) * float(torch.tensor(left, dtype=torch.float64).var(correction=0)))
        degrees.append(used - 1)
    total = sum(terms)
    below = sum(term**2 / degree for term, degree in zip(terms, degrees, strict=True))
    return Interval(value, math.sqrt(total), total**2 / below if below > 0 else math.inf)


def student(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, to 0.5 % from 4 degrees of freedom on.

    References:
        Abramowitz & Stegun 1964, 26.7.5.
    """
    z = 1.959963984540054
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))
