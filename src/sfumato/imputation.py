"""Fill the gaps of a table with draws from the posterior given what is there: multiple imputation.

The prior is a mixture of Gaussians fitted to the rows with their gaps (``numerics.incomplete``), whose posterior under
a mask is exact. Its number of components is the one that restores known values best which are hidden for the purpose.
The mixture is itself uncertain, which matters with few rows: each tenth of the draws comes from a mixture of its own,
fitted to rows weighed at random (the Bayesian bootstrap, Rubin 1981).

A Gibbs sampler with trees as the prior restored no better on wine, and its intervals, which do not know how uncertain
the model is, were narrower. Columns with very long tails do not suit a mixture of Gaussians: docs/tables.md.
"""

from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics import incomplete
from sfumato.numerics.integers import whole
from sfumato.numerics.random import derive

COMPONENTS = (1, 3, 8)
"""The numbers of components that are tried, where there are ten rows for each."""

_HIDDEN = 0.1  # of the known values, to choose the number of components
_TRIALS = 3
_ROWS = 1_000  # that the number is chosen on
_MIXTURES = 10
_FEWEST = 3  # rows

Numbers = npt.NDArray[np.float64]


class SfumatoImputer:
    """Fill gaps (NaN) in arrays of numbers (n, D), in the manner of scikit-learn.

        filled = SfumatoImputer().fit_transform(x)
        draws = SfumatoImputer(draws=20).fit(x).draw(x)      # (20, n, D), each a table without gaps

    ``transform`` gives the mean of the draws. To carry the uncertainty of the gaps into an analysis, repeat it on each
    draw, and add the variance between its results to the mean of their variances (Rubin 1987).

    Arguments:
        draws: of each gap.
        seed: random seed.
    """

    def __init__(self, draws: SupportsIndex = 20, seed: SupportsIndex = 0) -> None:
        self.draws, self.seed = draws, seed

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments, as scikit-learn asks for them."""
        return {"draws": self.draws, "seed": self.seed}

    def set_params(self, **params: Any) -> "SfumatoImputer":
        """Set arguments."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> "SfumatoImputer":
        """Fit the mixtures to rows with gaps; ``y`` is not used.

        Raises:
            InputError: no array of numbers, fewer than three rows, or a column without any value.
        """
        x = _checked(X)
        if len(x) < _FEWEST:
            raise InputError(f"impute: {len(x)} rows are too few; give at least {_FEWEST}")
        if (empty := np.isnan(x).all(0)).any():
            raise InputError(f"impute: column {int(np.argmax(empty))} has no values; remove it")
        self.n_features_in_ = x.shape[1]
        self.low_, self.high_ = np.nanmin(x, 0), np.nanmax(x, 0)
        deviation = np.nanstd(x, 0)
        self.shift_, self.scale_ = np.nanmean(x, 0), np.where(deviation > 0, deviation, 1.0)
        z = self._standard(x)
        seed = derive(whole("seed", self.seed), "impute")
        self.components_ = _components(z, seed)
        generator = torch.Generator().manual_seed(seed)
        self.mixtures_ = []
        for i in range(min(whole("draws", self.draws, 1), _MIXTURES)):
            weights = -torch.rand(len(z), generator=generator, dtype=torch.float64).clamp(min=1e-12).log()
            weights = weights / weights.mean()
            self.mixtures_.append(incomplete.fit(z, self.components_, weights, seed=derive(seed, "mixture", i)))
        return self

    def draw(self, X: Any) -> Numbers:
        """The rows with their gaps filled, ``draws`` times: (draws, n, D). What is there stays as it is.

        Raises:
            InputError: before ``fit``, or an array of other columns.
        """
        if not hasattr(self, "mixtures_"):
            raise InputError("SfumatoImputer: is not fitted; call fit first")
        x = _checked(X)
        if x.shape[1] != self.n_features_in_:
            raise InputError(f"impute: {x.shape[1]} columns, but {self.n_features_in_} were fitted; give the same")
        z, draws = self._standard(x), whole("draws", self.draws, 1)
        generator = torch.Generator().manual_seed(derive(whole("seed", self.seed), "draws"))
        parts = np.array_split(np.arange(draws), len(self.mixtures_))
        pairs = zip(self.mixtures_, parts, strict=True)
        found = torch.cat([mixture.draw(z, len(part), generator) for mixture, part in pairs]).numpy()
        values = np.clip(found * self.scale_ + self.shift_, self.low_, self.high_)
        filled: Numbers = np.where(np.isnan(x), values, x)
        return filled

    def transform(self, X: Any) -> Numbers:
        """The rows with their gaps at the mean of the draws (n, D). Raises InputError as ``draw`` does."""
        mean: Numbers = self.draw(X).mean(0)
        return mean

    def fit_transform(self, X: Any, y: Any = None) -> Numbers:
        """``fit`` and ``transform``."""
        return self.fit(X, y).transform(X)

    def _standard(self, x: Numbers) -> Tensor:
        return torch.from_numpy((x - self.shift_) / self.scale_)


def _checked(X: Any) -> Numbers:
    try:
        x = np.asarray(X, np.float64)
    except (TypeError, ValueError):
        raise InputError(
            "impute: has text; give numbers, or use 'sfumato impute' for a table with categories"
        ) from None
    if x.ndim != 2 or x.shape[1] == 0:
        raise InputError(f"impute: has shape {x.shape}; give an array of rows and columns")
    if np.isinf(x).any():
        raise InputError("impute: has infinite values; remove them")
    return x


def _components(z: Tensor, seed: int) -> int:
    """The number of components that restores hidden values best."""
    few = [count for count in COMPONENTS if 10 * count <= len(z)] or [1]
    if len(few) == 1:
        return few[0]
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(derive(seed, "rows")))[:_ROWS]
    z = z[chosen][:, ~z[chosen].isnan().all(0)]
    errors = torch.zeros(len(few), dtype=z.dtype)
    for i in range(_TRIALS):
        generator = torch.Generator().manual_seed(derive(seed, "hidden", i))
        hidden = (torch.rand(z.shape, generator=generator, dtype=z.dtype) < _HIDDEN) & ~z.isnan()
        hidden &= ~(z.isnan() | hidden).all(0)  # a column must keep a value
        seen = z.masked_fill(hidden, float("nan"))
        for j, count in enumerate(few):
            errors[j] += (incomplete.fit(seen, count, seed=seed).mean(seen) - z)[hidden].square().sum()
    return few[int(errors.argmin())]
