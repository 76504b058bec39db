"""Samples by class: how many there are of each, and how good each class is on its own.

A measure of all samples does not say which class is missing or blurred. Where samples were asked for by class, these
are their classes, and how often a classifier of real data agrees is reported. Otherwise the classifier says what they
are; it then also says what the real data beside them are, so that its errors are the same on both sides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .quality import Measure, Sets, intervals
from .rows import Row

FEWEST = 20  # samples and real points of a class for measures of it
MOST = 4000  # points that the classifier learns from


@dataclass(frozen=True, eq=False)
class Labels:
    """Classes of real data, and of samples where they were asked for.

    Arguments:
        names: names of the classes.
        reference: classes of the real data that samples are compared with (r,).
        beside: classes of the real data beside them (b,).
        samples: classes that the samples were asked to be of (n,); None where they were not.
    """

    names: tuple[str, ...]
    reference: Int64[Tensor, "r"]
    beside: Int64[Tensor, "b"]
    samples: Int64[Tensor, "n"] | None = None


@dataclass(frozen=True)
class ClassRow:
    """One class.

    Arguments:
        name: its name.
        share: its share of the samples.
        real_share: its share of the real data that samples are compared with.
        rows: measures of the samples of this class against real data of it; none where there are too few of either.
    """

    name: str
    share: float
    real_share: float
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class ByClass:
    """All classes in one space.

    Arguments:
        space: the name of the space.
        asked: whether the samples were asked for by class.
        accuracy: how often the classifier is right on real data that it has not learnt from.
        agreement: how often it sees the class that was asked for; None where none was.
        classes: the classes.
    """

    space: str
    asked: bool
    accuracy: float
    agreement: float | None
    classes: tuple[ClassRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """As evaluation.json holds it."""
        return {
            "space": self.space,
            "asked": self.asked,
            "accuracy": self.accuracy,
            "agreement": self.agreement,
            "classes": [
                {"name": c.name, "share": c.share, "real_share": c.real_share, "rows": [r.to_dict() for r in c.rows]}
                for c in self.classes
            ],
        }

    def lines(self) -> list[str]:
        """The classes as lines of text."""
        how = "as asked for" if self.asked else "as a classifier of real data sees them"
        right = f"right for {self.accuracy:.0%} of real data"
        agrees = "" if self.agreement is None else f"; a classifier agrees with {self.agreement:.0%}"
        width = max(len("class"), *(len(each.name) for each in self.classes))
        titles = next((each.rows for each in self.classes if each.rows), ())
        head = f"    {'class':<{width}}  samples    data" + "".join(f"  {row.title:>26}" for row in titles)
        lines = [f"  by class, {how} in {self.space}{agrees} ({right}):", head]
        for each in self.classes:
            cells = "".join(f"  {_short(row):>26}" for row in each.rows)
            lines.append(f"    {each.name:<{width}}  {each.share:>7.1%} {each.real_share:>7.1%}{cells}".rstrip())
        return lines


def by_class(
    space: str,
    samples: Float[Tensor, "n d"],
    reference: Float[Tensor, "r d"],
    beside: Float[Tensor, "b d"],
    labels: Labels,
    measures: Mapping[str, Measure],
) -> ByClass | None:
    """Measure each class.

    Arguments:
        space: the name of the space.
        samples: features of the samples.
        reference: features of the real data.
        beside: features of the real data beside the samples.
        labels: their classes.
        measures: what is measured of each class, by name.

    Returns:
        None where the real data has fewer than two classes.
    """
    if len(set(labels.reference.tolist())) < 2:
        return None
    seen, expected = _classified(reference, labels.reference, (samples, beside))
    accuracy = float((expected == labels.beside).double().mean())
    ours, theirs = (seen, expected) if labels.samples is None else (labels.samples, labels.beside)
    classes = []
    for number, name in enumerate(labels.names):
        of_class = [c == number for c in (ours, theirs, labels.reference)]
        points = [p[members] for p, members in zip((samples, beside, reference), of_class, strict=True)]
        rows = _measured(space, points, measures) if min(map(len, points)) >= FEWEST else ()
        share, _, real_share = (float(members.double().mean()) for members in of_class)
        classes.append(ClassRow(name, share, real_share, rows))
    agreement = None if labels.samples is None else float((seen == labels.samples).double().mean())
    return ByClass(space, labels.samples is not None, accuracy, agreement, tuple(classes))


def _measured(space: str, points: Sequence[Tensor], measures: Mapping[str, Measure]) -> tuple[Row, ...]:
    """Measures of the first points and of the second ones, both against the third."""
    samples, beside, reference = points
    functions = [each.function for each in measures.values()]
    ours, theirs = (intervals(functions, Sets(each, reference)) for each in (samples, beside))
    return tuple(Row.of(m, space, a, b) for m, a, b in zip(measures.values(), ours, theirs, strict=True))


def _classified(train: Tensor, labels: Tensor, others: Sequence[Tensor]) -> list[Int64[Tensor, "n"]]:
    """The classes that a logistic regression on standardised features sees in other points."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    classifier.fit(train[:MOST].double().numpy(), labels[:MOST].numpy())
    return [torch.as_tensor(classifier.predict(points.double().numpy())) for points in others]


def _short(row: Row) -> str:
    return f"{row.samples.value:.3g} (real {row.real.value:.3g})"
