"""The rows of an evaluation: a measure of samples in one space, beside that of real data in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .quality import Interval, Measure


@dataclass(frozen=True)
class Row:
    """One measure in one space, for samples and for real data in their place.

    Arguments:
        name: name of the measure.
        title: its name for people.
        space: name of the feature space.
        samples: the measure of the samples.
        real: the same of as many real points.
        better: which values are better.
        ideal: expectation for perfect samples, if it does not depend on their number.
    """

    name: str
    title: str
    space: str
    samples: Interval
    real: Interval
    better: Literal["lower", "higher"]
    ideal: float | None

    @classmethod
    def of(cls, measure: Measure, space: str, samples: Interval, real: Interval) -> "Row":
        """The row of a measure in a space."""
        return cls(measure.name, measure.title, space, samples, real, measure.better, measure.ideal)

    def to_dict(self) -> dict[str, Any]:
        """The row as evaluation.json holds it."""
        return {
            "name": self.name,
            "title": self.title,
            "space": self.space,
            "value": self.samples.value,
            "low": self.samples.low,
            "high": self.samples.high,
            "real_value": self.real.value,
            "real_low": self.real.low,
            "real_high": self.real.high,
            "better": self.better,
            "ideal": self.ideal,
        }


def table(rows: Sequence[Row]) -> list[str]:
    """The measures as lines of text, by space."""
    lines = []
    for space in dict.fromkeys(row.space for row in rows):
        lines.append(f"  in {space + ':':<34}{'samples':<33}real data")
        for row in rows:
            if row.space == space:
                lines.append(f"    {row.title:<35}{_figure(row.samples):<33}{_figure(row.real)}")
    return lines


def table_of_budgets(budgets: Mapping[int, Sequence[Row]]) -> list[str]:
    """The measures of samples by several numbers of evaluations as lines of text, by space."""
    rows = [row for each in budgets.values() for row in each]
    lines = []
    for space in dict.fromkeys(row.space for row in rows):
        head = "".join(f"{number:<12}" for number in budgets)
        lines.append(f"  by evaluations, in {space + ':':<20}{head}real data")
        for title in dict.fromkeys(row.title for row in rows if row.space == space):
            found = [row for row in rows if (row.space, row.title) == (space, title)]
            cells = "".join(f"{row.samples.value:<12.4g}" for row in found)
            lines.append(f"    {title:<35}{cells}{found[0].real.value:.4g}")
    return lines


def _figure(found: Interval) -> str:
    low, high = (f"{end:.3g}" for end in (found.low, found.high))
    return f"{found.value:.4g} ({low} to {high})"
