"""How like a table the samples of a model are, column by column and pair by pair, and whether they are its rows.

All measures take rows in data units, with NaN where a value is missing. None of them means much alone: ``fidelity``
gives each beside real rows that were judged in the same way and number.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.data.transforms import Columns

from .quality.intervals import Interval
from .quality.sets import Sets
from .quality.two_samples import classifier

BINS = 10  # of a column of numbers beside a category
_AT_ONCE = 2**24  # distances
_SHARES = torch.linspace(0.02, 0.98, 49, dtype=torch.float64)

Codes = npt.NDArray[np.int64]


class Fidelity(NamedTuple):
    """How like real rows some rows are. 1 is best, but half for ``told_apart`` and ``nearest``.

    Arguments:
        shape: the mean over columns of 1 - KS, or of 1 - TV for categories; a gap counts as a value of its own.
        trend: the mean over pairs of columns of 1 - |difference of the correlations| / 2, or of 1 - TV between the
            tables of both columns' values, numbers by deciles of the real rows, where one is a category.
        told_apart: the area under the ROC curve of a classifier that tells them from real rows.
        nearest: the share of rows that are nearer to training rows than to as many held-out rows. More than half says
            that training rows are known by heart, to some degree.
        alpha_precision: 1 - 2 mean |P_a - a| over shares a, with the share P_a of the rows within the ball around the
            mean of real rows that holds the share a of these.
        beta_recall: the same of R_b, the share of real rows that have one of the rows as near as another real row, and
            that one within the ball of the share b around the mean of the rows.
        learned: macro-F1 on held-out rows of a random forest that was trained on the rows; nan without classes.

    References:
        Alaa, van Breugel, Saveliev & van der Schaar 2022, "How faithful is your synthetic data?"
    """

    shape: float
    trend: float
    told_apart: Interval
    nearest: float
    alpha_precision: float
    beta_recall: float
    learned: float = math.nan


_TITLES = {
    "shape": "shape of columns",
    "trend": "trend of pairs",
    "told_apart": "told from held-out rows (0.5)",
    "nearest": "nearer to training rows (0.5)",
    "alpha_precision": "alpha-precision",
    "beta_recall": "beta-recall",
    "learned": "macro-F1 of a forest from them",
}


class Classes(NamedTuple):
    """The classes of rows, by number, -1 where unknown.

    Arguments:
        samples: that they were asked to be of.
        train: of training rows.
        held_out: of held-out rows.
    """

    samples: Int64[Tensor, "n"]
    train: Int64[Tensor, "t"]
    held_out: Int64[Tensor, "h"]


@dataclass(frozen=True)
class Judged:
    """Samples beside real rows.

    Arguments:
        samples: of the model, against held-out rows.
        real: of as many training rows, against held-out rows; ``nearest`` is then that of copies.
    """

    samples: Fidelity
    real: Fidelity

    def to_dict(self) -> Mapping[str, Mapping[str, float | None]]:
        """As plain JSON values."""
        return {
            name: {
                "shape": found.shape,
                "trend": found.trend,
                "told_apart": found.told_apart.value,
                "told_apart_error": found.told_apart.error,
                "nearest": found.nearest,
                "alpha_precision": found.alpha_precision,
                "beta_recall": found.beta_recall,
                "learned": None if math.isnan(found.learned) else found.learned,
            }
            for name, found in (("samples", self.samples), ("real", self.real))
        }

    def lines(self) -> list[str]:
        """The measures as lines of text, each beside that of real rows."""
        found = []
        for name, title in _TITLES.items():
            ours, theirs = (getattr(each, name) for each in (self.samples, self.real))
            if isinstance(ours, Interval):
                ours, theirs = ours.value, theirs.value
            if not math.isnan(ours):
                found.append(f"    {title:<34}{ours:<33.3f}{theirs:.3f}")
        return [f"  {'as a table:':<36}{'samples':<33}training rows", *found]


def fidelity(
    spec: DataSpec,
    samples: Float[Tensor, "n d"],
    train: Float[Tensor, "t d"],
    held_out: Float[Tensor, "h d"],
    seed: int = 0,
    classes: Classes | None = None,
) -> Judged:
    """Judge samples of a table by held-out rows, which no part of the model has seen.

    Arguments:
        spec: the contract of the table.
        samples: of the model.
        train: the rows that the model was trained on.
        held_out: other rows of the table.
        seed: which training rows stand beside, and the classifier's.
        classes: of all of them, to see what a learner makes of the samples; None for rows without.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(rows: Tensor, count: int) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:count]]

    def judged(rows: Tensor, labels: Tensor | None) -> Fidelity:
        sets = Sets(spec.encode(rows).double(), spec.encode(held_out).double())
        known = None if labels is None or classes is None else (labels, classes.held_out)
        return Fidelity(
            shape(spec, rows, held_out),
            trend(spec, rows, held_out),
            classifier(sets, seed),
            nearest_share(spec, rows, some(train, len(held_out)), some(held_out, len(train))),
            alpha_precision(sets),
            beta_recall(sets),
            math.nan if known is None else learned(sets, *known, seed),
        )

    beside = some(torch.arange(len(train)), len(samples))
    of_samples, of_train = (None, None) if classes is None else (classes.samples, classes.train[beside])
    return Judged(judged(samples, of_samples), judged(train[beside], of_train))


