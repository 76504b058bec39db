"""Judge samples of a model: how they differ from real data, and whether they are copies of training data."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.reporting import SILENT, Progress, Reporter, Task, duration

from .by_class import ByClass, Labels, by_class
from .extraction import features_of
from .judgement import judgement
from .memorisation import Copying, Gap, copying, likelihood_gap, verdict
from .quality import HEAVY, Interval, Measure, Sets, classifier, intervals, largest_share, measures_of
from .quality.intervals import EVALUATIONS
from .quality.measures import CLASSIFIER, CLASSIFIER_TITLE
from .rows import Row, table, table_of_budgets
from .spaces import Space
from .tables import Classes, Judged, fidelity

FEWEST = 20  # samples, and real ones of each kind
_FRECHET = "frechet_infinite"
TELLING = (_FRECHET, "sliced", "clipped_density", "clipped_coverage")
"""Measures of samples by fewer evaluations and, without the first, of single classes."""
SHOWN = 16  # pairs that look most like copies
MIXTURE = 1000  # samples under the mixture of Gaussians, at most
MIXTURE_TRAIN = 5000  # training points that it is fitted to, at most


@dataclass(frozen=True, eq=False)
class RealData:
    """Real data that samples are judged by, in data units and in random order.

    Arguments:
        name: its name.
        reference: what samples are compared with.
        beside: real data of the same kind, none of it in the reference, which is compared as the samples are.
        train: the training data; None where it is not known, and then nothing is said of copies.
        held_out: data of the kind of the training data that the model was not trained on.
        labels: classes of ``reference`` and ``beside``, and those that the samples were asked to be of; None without.
    """

    name: str
    reference: Shaped[Tensor, "r *s"]
    beside: Shaped[Tensor, "b *s"]
    train: Shaped[Tensor, "t *s"] | None = None
    held_out: Shaped[Tensor, "h *s"] | None = None
    labels: Labels | None = None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The judgement of a model's samples.

    Arguments:
        name: name of the real data.
        samples: the samples (n, *shape), in data units.
        rows: every measure in every space.
        copies: how near the samples are to training data, by space; empty where that is not known.
        gaps: by space, the train-against-test gap of a mixture on the samples, and on real points.
        neighbours: for the samples ``closest``, their nearest training samples, in data units.
        closest: numbers of the samples that look most like copies, in the first space.
        verdict: whether the model copies, in one sentence.
        classes: the samples by class, in the last space; None for data without classes.
        budgets: for numbers of evaluations per sample, the most telling measures in every space.
        judgement: how good the samples are, in one sentence.
        tails: by space, the largest share of one point in the sum of fourth powers (``quality.largest_share``).
        as_table: the samples as rows of a table; None for other data, or without held-out rows.
    """

    name: str
    samples: Shaped[Tensor, "n *s"]
    rows: tuple[Row, ...]
    copies: tuple[Copying, ...]
    gaps: Mapping[str, tuple[Gap, Gap]]
    neighbours: Shaped[Tensor, "k *s"] | None
    closest: Tensor | None
    verdict: str
    classes: ByClass | None = None
    budgets: Mapping[int, tuple[Row, ...]] = field(default_factory=dict)
    judgement: str = ""
    tails: Mapping[str, float] = field(default_factory=dict)
    as_table: Judged | None = None

    @property
    def warnings(self) -> list[str]:
        """Sentences about intervals that cannot be trusted."""
        return [
            f"In {space} one point makes {share:.0%} of the sum of fourth powers: tails are heavy, and intervals of "
            "distances and moments are too narrow there; those of Clipped Density and Coverage are not."
            for space, share in self.tails.items()
            if share > HEAVY
        ]

    def value(self, name: str, space: str | None = None) -> Interval:
        """A measure of the samples by its name and that of the space; by default the first space that has it.

        Raises:
            KeyError: nothing of that name was measured.
        """
        for row in self.rows:
            if row.name == name and space in (None, row.space):
                return row.samples
        raise KeyError(name if space is None else f"{name} in {space}")

    def __str__(self) -> str:
        parts = [f"{len(self.samples)} samples against {self.name}", *table(self.rows)]
        parts += [] if self.as_table is None else self.as_table.lines()
        parts += table_of_budgets(self.budgets)
        parts += [] if self.classes is None else self.classes.lines()
        return "\n".join([*parts, *self.warnings, self.judgement, self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples, as evaluation.json holds it."""
        return {
            "data": self.name,
            "count": len(self.samples),
            "judgement": self.judgement,
            "verdict": self.verdict,
            "warnings": self.warnings,
            "rows": [row.to_dict() for row in self.rows],
            "as_table": None if self.as_table is None else self.as_table.to_dict(),
            "classes": None if self.classes is None else self.classes.to_dict(),
            "budgets": [
                {"evaluations": evaluations, "rows": [row.to_dict() for row in rows]}
                for evaluations, rows in self.budgets.items()
            ],
            "memorisation": [
                {
                    "space": each.space,
                    **{name: getattr(each, name) for name in ("share", "low", "high", "confidence", "nearer", "far")},
                    **{name: getattr(each, name) for name in ("covered", "copies", "held_out_copies")},
                    "median_distance": float(each.distances.median()),
                    "held_out_median_distance": float(each.held_out_distances.median()),
                    "likelihood_gap": asdict(self.gaps[each.space][0]) if each.space in self.gaps else None,
                    "real_likelihood_gap": asdict(self.gaps[each.space][1]) if each.space in self.gaps else None,
                }
                for each in self.copies
            ],
        }


def evaluate(
    samples: Shaped[Tensor, "n *s"],
    real: RealData,
    spec: DataSpec,
    spaces: Sequence[Space],
    reporter: Reporter = SILENT,
    budgets: Mapping[int, Shaped[Tensor, "n *s"]] | None = None,
) -> Evaluation:
    """Judge samples by real data.

    Arguments:
        samples: samples in data units, in random order.
        real: the real data.
        spec: the data contract.
        spaces: the feature spaces; the first shows the closest pairs.
        reporter: receives a forecast of the time, and progress.
        budgets: more samples, by the number of evaluations that each took.

    Raises:
        InputError: too few samples or real points.
    """
    for name, points in (("samples", samples), ("reference", real.reference), ("real data beside", real.beside)):
        if len(points) < FEWEST:
            raise InputError(f"{name}: {len(points)} points say too little; give at least {FEWEST}")
    budgets = budgets or {}
    found = [_in_space(space, samples, real, spec, budgets, reporter) for space in spaces]
    copies = [each.copying(1 - 0.05 / len(spaces)) for each in found if each.train is not None]
    closest = copies[0].closest(SHOWN) if copies else None
    rows = tuple(row for each in found for row in each.rows)
    return Evaluation(
        name=real.name,
        samples=samples,
        rows=rows,
        copies=tuple(copies),
        gaps={each.space.name: gaps for each in found if (gaps := each.gaps()) is not None},
        neighbours=None if closest is None or real.train is None else real.train[copies[0].nearest[closest]],
        closest=closest,
        verdict=verdict(copies)
        if copies
        else "Whether the model copies is not known: its training data was not given.",
        classes=found[-1].classes(real.labels),
        budgets={number: tuple(row for each in found for row in each.budgets[number]) for number in budgets},
        judgement=judgement(rows, copies),
        tails={each.space.name: largest_share(Sets(each.samples, each.reference)) for each in found},
        as_table=_as_table(samples, real, spec),
    )


def _as_table(samples: Tensor, real: RealData, spec: DataSpec) -> Judged | None:
    """The samples as rows of a table, beside training rows, both judged by held-out ones."""
    if not spec.channels or spec.layout.name != "vector" or real.train is None or real.held_out is None:
        return None
    held_out = real.held_out[: len(real.reference)]
    if len(held_out) < FEWEST:
        return None
    labels, classes = real.labels, None
    if labels is not None and labels.samples is not None and len(labels.samples) == len(samples):
        classes = Classes(labels.samples.cpu(), labels.reference, labels.beside[: len(held_out)])
    return fidelity(spec, samples, real.reference, held_out, classes=classes)


@dataclass(frozen=True, eq=False)
class _InSpace:
    """Features of everything in one space, and what was measured in it."""

    space: Space
    samples: Tensor
    reference: Tensor
    beside: Tensor
    train: Tensor | None
    held_out: Tensor | None
    rows: Sequence[Row]
    budgets: Mapping[int, Sequence[Row]]
    telling: Mapping[str, Measure]

    def copying(self, confidence: float) -> Copying:
        """How near the samples are to training data."""
        assert self.train is not None
        assert self.held_out is not None
        return copying(self.samples, self.held_out, self.train, space=self.space.name, confidence=confidence)

    def gaps(self) -> tuple[Gap, Gap] | None:
        """The gap of a mixture on samples, and on as many held-out points; the other held-out points are the test."""
        if self.train is None or self.held_out is None:
            return None
        count = min(len(self.samples), len(self.held_out) // 2, MIXTURE)
        if count < 2:
            return None
        test = self.held_out[count:]
        first, second = (
            likelihood_gap(c[:count], self.train[:MIXTURE_TRAIN], test[:MIXTURE_TRAIN])
            for c in (self.samples, self.held_out)
        )
        return first, second

    def classes(self, labels: Labels | None) -> ByClass | None:
        """The samples by class."""
        if labels is None:
            return None
        measures = {name: m for name, m in self.telling.items() if name != _FRECHET}
        return by_class(self.space.name, self.samples, self.reference, self.beside, labels, measures)


def _in_space(
    space: Space,
    samples: Tensor,
    real: RealData,
    spec: DataSpec,
    budgets: Mapping[int, Tensor],
    reporter: Reporter,
) -> _InSpace:
    ours = features_of(space, samples, reporter, keep=False)
    reference, theirs = (features_of(space, points, reporter) for points in (real.reference, real.beside))
    rows = _compared(space, spec, Sets(ours, reference), Sets(theirs, reference), reporter)
    telling = {m.name: m for m in measures_of(spec, space.raw, space.fid) if m.name in TELLING}
    beside = {row.name: row.real for row in rows}
    cheaper = {}
    for number, others in budgets.items():
        sets = Sets(features_of(space, others, reporter, keep=False), reference)
        measured = intervals([m.function for m in telling.values()], sets)
        cheaper[number] = [
            Row.of(m, space.name, each, beside[m.name]) for m, each in zip(telling.values(), measured, strict=True)
        ]
    train = held_out = None
    if real.train is not None and real.held_out is not None and len(real.held_out):
        train, held_out = (features_of(space, points, reporter) for points in (real.train, real.held_out))
    return _InSpace(space, ours, reference, theirs, train, held_out, rows, cheaper, telling)


def _compared(space: Space, spec: DataSpec, ours: Sets, theirs: Sets, reporter: Reporter) -> list[Row]:
    """Every measure in one space, of samples and of real data in their place."""
    measures = measures_of(spec, space.raw, space.fid)
    reporter.info(f"comparing in {space.name}: about {duration(_forecast(measures, ours))}")
    with reporter.task(f"comparing in {space.name}") as task:
        functions = [measure.function for measure in measures]
        found = [intervals(functions, sets, progress=_half(task, i)) for i, sets in enumerate((ours, theirs))]
    rows = [Row.of(m, space.name, a, b) for m, a, b in zip(measures, *found, strict=True)]
    if space.raw and spec.layout.name != "image":
        rows.append(Row(CLASSIFIER, CLASSIFIER_TITLE, space.name, classifier(ours), classifier(theirs), "lower", 0.5))
    return rows


def _forecast(measures: Sequence[Measure], sets: Sets) -> float:
    """Seconds for the intervals of the measures, for samples and for real data; one evaluation is timed."""
    started = time.monotonic()
    fresh = Sets(sets.samples, sets.real)
    for measure in measures:
        measure.function(fresh)
    # Parts are a half or a quarter of the sets, and most measures take the square of the time.
    return (time.monotonic() - started) * 2 * (1 + EVALUATIONS / 5)


def _half(task: Task, half: int) -> Progress:
    return lambda done, total: task.count(half * total + done, 2 * total)
