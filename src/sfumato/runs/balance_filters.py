"""Which synthetic samples of a class are kept: no near copies of real ones, and none that are implausible."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.data import Dataset

ROUNDS = 6  # of draws, until enough rows are kept
COPY = 0.01  # a row is nearly a copy if it is nearer to a real one than this share of the real ones are to another
IMPLAUSIBLE = 0.05  # the share of real rows of a class that its own threshold would drop

Rows = npt.NDArray[np.float64]


class Filters:
    """What a synthetic sample must pass, from the real ones alone; distances are between all values of a sample."""

    def __init__(self, dataset: Dataset, keep_copies: bool = False, keep_implausible: bool = False) -> None:
        assert dataset.labels is not None
        self.spec, self.keep_copies, self.keep_implausible = dataset.spec, keep_copies, keep_implausible
        self.values = dataset.values.double()
        self.labels = dataset.labels.numpy()
        self.whole = (self.values.isnan() | (self.values == self.values.round())).all(0)
        self.low, self.high = (torch.from_numpy(end(self.values.numpy(), axis=0)) for end in (np.nanmin, np.nanmax))
        if not keep_implausible:
            self._grow()

    def _grow(self) -> None:
        """Grow the forest that says what is plausible, and find the least that a sample of each class must reach."""
        from sklearn.ensemble import RandomForestClassifier

        forest = RandomForestClassifier(200, oob_score=True, random_state=0, min_samples_leaf=2)
        self.forest = forest.fit(self._scaled(self.values), self.labels)
        self.column = {int(row): column for column, row in enumerate(forest.classes_)}  # of its probabilities
        said = np.nan_to_num(forest.oob_decision_function_, nan=0.0)
        self.least = {
            row: float(np.quantile(said[self.labels == row, j], IMPLAUSIBLE)) for row, j in self.column.items()
        }

    def _scaled(self, x: Tensor) -> Rows:
        found: Rows = self.spec.encode(x).flatten(1).double().numpy()
        return found

    def typed(self, x: Tensor) -> Tensor:
        """Samples with values that the data can have.

        Those of vectors are within the range of each column, with as many decimal places as it has.
        """
        if self.spec.layout.rank > 1:
            return torch.from_numpy(self.spec.to_array(self.spec.encode(x)).astype(np.float64))
        x = torch.where(self.whole, x.round(), x)
        return self.spec.transform.round_to_levels(torch.minimum(torch.maximum(x, self.low), self.high))

    def near_copies(self, x: Tensor, row: int) -> npt.NDArray[np.bool_]:
        """Which samples are nearer to a real row of their class than nearly all real rows are to each other."""
        real = torch.from_numpy(np.unique(self._scaled(self.values[torch.from_numpy(self.labels == row)]), axis=0))
        if len(real) < 2:
            return np.zeros(len(x), bool)
        among = torch.cdist(real, real).fill_diagonal_(math.inf).min(1).values
        near = torch.cdist(torch.from_numpy(self._scaled(x)), real).min(1).values
        copies: npt.NDArray[np.bool_] = (near < torch.quantile(among, COPY)).numpy()
        return copies

    def implausible(self, x: Tensor, row: int) -> npt.NDArray[np.bool_]:
        """Which samples the forest believes less to be of their class than nearly all real rows, out of bag."""
        found: npt.NDArray[np.bool_] = self.forest.predict_proba(self._scaled(x))[:, self.column[row]] < self.least[row]
        return found


def made(draw: Callable[[int, int], Tensor], filters: Filters, row: int, wanted: int) -> tuple[Rows, dict[str, int]]:
    """``wanted`` rows of class ``row``, or fewer if too many are dropped, and what was dropped.

    Arguments:
        draw: from a count and the number of the first sample to samples in data units.
        filters: which of them are kept.
        row: the class.
        wanted: the number of rows.
    """
    kept, record, first = (
        [torch.zeros(0, *filters.values.shape[1:], dtype=torch.float64)],
        {"copies": 0, "implausible": 0},
        0,
    )
    for _ in range(ROUNDS):
        lacking = wanted - sum(map(len, kept))
        if lacking <= 0:
            break
        count = lacking + lacking // 4 + 8
        x, first = filters.typed(draw(count, first).double()), first + count
        copies = np.zeros(len(x), bool) if filters.keep_copies else filters.near_copies(x, row)
        odd = np.zeros(len(x), bool) if filters.keep_implausible else filters.implausible(x, row) & ~copies
        record["copies"] += int(copies.sum())
        record["implausible"] += int(odd.sum())
        kept.append(x[torch.from_numpy(~(copies | odd))][:lacking])
    rows = torch.cat(kept).numpy()
    return rows, {"made": len(rows), **record}
