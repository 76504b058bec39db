"""What is known of rows with gaps: a mixture of Gaussians, or forests that predict each column from the others.

A prior is fitted to rows of mean 0 and variance 1 with NaN for gaps, and draws the gaps of rows.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.numerics import incomplete
from sfumato.numerics.random import derive

MIXTURES = 10

TREES = 40
LEAST = 1
"""Rows in a leaf: on four sets one restored as well as three or better, and the width of draws is set afterwards."""

_ROUNDS = 3  # of forests, each on what the last one filled
_FOR_A_MEAN = 60  # draws of forests
_SWEEPS = 3  # over the gaps, until draws are kept
_ROWS = 3_000  # that a forest is grown on

Rows = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


@runtime_checkable  # so that the test run can check annotations
class Prior(Protocol):
    """What draws the gaps of rows."""

    def draw(self, z: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """The rows (n, D) with their gaps drawn ``draws`` times: (draws, n, D)."""

    def mean(self, z: Tensor) -> Tensor:
        """The rows with their gaps at the mean of what would be drawn."""


@dataclass(frozen=True)
class Mixtures:
    """Mixtures of Gaussians, each of which draws its part: together they know how uncertain one of them is.

    Each is fitted to rows weighed at random (the Bayesian bootstrap, Rubin 1981).
    """

    mixtures: tuple[incomplete.IncompleteMixture, ...]

    @staticmethod
    def fit(z: Tensor, components: int, count: int, seed: int) -> "Mixtures":
        """``count`` mixtures of so many components."""
        generator, found = torch.Generator().manual_seed(seed), []
        for i in range(count):
            weights = -torch.rand(len(z), generator=generator, dtype=torch.float64).clamp(min=1e-12).log()
            seed_of = derive(seed, "mixture", i)
            found.append(incomplete.fit(z, components, weights / weights.mean(), seed=seed_of))
        return Mixtures(tuple(found))

    def draw(self, z: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        pairs = zip(self.mixtures, _shares(draws, len(self.mixtures)), strict=True)
        return torch.cat([mixture.draw(z, count, generator) for mixture, count in pairs if count])

    def mean(self, z: Tensor) -> Tensor:
        return torch.stack([mixture.mean(z) for mixture in self.mixtures]).mean(0)


@dataclass(frozen=True)
class Leaves:
    """A forest that predicts one column, and the values in the leaves of its trees.

    Arguments:
        trees: scikit-learn's.
        values: of the rows that it was grown on (r,).
        order: by tree, these rows sorted by their leaf (T, r).
        ends: by tree, the first row of each leaf in that order, by the number of its node, and one more.
    """

    trees: list[Any]
    values: Rows
    order: list[Numbers]
    ends: list[Numbers]

    @staticmethod
    def of(forest: Any, x: Rows, values: Rows) -> "Leaves":
        """The leaves of a forest that was grown on these rows."""
        leaves: Numbers = forest.apply(x)
        order = [np.argsort(column, kind="stable") for column in leaves.T]
        ends = [
            np.searchsorted(column[each], np.arange(tree.tree_.node_count + 1))
            for column, each, tree in zip(leaves.T, order, forest.estimators_, strict=True)
        ]
        return Leaves(list(forest.estimators_), values, order, ends)

    def draw(self, x: Rows, tree: int, generator: np.random.Generator) -> Rows:
        """For each row a value from its leaf in one tree."""
        leaf = self.trees[tree].apply(x.astype(np.float32))
        first, last = self.ends[tree][leaf], self.ends[tree][leaf + 1]
        at = first + (generator.random(len(x)) * (last - first)).astype(np.int64)
        found: Rows = self.values[self.order[tree][at]]
        return found


@dataclass(frozen=True)
class Forests:
    """A forest for each column, which predicts it from the others, and draws by Gibbs sweeps over the gaps.

    They are grown in rounds, each on the rows that the last one has filled (Stekhoven & Bühlmann 2012, "MissForest").
    A draw visits each column, takes a tree, and takes the value of a row that is in the same leaf (Doove, van Buuren &
    Dusseldorp 2014): draws have the tails of the data, whatever these are.
    """

    forests: tuple[Leaves, ...]

    @staticmethod
    def fit(z: Tensor, seed: int) -> "Forests":
        """Forests grown on rows with gaps."""
        from sklearn.ensemble import ExtraTreesRegressor

        x, generator = z.numpy(), np.random.default_rng(seed)
        gaps = np.isnan(x)
        filled = np.where(gaps, np.nanmean(x, 0), x)
        found: dict[int, Leaves] = {}
        for round_ in range(_ROUNDS):
            for j in np.argsort(gaps.sum(0), kind="stable"):
                known = np.flatnonzero(~gaps[:, j])
                if round_ < _ROUNDS - 1 and len(known) == len(x):
                    continue  # nothing to fill
                some = known if len(known) <= _ROWS else np.sort(generator.choice(known, _ROWS, replace=False))
                others = np.delete(filled, j, axis=1)
                forest = ExtraTreesRegressor(
                    TREES, min_samples_leaf=LEAST, bootstrap=True, random_state=derive(seed, "forest", int(j)) % 2**31
                ).fit(others[some], x[some, j])
                if round_ == _ROUNDS - 1:
                    found[int(j)] = Leaves.of(forest, others[some], x[some, j])
                if gaps[:, j].any():
                    filled[gaps[:, j], j] = forest.predict(others[gaps[:, j]])
        return Forests(tuple(found[j] for j in range(x.shape[1])))

    def draw(self, z: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        x = z.numpy()
        gaps = np.isnan(x)
        numbers = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        found = np.empty((draws, *x.shape))
        for i in range(draws):
            filled = np.where(gaps, 0.0, x)  # the mean of each column
            for _ in range(_SWEEPS):
                for j in np.flatnonzero(gaps.any(0)):
                    rows, forest = gaps[:, j], self.forests[j]
                    tree = int(numbers.integers(len(forest.trees)))
                    filled[rows, j] = forest.draw(np.delete(filled[rows], j, axis=1), tree, numbers)
            found[i] = filled
        return torch.from_numpy(found)

    def mean(self, z: Tensor) -> Tensor:
        return self.draw(z, _FOR_A_MEAN, torch.Generator().manual_seed(0)).mean(0)


@dataclass(frozen=True)
class Both:
    """Several priors, each of which draws its part."""

    priors: tuple[Prior, ...]

    def draw(self, z: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        pairs = zip(self.priors, _shares(draws, len(self.priors)), strict=True)
        return torch.cat([prior.draw(z, count, generator) for prior, count in pairs if count])

    def mean(self, z: Tensor) -> Tensor:
        return torch.stack([prior.mean(z) for prior in self.priors]).mean(0)


def _shares(draws: int, parts: int) -> list[int]:
    """``draws`` in so many parts, as equal as can be; with fewer draws than parts, the last ones have none."""
    return [draws // parts + (i < draws % parts) for i in range(parts)]
