"""Fill the gaps of a table with draws from the posterior given what is there: multiple imputation.

The prior is a mixture of Gaussians fitted to the rows with their gaps (``numerics.incomplete``), whose posterior under
a mask is exact, or forests that predict each column from the others, or each of them for half of the draws. It is what
best restores known values which are hidden for the purpose; forests are for columns with very long tails. The same
values say how wide draws must be: their deviations from their mean are multiplied by the number with which 90 %
intervals hold 90 % of them.
"""

import math
from dataclasses import dataclass
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.errors import InputError
from sfumato.numerics import incomplete
from sfumato.numerics.integers import whole
from sfumato.numerics.random import derive

from .priors import MIXTURES, Both, Forests, Mixtures, Prior

COMPONENTS = (1, 3, 8)
"""The numbers of components that are tried, where there are ten rows for each."""

PRIORS = ("auto", "mixture", "forests")
_HIDDEN = 0.1  # of the known values, to choose the prior
_TRIALS = 2
_MIXTURES_OF_A_TRIAL = 5
_ROWS = 1_000  # that it is chosen on
_FEWEST = 3  # rows
_FEWEST_FOR_FORESTS = 30
_FEWEST_HIDDEN = 50  # values that say how wide draws must be
_DRAWS = 30  # of them
NARROWEST, WIDEST = 0.8, 2.0
"""Factors of the deviations of draws."""


Numbers = npt.NDArray[np.float64]
Trial = tuple[Tensor, Tensor, Tensor]
"""Rows with more gaps, the rows themselves, and which of their values are hidden."""


@dataclass(frozen=True)
class Way:
    """What draws gaps: a mixture, forests, or each of them its part.

    Arguments:
        components: of the mixture; None for no mixture.
        forests: whether forests draw.
    """

    components: int | None
    forests: bool

    @property
    def names(self) -> list[str]:
        """Its parts in words."""
        mixture = [] if self.components is None else [f"mixture of {self.components}"]
        return [*mixture, *["forests"] * self.forests]

    def fit(self, z: Tensor, mixtures: int, seed: int) -> Prior:
        """The prior, fitted to rows (n, D) of mean 0 and variance 1 with NaN for gaps, by so many mixtures."""
        parts: list[Prior] = [] if self.components is None else [Mixtures.fit(z, self.components, mixtures, seed)]
        return Both((*parts, *([Forests.fit(z, seed)] if self.forests else [])))


