"""Exact denoisers: closed-form estimates for Gaussians and mixtures of Gaussians.

If ``x_0 ~ sum_k w_k N(m_k, C_k)`` then at every level ``x_t ~ sum_k w_k N(alpha m_k, alpha^2 C_k + sigma^2 I)``, and
within a component everything is linear: with ``g = (alpha^2 C_k + sigma^2 I)^-1 (x_t - alpha m_k)``,

    E[x_0 | x_t, k] = m_k + alpha C_k g,    E[eps | x_t, k] = sigma g,

averaged over the components' posterior weights. They need no training and have no error, so tests, certification and
teaching use them.
"""

import math
from dataclasses import dataclass, field
from typing import SupportsIndex

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sfumato.core import Level, Prediction, Process
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

from .base import Denoiser
from .condition import NOT_GIVEN, Condition


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """``sum_k weights_k N(means_k, covariances_k)`` over D numbers, float64.

    Arguments:
        weights: positive numbers (K,) that sum to 1.
        means: (K, D).
        covariances: (K, D, D), symmetric and positive semi-definite.

    Raises:
        InputError: shapes that disagree, or weights or covariances that are not as above.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    _variances: Tensor = field(init=False, repr=False)  # (K, D): eigenvalues of each covariance
    _axes: Tensor | None = field(init=False, repr=False)  # (K, D, D): eigenvectors as columns; None: the unit's
    _common: float | None = field(init=False, repr=False)  # c, if every covariance is c I

    def __post_init__(self) -> None:
        weights, means, covariances = (
            torch.as_tensor(v, dtype=torch.float64) for v in (self.weights, self.means, self.covariances)
        )
        K, D = means.shape if means.ndim == 2 else (-1, -1)
        if weights.shape != (K,) or covariances.shape != (K, D, D):
            raise InputError(
                f"mixture: weights {tuple(weights.shape)}, means {tuple(means.shape)}, covariances "
                f"{tuple(covariances.shape)} disagree; give (K,), (K, D), (K, D, D)"
            )
        if not (weights > 0).all() or abs(float(weights.sum()) - 1) > 1e-6:  # float32 weights are accepted
            raise InputError(f"weights: {weights.tolist()} must be positive and of sum 1")
        weights = weights / weights.sum()
        variances, axes = torch.linalg.eigh(covariances)
        # eigh reads one triangle only; a covariance computed in float32 is asymmetric by its rounding.
        slack = 1e-6 * covariances.abs().amax(dim=(1, 2), keepdim=True)
        asymmetry = (covariances - covariances.mT).abs()
        if (asymmetry > slack).any() or (variances < -slack[:, 0]).any():
            raise InputError("covariances: each must be symmetric with no negative eigenvalue")
        for name, value in (("weights", weights), ("means", means), ("covariances", covariances)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_variances", variances.clamp(min=0))
        own = torch.eye(D, dtype=torch.float64).expand_as(axes)
        object.__setattr__(self, "_axes", None if torch.equal(axes, own) else axes)
        object.__setattr__(self, "_common", self._common_variance())

    def _common_variance(self) -> float | None:
        """The variance of all components in all directions, where there is one and products of means are exact enough.

        Terms of size |m|^2 / variance cancel in the log-weights: at most 1e6, which leaves 1e-9 of float64.
        """
        variance = float(self._variances.flatten()[0])
        same = self._axes is None and bool((self._variances == variance).all())
        return variance if same and float(self.means.pow(2).sum(1).max()) <= 1e6 * variance else None

    @classmethod
    def gaussian(cls, mean: Float[Tensor, "d"], covariance: Float[Tensor, "d d"]) -> "GaussianMixture":
        """A single Gaussian N(mean, covariance)."""
        return cls(torch.ones(1, dtype=torch.float64), mean[None], covariance[None])

    @classmethod
    def isotropic(
        cls, means: Float[Tensor, "k d"], std: float, weights: Float[Tensor, "k"] | None = None
    ) -> "GaussianMixture":
        """Components of covariance ``std^2 I``; without ``weights`` of equal weight."""
        K, D = means.shape
        if weights is None:
            weights = torch.full((K,), 1 / K, dtype=torch.float64)
        return cls(weights, means, std**2 * torch.eye(D, dtype=torch.float64).expand(K, D, D))

    def sample(self, count: SupportsIndex, generator: torch.Generator) -> Float[Tensor, "count d"]:
        """Independent draws, float64."""
        n = whole("count", count, 1)
        return self.sample_from(torch.multinomial(self.weights, n, replacement=True, generator=generator), generator)

    def sample_from(self, k: Int64[Tensor, "count"], generator: torch.Generator) -> Float[Tensor, "count d"]:
        """An independent draw of each of the components ``k``, float64."""
        z = torch.randn(len(k), self.means.shape[1], generator=generator, dtype=torch.float64)
        z = self._variances[k].sqrt() * z
        return self.means[k] + (z if self._axes is None else torch.einsum("nde,ne->nd", self._axes[k], z))

    def log_prob(self, x_t: Float[Tensor, "b *s"], level: Level | None = None) -> Float[Tensor, "b"]:
        """The log-density of ``x_t`` in nats at a ``level`` of shape () or (B,); without one, that of clean data."""
        x = x_t.flatten(1).double()
        if level is None:
            one = torch.ones((), dtype=torch.float64)
            level = Level(one, one * 0, one * math.inf)
        log_weights, _, _ = self._components(x, level)
        return log_weights.logsumexp(1).to(x_t.dtype)

    def predict(
        self, x_t: Float[Tensor, "b *s"], level: Level, within: Bool[Tensor, "b k"] | None = None
    ) -> Prediction:
        """E[x_0 | x_t] and E[eps | x_t] at a ``level`` of shape () or (B,), with x_t's shape and type.

        ``within`` says which components each sample can be of; by default all.
        """
        x = x_t.flatten(1).double()
        x_0, eps = (self._of_axes if self._common is None else self._of_spheres)(x, level, within)
        return Prediction(x_0.reshape(x_t.shape).to(x_t.dtype), eps.reshape(x_t.shape).to(x_t.dtype))

    def _of_axes(self, x: Tensor, level: Level, within: Tensor | None) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t] and E[eps | x_t], (B, D) each, with numbers (B, K, D) on the way."""
        log_weights, shrunk, spread = self._components(x, level)
        weights = _weights(log_weights, within)
        alpha, sigma = level.alpha.reshape(-1, 1), level.sigma.reshape(-1, 1)
        g, pulled = self._from_axes(shrunk), self._from_axes(spread)
        x_0 = torch.einsum("bk,bkd->bd", weights, self.means + alpha[:, None] * pulled)
        return x_0, sigma * torch.einsum("bk,bkd->bd", weights, g)

    def _of_spheres(self, x: Tensor, level: Level, within: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same where every covariance is ``c I``: two products of matrices, many times faster.

        |x|^2 is common to all components, so log w_k + (alpha x m_k - alpha^2 |m_k|^2 / 2) / (alpha^2 c + sigma^2).
        """
        assert self._common is not None
        alpha, sigma = level.alpha.reshape(-1, 1), level.sigma.reshape(-1, 1)
        variance = alpha**2 * self._common + sigma**2
        power = (alpha * (x @ self.means.T) - 0.5 * alpha**2 * self.means.pow(2).sum(1)) / variance
        mean = _weights(self.weights.log() + power, within) @ self.means
        g = (x - alpha * mean) / variance
        return mean + alpha * self._common * g, sigma * g

    def _components(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """log w_k N(x; ...) of shape (B, K); and g and C g in the axes of each component, both (B, K, D)."""
        alpha, sigma = level.alpha.reshape(-1, 1, 1), level.sigma.reshape(-1, 1, 1)
        centred = x[:, None] - alpha * self.means
        if self._axes is not None:
            centred = torch.einsum("kde,bkd->bke", self._axes, centred)
        variances = alpha**2 * self._variances + sigma**2  # (B or 1, K, D)
        shrunk = centred / variances
        quadratic = (centred * shrunk + variances.log() + math.log(2 * math.pi)).sum(2)
        return self.weights.log() - 0.5 * quadratic, shrunk, self._variances * shrunk

    def _from_axes(self, v: Tensor) -> Tensor:
        """Vectors (B, K, D) in the axes of each component, in the coordinate axes."""
        return v if self._axes is None else torch.einsum("kde,bke->bkd", self._axes, v)


def _weights(log_weights: Tensor, within: Tensor | None) -> Tensor:
    """Of components (B, K), of which those ``within`` are possible."""
    return (log_weights if within is None else log_weights.masked_fill(~within, -math.inf)).softmax(1)


class ExactDenoiser(Denoiser):
    """The exact estimates for a known distribution under a process; samples of any shape with D numbers.

    With ``labels``, a class is the mixture of its own components, with their weights relative to each other. A sample
    whose class is not given is of the whole mixture.

    Arguments:
        process: the process.
        distribution: the distribution of clean data.
        labels: the class of each component (K,); None takes no condition.
    """

    def __init__(
        self, process: Process, distribution: GaussianMixture, labels: Int64[Tensor, "k"] | None = None
    ) -> None:
        super().__init__()
        self.process = process
        self.distribution = distribution
        self.labels = labels

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        return self.distribution.predict(x_t, self.process.level(t), None if cond is None else self._within(cond))

    def _within(self, cond: Condition) -> Bool[Tensor, "b k"]:
        """Which components each sample can be of."""
        if self.labels is None:
            raise InputError("cond: an exact denoiser of a mixture without labels takes no condition")
        if cond.classes is None or len(cond.tensors) > 1:
            raise InputError(f"cond: this denoiser takes classes alone, not {', '.join(cond.tensors)}")
        found: Tensor = (cond.classes[:, None] == self.labels) | (cond.classes[:, None] == NOT_GIVEN)
        if not found.any(1).all():
            raise InputError(f"cond: a class has no component; give classes of {sorted(set(self.labels.tolist()))}")
        return found
