"""Intervals of measures, by a jackknife over groups of both sets.

    V = (G - 1) / G sum_g (f without group g - their mean)^2,    one such term for the samples and one for the real data

The bootstrap, which draws points twice, would put points at distance 0 from themselves, and adds a second bias to a
Frechet distance. Leaving out a tenth at a time does neither.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sfumato.reporting import Progress

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
    """The measure of two sets, with its interval; see ``jackknives``."""
    return jackknives([measure], sets, groups)[0]


def jackknives(
    measures: Sequence[Callable[[Sets], float]],
    sets: Sets,
    groups: int = GROUPS,
    progress: Progress = lambda done, total: None,
) -> list[Interval]:
    """Several measures of two sets, each with its interval. They share the distances between points.

    Group g is every point whose number is g modulo the number of groups. The degrees of freedom are Welch's
    (Satterthwaite 1946). The error is nan for sets of fewer than four points.

    Arguments:
        measures: smooth functions of the two sets.
        sets: the sets, in random order.
        groups: how many groups each set is divided into, at most.
        progress: called after each evaluation of the measures.

    References:
        Efron & Stein 1981: such a variance is too large on average, not too small.
    """
    used = {name: min(groups, len(getattr(sets, name)) // 2) for name in ("samples", "real")}
    total = 1 + sum(used.values())
    values = [measure(sets) for measure in measures]  # first: the smaller sets take over the distances
    progress(1, total)
    if min(used.values()) < 2:
        return [Interval(value, math.nan) for value in values]
    terms, done = [], 1
    for name, count in used.items():
        left = []
        for g in range(count):
            fewer = sets.without(**{name: torch.arange(g, len(getattr(sets, name)), count)})
            left.append([measure(fewer) for measure in measures])
            done += 1
            progress(done, total)
        terms.append((count - 1) * torch.tensor(left, dtype=torch.float64).var(0, correction=0))
    variance = sum(terms, torch.zeros(len(measures), dtype=torch.float64))
    below = sum((term**2 / (count - 1) for term, count in zip(terms, used.values(), strict=True)), 0 * variance)
    degrees = torch.where(below > 0, variance**2 / below, math.inf)
    return [
        Interval(value, math.sqrt(v) if v >= 0 else math.nan, d)
        for value, v, d in zip(values, variance.tolist(), degrees.tolist(), strict=True)
    ]


def student(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, to 0.5 % from 4 degrees of freedom on.

    References:
        Abramowitz & Stegun 1964, 26.7.5.
    """
    z = 1.959963984540054
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))