class SfumatoImputer:
    """Fill gaps (NaN) in arrays of numbers (n, D), in the manner of scikit-learn.

        filled = SfumatoImputer().fit_transform(x)
        draws = SfumatoImputer(draws=20).fit(x).draw(x)      # (20, n, D), each a table without gaps

    ``transform`` gives the mean of the draws. To carry the uncertainty of the gaps into an analysis, repeat it on each
    draw, and add the variance between its results to the mean of their variances (Rubin 1987).

    Arguments:
        draws: of each gap.
        seed: random seed.
        prior: "mixture", "forests", or "auto" for what restores hidden values best, one or both.
    """

    def __init__(self, draws: SupportsIndex = 20, seed: SupportsIndex = 0, prior: str = "auto") -> None:
        self.draws, self.seed, self.prior = draws, seed, prior

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments, as scikit-learn asks for them."""
        return {"draws": self.draws, "seed": self.seed, "prior": self.prior}

    def set_params(self, **params: Any) -> "SfumatoImputer":
        """Set arguments."""
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def fit(self, X: Any, y: Any = None) -> "SfumatoImputer":
        """Fit the prior to rows with gaps; ``y`` is not used.

        Raises:
            InputError: no array of numbers, fewer than three rows, a column without any value, or an unknown prior.
        """
        x = _checked(X)
        if len(x) < _FEWEST:
            raise InputError(f"impute: {len(x)} rows are too few; give at least {_FEWEST}")
        if (empty := np.isnan(x).all(0)).any():
            raise InputError(f"impute: column {int(np.argmax(empty))} has no values; remove it")
        if self.prior not in PRIORS:
            raise InputError(f"prior '{self.prior}': there is none; choose from {', '.join(PRIORS)}")
        self.n_features_in_ = x.shape[1]
        self.low_, self.high_ = np.nanmin(x, 0), np.nanmax(x, 0)
        deviation = np.nanstd(x, 0)
        self.shift_, self.scale_ = np.nanmean(x, 0), np.where(deviation > 0, deviation, 1.0)
        z = self._standard(x)
        seed = derive(whole("seed", self.seed), "impute")
        mixtures = min(whole("draws", self.draws, 1), MIXTURES)
        trials = [_trial(z, seed, i) for i in range(_TRIALS)]
        self.way_, self.width_ = _chosen(trials, *_candidates(z, self.prior), seed)
        self.fitted_ = self.way_.fit(z, mixtures, seed)
        return self

    @property
    def priors_(self) -> list[str]:
        """What draws, in words."""
        return self.way_.names

    def draw(self, X: Any) -> Numbers:
        """The rows with their gaps filled, ``draws`` times: (draws, n, D). What is there stays as it is.

        Raises:
            InputError: before ``fit``, or an array of other columns.
        """
        if not hasattr(self, "fitted_"):
            raise InputError("SfumatoImputer: is not fitted; call fit first")
        x = _checked(X)
        if x.shape[1] != self.n_features_in_:
            raise InputError(f"impute: {x.shape[1]} columns, but {self.n_features_in_} were fitted; give the same")
        z, draws = self._standard(x), whole("draws", self.draws, 1)
        generator = torch.Generator().manual_seed(derive(whole("seed", self.seed), "draws"))
        found = _widened(self.fitted_.draw(z, draws, generator), self.width_).numpy()
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


def _candidates(z: Tensor, prior: str) -> tuple[list[int], bool]:
    """The numbers of components to try, and whether to try forests."""
    numbers = [count for count in COMPONENTS if 10 * count <= len(z)] or [1]
    forests = z.shape[1] > 1 and (prior == "forests" or (prior == "auto" and len(z) >= _FEWEST_FOR_FORESTS))
    return ([] if forests and prior == "forests" else numbers), forests


def _trial(z: Tensor, seed: int, number: int) -> Trial:
    """Some rows, with more gaps."""
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(derive(seed, "rows")))[:_ROWS]
    z = z[chosen][:, ~z[chosen].isnan().all(0)]
    generator = torch.Generator().manual_seed(derive(seed, "hidden", number))
    hidden = (torch.rand(z.shape, generator=generator, dtype=z.dtype) < _HIDDEN) & ~z.isnan()
    hidden &= ~(z.isnan() | hidden).all(0)  # a column must keep a value
    return z.masked_fill(hidden, float("nan")), z, hidden


def _chosen(trials: list[Trial], numbers: list[int], forests: bool, seed: int) -> tuple[Way, float]:
    """The way that restores hidden values best (the best mixture, forests, or both in halves), and its width."""
    k = _best_mixture(trials, numbers, seed) if numbers else None
    single = [Way(k, False)] * bool(numbers) + [Way(None, True)] * forests
    ways = [*single, Way(k, True)] if len(single) > 1 else single
    errors = torch.zeros(len(ways), dtype=torch.float64)
    fitted: list[Prior] = []
    for seen, z, hidden in reversed(trials):  # so that the last ones fitted are those of the first trial
        fitted = [way.fit(seen, _MIXTURES_OF_A_TRIAL, seed) for way in single]
        if len(ways) > 1:
            means = [prior.mean(seen) for prior in fitted]
            for j, filled in enumerate((*means, torch.stack(means).mean(0))):
                errors[j] += (filled - z)[hidden].square().sum()
    chosen = ways[int(errors.argmin())]
    seen, z, hidden = trials[0]
    if int(hidden.sum()) < _FEWEST_HIDDEN:
        return chosen, 1.0
    prior = fitted[single.index(chosen)] if chosen in single else Both(tuple(fitted))
    draws = prior.draw(seen, _DRAWS, torch.Generator().manual_seed(derive(seed, "width")))
    return chosen, factor(draws[:, hidden], z[hidden])


def _best_mixture(trials: list[Trial], numbers: list[int], seed: int) -> int:
    """The number of components that restores hidden values best."""
    if len(numbers) == 1:
        return numbers[0]
    errors = torch.zeros(len(numbers), dtype=torch.float64)
    for seen, z, hidden in trials:
        for j, k in enumerate(numbers):
            errors[j] += (incomplete.fit(seen, k, seed=seed).mean(seen) - z)[hidden].square().sum()
    return numbers[int(errors.argmin())]


def factor(draws: Float[Tensor, "m n"], true: Float[Tensor, "n"]) -> float:
    """The factor of deviations with which 90 % of true values are between 5 % and 95 % of their draws.

    A value at m + r, with the mean m of its draws and their quantile m + q on its side, needs the factor r / q. The
    result is the 90 % quantile of these, with one more value that needs any factor (as in conformal prediction).
    """
    mean = draws.mean(0)
    low, high = (torch.quantile(draws, level, dim=0) - mean for level in (0.05, 0.95))
    rest = true - mean
    needed = torch.where(rest > 0, rest / high.clamp(min=1e-12), rest / low.clamp(max=-1e-12))
    rank = min(math.ceil(0.9 * (len(needed) + 1)), len(needed))
    return float(needed.sort().values[rank - 1].clamp(NARROWEST, WIDEST))


def _widened(draws: Tensor, width: float) -> Tensor:
    """Draws with their deviations from their mean multiplied."""
    mean = draws.mean(0)
    return mean + width * (draws - mean)
