"""Which synthetic samples of a class are kept: no near copies of real ones, and none that are implausible.

A model of a few rows in many columns repeats these rows. Where that leaves a class unfilled, vectors are drawn as from
a kernel estimate that keeps mean and covariance (Silverman 1986, 6.4.1): noise with the spread of the class is added,
as little as lets half of the samples pass.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.data import Dataset
from sfumato.numerics.random import derive

ROUNDS = 8  # of draws, until enough rows are kept
COPY = 0.01  # a row is nearly a copy if it is nearer to a real one than this share of the real ones are to another
NOISE = (0.0, 0.25, 0.5, 1.0)  # that is added to samples, in spreads of their class
ENOUGH = 0.5  # share of samples that passes; more noise where fewer do
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
        self.can_be_noisy = dataset.spec.layout.rank == 1
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

    def noisy(self, x: Tensor, row: int, noise: float, seed: int) -> Tensor:
        """Samples of a class of vectors with noise in its spread, drawn to its mean so that they are as wide as before.

        The covariance of so few rows is drawn to that of all classes around their means, as by D rows.
        """
        if noise == 0:
            return x
        real = torch.from_numpy(self._scaled(self.values))
        labels = torch.from_numpy(self.labels)
        means = torch.stack([real[labels == each].mean(0) for each in range(int(labels.max()) + 1)])
        rest, n, d = real - means[labels], int((labels == row).sum()), real.shape[1]
        own, all_of_them = ((part.mT @ part) / len(part) for part in (rest[labels == row], rest))
        covariance = (n * own + d * all_of_them) / (n + d)
        variances, axes = torch.linalg.eigh(covariance)
        root = axes * variances.clamp(min=0).sqrt()
        eps = torch.randn(len(x), d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        z = (
            means[row]
            + (torch.from_numpy(self._scaled(x)) - means[row] + noise * eps @ root.mT) / (1 + noise**2) ** 0.5
        )
        return self.spec.decode(z.float().reshape(len(x), *self.spec.model_shape)).double()

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


def made(
    draw: Callable[[int, int], Tensor], filters: Filters, row: int, wanted: int, seed: int
) -> tuple[Rows, dict[str, int | float]]:
    """``wanted`` rows of class ``row``, or fewer if too many are dropped, and what was dropped and done.

    Arguments:
        draw: from a count and the number of the first sample to samples in data units.
        filters: which of them are kept.
        row: the class.
        wanted: the number of rows.
        seed: of the noise.
    """
    kept, first, noise = [torch.zeros(0, *filters.values.shape[1:], dtype=torch.float64)], 0, list(NOISE)
    record: dict[str, int | float] = {"copies": 0, "implausible": 0, "noise": 0.0}
    for _ in range(ROUNDS):
        lacking = wanted - sum(map(len, kept))
        if lacking <= 0:
            break
        count = lacking + lacking // 4 + 8
        x = filters.noisy(draw(count, first).double(), row, noise[0], derive(seed, "noise", first))
        x, first = filters.typed(x), first + count
        copies = np.zeros(len(x), bool) if filters.keep_copies else filters.near_copies(x, row)
        odd = np.zeros(len(x), bool) if filters.keep_implausible else filters.implausible(x, row) & ~copies
        record["copies"] += int(copies.sum())
        record["implausible"] += int(odd.sum())
        passed = x[torch.from_numpy(~(copies | odd))][:lacking]
        kept.append(passed)
        record["noise"] = noise[0] if len(passed) else record["noise"]
        if filters.can_be_noisy and copies.mean() > 1 - ENOUGH and len(noise) > 1:
            noise.pop(0)
    rows = torch.cat(kept).numpy()
    return rows, {"made": len(rows), **record}
