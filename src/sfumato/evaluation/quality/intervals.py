"""Intervals of measures, from random halves and quarters of both sets.

Two halves of the samples, each with a half of the real data, give two independent values of a measure f, so that

    S_2 = E (f(half) - f(other half))^2 / 2

is the variance of f for half as many points, whatever f is. For all points the variance is S_2 / 2 where points act one
by one, as in a mean, and S_2 / 4 where they act in pairs, as in a distance of equal distributions. Quarters tell which:
their variance S_4 is 2 S_2 in the first case and 4 S_2 in the second. With e from 1 at S_4 / S_2 = 3 to 2 at 4, in a
straight line,

    V = S_2 / 2^e.

A jackknife would be too large by a half or more for measures of pairs and of neighbourhoods (Efron & Stein 1981), and a
bootstrap, which draws points twice, would put points at distance 0 from themselves. Variances of disjoint parts are
those of Politis, Romano & Wolf 1999, "Subsampling"; the exponent from two sizes is ours.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float64
from torch import Tensor

from sfumato.data.order import permutation
from sfumato.reporting import Progress

from .sets import Sets

DIVISIONS = 8  # into quarters, each of which makes halves in three ways
DEGREES = 8.0  # of freedom; see benchmarks/evaluation_intervals.py
FEWEST = 8  # points of a set that can be divided
_QUARTERS = (((0,), (1,), (2,), (3,)),)
_HALVES = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
EVALUATIONS = DIVISIONS * (4 + 2 * len(_HALVES))  # of parts


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


def interval(measure: Callable[[Sets], float], sets: Sets) -> Interval:
    """The measure of two sets, with its interval; see ``intervals``."""
    return intervals([measure], sets)[0]


def intervals(
    measures: Sequence[Callable[[Sets], float]],
    sets: Sets,
    progress: Progress = lambda done, total: None,
) -> list[Interval]:
    """Several measures of two sets, each with its interval. They share the distances between points.

    The error is nan for sets of fewer than eight points. The same sets have the same intervals.

    Arguments:
        measures: functions of the two sets.
        sets: the sets.
        progress: called after each evaluation of the measures.
    """
    total, done = 1 + EVALUATIONS, 1
    values = [measure(sets) for measure in measures]  # first: the smaller sets take over the distances
    progress(done, total)
    if min(len(sets.samples), len(sets.real)) < FEWEST:
        return [Interval(value, math.nan) for value in values]
    halves: list[list[list[float]]] = []
    quarters: list[list[list[float]]] = []
    for division in range(DIVISIONS):
        samples, real = (
            permutation(len(points), division, name).tensor_split(4)
            for name, points in (("samples", sets.samples), ("real", sets.real))
        )
        for rows, ways in ((quarters, _QUARTERS), (halves, _HALVES)):
            for way in ways:
                rows.append([])
                for numbers in way:
                    part = sets.only(*(torch.cat([each[i] for i in numbers]) for each in (samples, real)))
                    rows[-1].append([measure(part) for measure in measures])
                    done += 1
                    progress(done, total)
    variances = _variance(*(torch.tensor(each, dtype=torch.float64) for each in (halves, quarters)))
    return [Interval(value, math.sqrt(v), DEGREES) for value, v in zip(values, variances.tolist(), strict=True)]


def _variance(halves: Float64[Tensor, "h 2 k"], quarters: Float64[Tensor, "q 4 k"]) -> Float64[Tensor, "k"]:
    """V of the module's head, by measure."""
    two, four = (parts.var(1).mean(0) for parts in (halves, quarters))
    exponent = 1 + (four / two - 3).clamp(0, 1)
    return torch.where(two > 0, two / 2**exponent, two)


def student(degrees: float) -> float:
    """The 97.5 % quantile of Student's t, to 0.5 % from 4 degrees of freedom on.

    References:
        Abramowitz & Stegun 1964, 26.7.5.
    """
    z = 1.959963984540054
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))
