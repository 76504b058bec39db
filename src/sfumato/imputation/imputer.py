"""Fill the gaps of a table with draws from the posterior given what is there: multiple imputation.

The mean of a gap is that of a mixture of Gaussians fitted to the rows with their gaps (``numerics.incomplete``), of
forests that predict each column from what it says, or the mean of both: what best restores known values which are
hidden for the purpose. Draws deviate from it as the mixture's do, whose posterior under a mask is exact, times the
number with which 90 % intervals hold 90 % of the hidden values.
"""

import math
from dataclasses import dataclass
from itertools import combinations
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

from .priors import MIXTURES, Corrected, Forests, Mean, Mixtures, Told

COMPONENTS = (1, 3, 8)
"""The numbers of components that are tried, where there are ten rows for each."""

PRIORS = ("auto", "mixture", "forests")
_HIDDEN = 0.1  # of the known values, to choose the prior
_TRIALS = 2
_FAR = 10.0
"""Deviations: with values beyond, a mixture's mean can be far from all that occur, and few hidden values show it."""
_MIXTURES_OF_A_TRIAL = 3
_ROWS = 1_500  # that it is chosen on
_FEWEST = 3  # rows
_FEWEST_FOR_FORESTS = 30
_FEWEST_HIDDEN = 50  # values that say how wide draws must be
_DRAWS = 100  # of them
NARROWEST, WIDEST = 0.3, 3.0
"""Factors of the deviations of draws."""


Numbers = npt.NDArray[np.float64]
Trial = tuple[Tensor, Tensor, Tensor]
"""Rows with more gaps, the rows themselves, and which of their values are hidden."""


PARTS = ("mixture", "forests", "corrections")
"""A mixture itself, forests of values, and forests of what is beyond the mixture's mean."""


@dataclass(frozen=True)
class Way:
    """What fills gaps: the mean of its parts, with the deviations of the mixture.

    Arguments:
        components: of the mixture, on which forests stand.
        parts: some of ``PARTS``.
    """

    components: int
    parts: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Its parts in words."""
        return [f"{part} of {self.components}" if part == "mixture" else part for part in self.parts]

    def fit(self, z: Tensor, mixtures: int, seed: int) -> Corrected:
        """The prior, fitted to rows (n, D) of mean 0 and variance 1 with NaN for gaps, by so many mixtures."""
        plain, means = _fitted(z, self.components, self.parts, mixtures, seed)
        return Corrected(plain, tuple(means[part] for part in self.parts))


def _fitted(
    z: Tensor, components: int, parts: tuple[str, ...], mixtures: int, seed: int
) -> tuple[Mixtures, dict[str, Mean]]:
    plain = Mixtures.fit(z, components, mixtures, seed)
    found: dict[str, Mean] = {"mixture": plain}
    if parts != ("mixture",):
        told = Told.fit(z, components, plain, seed)
        found |= {part: Forests.fit(z, told, part == "corrections", seed) for part in parts if part != "mixture"}
    return plain, found


class SfumatoImputer:
    """Fill gaps (NaN) in arrays of numbers (n, D), in the manner of scikit-learn.

        filled = SfumatoImputer().fit_transform(x)
        draws = SfumatoImputer(draws=20).fit(x).draw(x)      # (20, n, D), each a table without gaps

    ``transform`` gives the mean of the draws. To carry the uncertainty of the gaps into an analysis, repeat it on each
    draw, and add the variance between its results to the mean of their variances (Rubin 1987).

    Arguments:
        draws: of each gap.
        seed: random seed.
        prior: "mixture", "forests", or "auto" for what restores hidden values best.
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


def _candidates(z: Tensor, prior: str) -> tuple[list[int], list[tuple[str, ...]]]:
    """The numbers of components to try, and what may draw."""
    numbers = [count for count in COMPONENTS if 10 * count <= len(z)] or [1]
    if z.shape[1] == 1 or prior == "mixture" or (prior == "auto" and len(z) < _FEWEST_FOR_FORESTS):
        return numbers, [("mixture",)]
    parts: tuple[str, ...] = PARTS[1:] if prior == "forests" else PARTS
    if float(z.nan_to_num().abs().max()) > _FAR:
        parts = ("forests",)
    return numbers, [some for count in range(1, len(parts) + 1) for some in combinations(parts, count)]


def _trial(z: Tensor, seed: int, number: int) -> Trial:
    """Some rows, with more gaps."""
    chosen = torch.randperm(len(z), generator=torch.Generator().manual_seed(derive(seed, "rows")))[:_ROWS]
    z = z[chosen][:, ~z[chosen].isnan().all(0)]
    generator = torch.Generator().manual_seed(derive(seed, "hidden", number))
    hidden = (torch.rand(z.shape, generator=generator, dtype=z.dtype) < _HIDDEN) & ~z.isnan()
    hidden &= ~(z.isnan() | hidden).all(0)  # a column must keep a value
    return z.masked_fill(hidden, float("nan")), z, hidden


def _chosen(trials: list[Trial], numbers: list[int], kinds: list[tuple[str, ...]], seed: int) -> tuple[Way, float]:
    """The way that restores hidden values best, on the best mixture, and the width of its draws."""
    k = _best_mixture(trials, numbers, seed)
    errors = torch.zeros(len(kinds), dtype=torch.float64)
    fitted = []
    for seen, z, hidden in trials:
        plain, parts = _fitted(seen, k, kinds[-1], _MIXTURES_OF_A_TRIAL, seed)  # the last kind has all parts
        fitted.append((plain, parts))
        if len(kinds) > 1:
            means = {name: part.mean(seen) for name, part in parts.items() if name in kinds[-1]}
            for i, kind in enumerate(kinds):
                filled = torch.stack([means[name] for name in kind]).mean(0)
                errors[i] += (filled - z)[hidden].square().sum()
    best = kinds[int(errors.argmin())]
    true = torch.cat([z[hidden] for _, z, hidden in trials])
    if len(true) < _FEWEST_HIDDEN:
        return Way(k, best), 1.0
    generator, drawn = torch.Generator().manual_seed(derive(seed, "width")), []
    for (seen, _, hidden), (plain, parts) in zip(trials, fitted, strict=True):
        prior = Corrected(plain, tuple(parts[name] for name in best))
        drawn.append(prior.draw(seen, _DRAWS, generator)[:, hidden])
    return Way(k, best), factor(torch.cat(drawn, 1), true)


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
