"""What is known of rows with gaps: a mixture of Gaussians, and forests that correct what it says of each column.

A prior is fitted to rows of mean 0 and variance 1 with NaN for gaps.
"""

from collections.abc import Iterator
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
LEAST = 3
"""Rows in a leaf."""

_RANKED = 3  # mixtures of normal scores
_FEATURES = 1 / 2  # share of them that a decision is chosen from
_ROWS = 10_000  # that a forest is grown on

Rows = npt.NDArray[np.float64]


@runtime_checkable  # so that the test run can check annotations
class Mean(Protocol):
    """What fills the gaps of rows."""

    def mean(self, z: Tensor) -> Tensor:
        """The rows with their gaps at their mean."""


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

    def left_out(self, z: Tensor) -> Iterator[Tensor]:
        """For each column, the mean of the rows given what they have beside it."""
        for means in zip(*(mixture.left_out(z) for mixture in self.mixtures), strict=True):
            yield torch.stack(means).mean(0)


@dataclass(frozen=True)
class Scores:
    """Normal scores: each column by its ranks, as a Gaussian has them (NaN stays), so that long tails become short.

    Arguments:
        values: by column, the different values in their order, and the score of each.
    """

    values: tuple[tuple[Rows, Rows], ...]

    @staticmethod
    def of(z: Rows) -> "Scores":
        """The scores of these rows: of a value that occurs several times, that of its mean rank."""
        found = []
        for column in z.T:
            different, counts = np.unique(column[~np.isnan(column)], return_counts=True)
            ranks = (np.cumsum(counts) - counts / 2) / counts.sum()
            found.append((different, torch.special.ndtri(torch.from_numpy(ranks)).numpy()))
        return Scores(tuple(found))

    def __call__(self, z: Tensor) -> Tensor:
        """The scores of rows; between values that are known, a straight line."""
        columns = zip(z.numpy().T, self.values, strict=True)
        return torch.from_numpy(np.stack([np.interp(column, *known) for column, known in columns], 1))


@dataclass(frozen=True)
class Told:
    """What mixtures say of each column, of rows that they see without this column.

    That is known of rows with and without a value in the column alike.

    Arguments:
        mixtures: of the rows.
        scores: their normal scores.
        ranked: mixtures of these.
    """

    mixtures: Mixtures
    scores: Scores
    ranked: Mixtures

    @staticmethod
    def fit(z: Tensor, components: int, mixtures: Mixtures, seed: int) -> "Told":
        """Mixtures of the normal scores beside those of the rows."""
        scores = Scores.of(z.numpy())
        ranked = Mixtures.fit(scores(z), components, _RANKED, derive(seed, "scores"))
        return Told(mixtures, scores, ranked)

    def __call__(self, z: Tensor) -> Iterator[tuple[Rows, Rows]]:
        """For each column j, the means of the rows without it (n, 2 D), and that of j alone (n,)."""
        both = zip(self.mixtures.left_out(z), self.ranked.left_out(self.scores(z)), strict=True)
        for j, (plain, ranks) in enumerate(both):
            yield torch.cat([plain, ranks], 1).float().numpy(), plain[:, j].numpy()


@dataclass(frozen=True)
class Forests:
    """Forests that predict each column from what mixtures say of a row, which they see without this column.

    A forest learns the column itself, which keeps it between values that occur, or what it is beyond the mixtures' mean
    of it, which is better where that mean is good.

    Arguments:
        told: what they predict from.
        beyond: whether they learn what is beyond the mixtures' mean.
        forests: scikit-learn's, by column.
    """

    told: Told
    beyond: bool
    forests: tuple[Any, ...]

    @staticmethod
    def fit(z: Tensor, told: Told, beyond: bool, seed: int) -> "Forests":
        """Forests grown on the rows with gaps that ``told`` was fitted to."""
        from sklearn.ensemble import ExtraTreesRegressor

        generator, found = np.random.default_rng(seed), []
        for j, (means, said) in enumerate(told(z)):
            known = np.flatnonzero(~z[:, j].isnan().numpy())
            some = known if len(known) <= _ROWS else np.sort(generator.choice(known, _ROWS, replace=False))
            number = derive(seed, "forest", j) % 2**31
            forest = ExtraTreesRegressor(TREES, min_samples_leaf=LEAST, max_features=_FEATURES, random_state=number)
            found.append(forest.fit(means[some], z[some, j].numpy() - beyond * said[some]))
        return Forests(told, beyond, tuple(found))

    def mean(self, z: Tensor) -> Tensor:
        """The rows with their gaps at what is predicted."""
        found = z.clone()
        for j, (means, said) in enumerate(self.told(z)):
            rows = np.flatnonzero(z[:, j].isnan().numpy())
            if len(rows):
                predicted = self.forests[j].predict(means[rows]) + self.beyond * said[rows]
                found[torch.from_numpy(rows), j] = torch.from_numpy(predicted)
        return found


@dataclass(frozen=True)
class Corrected:
    """Draws of mixtures around a better mean.

    A forest knows the mean, and not how uncertain a gap is when others of its row are gaps too: it was grown on rows
    that have other gaps. Mixtures know that of every row, and which gaps go together.

    Arguments:
        mixtures: whose deviations from their mean are drawn.
        means: whose mean is the mean.
    """

    mixtures: Mixtures
    means: tuple[Mean, ...]

    def draw(self, z: Tensor, draws: int, generator: torch.Generator) -> Tensor:
        """The rows (n, D) with their gaps drawn ``draws`` times: (draws, n, D)."""
        return self.mixtures.draw(z, draws, generator) + (self.mean(z) - self.mixtures.mean(z))

    def mean(self, z: Tensor) -> Tensor:
        """The rows with their gaps at the mean of what is drawn."""
        return torch.stack([part.mean(z) for part in self.means]).mean(0)


def _shares(draws: int, parts: int) -> list[int]:
    """``draws`` in so many parts, as equal as can be; with fewer draws than parts, the last ones have none."""
    return [draws // parts + (i < draws % parts) for i in range(parts)]
