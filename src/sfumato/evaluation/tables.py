"""How like a table the samples of a model are, column by column and pair by pair, and whether they are its rows.

All measures take rows in data units, with NaN where a value is missing. None of them means much alone: ``fidelity``
gives each beside real rows that were judged in the same way and number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.data import DataSpec
from sfumato.data.transforms import Columns

from .quality.intervals import Interval
from .quality.sets import Sets
from .quality.two_samples import classifier

BINS = 10  # of a column of numbers beside a category
_AT_ONCE = 2**24  # distances

Codes = npt.NDArray[np.int64]


class Fidelity(NamedTuple):
    """How like real rows some rows are; 1 is best for the first two, half for the others.

    Arguments:
        shape: the mean over columns of 1 - KS, or of 1 - TV for categories; a gap counts as a value of its own.
        trend: the mean over pairs of columns of 1 - |difference of the correlations| / 2, or of 1 - TV between the
            tables of both columns' values, numbers by deciles of the real rows, where one is a category.
        told_apart: the area under the ROC curve of a classifier that tells them from real rows.
        nearest: the share of rows that are nearer to training rows than to as many held-out rows. More than half says
            that training rows are known by heart, to some degree.
    """

    shape: float
    trend: float
    told_apart: Interval
    nearest: float


@dataclass(frozen=True)
class Judged:
    """Samples beside real rows.

    Arguments:
        samples: of the model, against held-out rows.
        real: of as many training rows, against held-out rows; ``nearest`` is then that of copies.
    """

    samples: Fidelity
    real: Fidelity

    def to_dict(self) -> Mapping[str, Mapping[str, float]]:
        """As plain JSON values."""
        return {
            name: {
                "shape": found.shape,
                "trend": found.trend,
                "told_apart": found.told_apart.value,
                "told_apart_error": found.told_apart.error,
                "nearest": found.nearest,
            }
            for name, found in (("samples", self.samples), ("real", self.real))
        }


def fidelity(
    spec: DataSpec,
    samples: Float[Tensor, "n d"],
    train: Float[Tensor, "t d"],
    held_out: Float[Tensor, "h d"],
    seed: int = 0,
) -> Judged:
    """Judge samples of a table by held-out rows, which no part of the model has seen.

    Arguments:
        spec: the contract of the table.
        samples: of the model.
        train: the rows that the model was trained on.
        held_out: other rows of the table.
        seed: which training rows stand beside, and the classifier's.
    """
    generator = torch.Generator().manual_seed(seed)

    def some(rows: Tensor, count: int) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:count]]

    def judged(rows: Tensor) -> Fidelity:
        sets = Sets(spec.encode(rows).double(), spec.encode(held_out).double())
        return Fidelity(
            shape(spec, rows, held_out),
            trend(spec, rows, held_out),
            classifier(sets, seed),
            nearest_share(spec, rows, some(train, len(held_out)), some(held_out, len(train))),
        )

    return Judged(judged(samples), judged(some(train, len(samples))))


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
