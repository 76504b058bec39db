"""Judge samples of a model: how they differ from real data, and whether they are copies of training data."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.reporting import SILENT, Progress, Reporter, Task, duration

from .extraction import features_of
from .memorisation import Copying, Gap, copying, likelihood_gap, verdict
from .quality import Interval, Measure, Sets, classifier, jackknives, measures_of
from .quality.intervals import GROUPS
from .quality.measures import CLASSIFIER, CLASSIFIER_TITLE
from .rows import Row, table
from .spaces import Space

FEWEST = 20  # samples, and real ones of each kind
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
    """

    name: str
    reference: Shaped[Tensor, "r *s"]
    beside: Shaped[Tensor, "b *s"]
    train: Shaped[Tensor, "t *s"] | None = None
    held_out: Shaped[Tensor, "h *s"] | None = None


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
    """

    name: str
    samples: Shaped[Tensor, "n *s"]
    rows: tuple[Row, ...]
    copies: tuple[Copying, ...]
    gaps: Mapping[str, tuple[Gap, Gap]]
    neighbours: Shaped[Tensor, "k *s"] | None
    closest: Tensor | None
    verdict: str

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
        return "\n".join([f"{len(self.samples)} samples against {self.name}", *table(self.rows), self.verdict])

    def to_dict(self) -> dict[str, Any]:
        """Everything but the samples, as evaluation.json holds it."""
        return {
            "data": self.name,
            "count": len(self.samples),
            "verdict": self.verdict,
            "rows": [row.to_dict() for row in self.rows],
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
) -> Evaluation:
    """Judge samples by real data.

    Arguments:
        samples: samples in data units, in random order.
        real: the real data.
        spec: the data contract.
        spaces: the feature spaces; the first shows the closest pairs.
        reporter: receives a forecast of the time, and progress.

    Raises:
        InputError: too few samples or real points.
    """
    for name, points in (("samples", samples), ("reference", real.reference), ("real data beside", real.beside)):
        if len(points) < FEWEST:
            raise InputError(f"{name}: {len(points)} points say too little; give at least {FEWEST}")
    rows: list[Row] = []
    copies: list[Copying] = []
    gaps: dict[str, tuple[Gap, Gap]] = {}
    for space in spaces:
        ours = features_of(space, samples, reporter, keep=False)
        reference, theirs = (features_of(space, points, reporter) for points in (real.reference, real.beside))
        rows += _compared(space, spec, Sets(ours, reference), Sets(theirs, reference), reporter)
        if real.train is not None and real.held_out is not None and len(real.held_out):
            train, held_out = (features_of(space, points, reporter) for points in (real.train, real.held_out))
            copies.append(copying(ours, held_out, train, space=space.name, confidence=1 - 0.05 / len(spaces)))
            if (pair := _gaps(ours, train, held_out)) is not None:
                gaps[space.name] = pair
    closest = copies[0].closest(SHOWN) if copies else None
    return Evaluation(
        name=real.name,
        samples=samples,
        rows=tuple(rows),
        copies=tuple(copies),
        gaps=gaps,
        neighbours=None if closest is None or real.train is None else real.train[copies[0].nearest[closest]],
        closest=closest,
        verdict=verdict(copies)
        if copies
        else "Whether the model copies is not known: its training data was not given.",
    )


def _compared(space: Space, spec: DataSpec, ours: Sets, theirs: Sets, reporter: Reporter) -> list[Row]:
    """Every measure in one space, of samples and of real data in their place."""
    measures = measures_of(spec, space.raw, space.fid)
    reporter.info(f"comparing in {space.name}: about {duration(_forecast(measures, ours))}")
    with reporter.task(f"comparing in {space.name}") as task:
        functions = [measure.function for measure in measures]
        found = [jackknives(functions, sets, progress=_half(task, i)) for i, sets in enumerate((ours, theirs))]
    rows = [Row(m.name, m.title, space.name, a, b, m.better, m.ideal) for m, a, b in zip(measures, *found, strict=True)]
    if space.raw and spec.layout.name != "image":
        rows.append(Row(CLASSIFIER, CLASSIFIER_TITLE, space.name, classifier(ours), classifier(theirs), "lower", 0.5))
    return rows


def _forecast(measures: Sequence[Measure], sets: Sets) -> float:
    """Seconds for the intervals of the measures, for samples and for real data; one evaluation is timed."""
    started = time.monotonic()
    fresh = Sets(sets.samples, sets.real)
    for measure in measures:
        measure.function(fresh)
    return (time.monotonic() - started) * 2 * (1 + 2 * GROUPS)


def _half(task: Task, half: int) -> Progress:
    return lambda done, total: task.count(half * total + done, 2 * total)


def _gaps(samples: Tensor, train: Tensor, held_out: Tensor) -> tuple[Gap, Gap] | None:
    """The gap of a mixture on samples, and on as many held-out points; the other held-out points are the test."""
    count = min(len(samples), len(held_out) // 2, MIXTURE)
    if count < 2:
        return None
    test = held_out[count:]
    first, second = (
        likelihood_gap(c[:count], train[:MIXTURE_TRAIN], test[:MIXTURE_TRAIN]) for c in (samples, held_out)
    )
    return first, second