def shape(spec: DataSpec, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """The mean over columns of 1 - KS, or 1 - TV where the column is a category (``Fidelity.shape``)."""
    categories = _categories(spec)
    found = []
    for j, (x, y) in enumerate(zip(_columns(a), _columns(b), strict=True)):
        found.append(1 - (_total_variation(_codes(x), _codes(y)) if j in categories else _kolmogorov_smirnov(x, y)))
    return float(np.mean(found))


def trend(spec: DataSpec, a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """The mean over pairs of columns of the similarity of their relation (``Fidelity.trend``); nan for one column."""
    categories, found = _categories(spec), []
    columns = list(zip(_columns(a), _columns(b), strict=True))
    coded = [
        (_codes(x), _codes(y)) if j in categories else (_binned(x, y), _binned(y, y))
        for j, (x, y) in enumerate(columns)
    ]
    for i in range(len(columns)):
        for j in range(i + 1, len(columns)):
            if i in categories or j in categories:
                (x, x_real), (y, y_real) = coded[i], coded[j]
                most = 1 + max(int(y.max()), int(y_real.max()))
                found.append(1 - _total_variation(x * most + y, x_real * most + y_real))
            else:
                ours, theirs = (_correlation(columns[i][k], columns[j][k]) for k in (0, 1))
                found.append(1 - abs(ours - theirs) / 2)
    return float(np.mean(found)) if found else float("nan")


def nearest_share(
    spec: DataSpec, rows: Float[Tensor, "n d"], train: Float[Tensor, "t d"], held_out: Float[Tensor, "h d"]
) -> float:
    """The share of ``rows`` that are nearer to ``train`` than to ``held_out``, in model units; ties count half.

    Of both as many rows are used as the smaller has.
    """
    count = min(len(train), len(held_out))
    x, near, far = (spec.encode(each).double() for each in (rows, train[:count], held_out[:count]))
    found = []
    for part in torch.split(x, max(_AT_ONCE // max(count, 1), 1)):
        a, b = torch.cdist(part, near).amin(1), torch.cdist(part, far).amin(1)
        found.append((a < b).double() + 0.5 * (a == b).double())
    return float(torch.cat(found).mean())


def alpha_precision(sets: Sets) -> float:
    """How evenly samples lie in the balls around the mean of real rows (``Fidelity.alpha_precision``)."""
    centre = sets.real.mean(0)
    ours, theirs = ((each - centre).norm(dim=1) for each in (sets.samples, sets.real))
    within = (ours[:, None] <= torch.quantile(theirs, _SHARES)).double().mean(0)
    return _even(within)


def beta_recall(sets: Sets) -> float:
    """How evenly real rows are met by samples, from the middle of these outwards (``Fidelity.beta_recall``)."""
    far = (sets.samples - sets.samples.mean(0)).norm(dim=1)
    radii = torch.quantile(far, _SHARES)
    met = []
    for rows in torch.split(torch.arange(len(sets.real)), max(_AT_ONCE // max(len(sets.real), len(far)), 1)):
        beside = torch.cdist(sets.real[rows], sets.real)
        beside[torch.arange(len(rows)), rows] = math.inf
        nearest = torch.cdist(sets.real[rows], sets.samples).min(1)
        near = nearest.values <= beside.amin(1)
        met.append(near[:, None] & (far[nearest.indices][:, None] <= radii))
    return _even(torch.cat(met).double().mean(0))


def _even(shares: Tensor) -> float:
    return 1 - 2 * float((shares - _SHARES).abs().mean())


def learned(sets: Sets, labels: Int64[Tensor, "n"], held_out: Int64[Tensor, "h"], seed: int = 0) -> float:
    """Macro-F1 on real rows of a random forest that was trained on samples (``Fidelity.learned``).

    Arguments:
        sets: samples and real rows.
        labels: classes of the samples.
        held_out: classes of the real rows.
        seed: of the forest.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import f1_score

    train, test = labels >= 0, held_out >= 0
    forest = RandomForestClassifier(100, random_state=seed).fit(sets.samples[train].numpy(), labels[train].numpy())
    said = forest.predict(sets.real[test].numpy())
    return float(f1_score(held_out[test].numpy(), said, average="macro"))


def _categories(spec: DataSpec) -> set[int]:
    return set(spec.transform.categories) if isinstance(spec.transform, Columns) else set()


def _columns(rows: Tensor) -> list[npt.NDArray[np.float64]]:
    return list(rows.double().numpy().T)


def _codes(x: npt.NDArray[np.float64]) -> Codes:
    """Categories from 1; 0 is a gap."""
    found: Codes = (np.nan_to_num(x, nan=-1) + 1).astype(np.int64)
    return found


def _binned(x: npt.NDArray[np.float64], real: npt.NDArray[np.float64]) -> Codes:
    """Numbers by the deciles of ``real``, from 1; 0 is a gap."""
    known = real[~np.isnan(real)]
    edges = np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]) if len(known) else np.zeros(BINS - 1)
    found: Codes = np.where(np.isnan(x), 0, 1 + np.searchsorted(edges, np.nan_to_num(x), side="right"))
    return found


def _total_variation(a: Codes, b: Codes) -> float:
    size = 1 + max(int(a.max()), int(b.max()))
    p, q = (np.bincount(each, minlength=size) / len(each) for each in (a, b))
    return float(np.abs(p - q).sum() / 2)


def _kolmogorov_smirnov(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """The largest difference of the distribution functions; a gap is below every number."""
    a, b = (np.sort(np.where(np.isnan(each), -np.inf, each)) for each in (a, b))
    at = np.concatenate((a, b))
    below = [np.searchsorted(each, at, side="right") / len(each) for each in (a, b)]
    return float(np.abs(below[0] - below[1]).max())


def _correlation(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> float:
    """Over the rows that have both; 0 where one does not vary."""
    known = ~(np.isnan(x) | np.isnan(y))
    x, y = x[known], y[known]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])
