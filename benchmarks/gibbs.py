r"""Draws of the exact posterior of a sum of independent increments, by Gibbs sampling: the truth of ``processes.py``.

A signal is ``x_i = u_0 + ... + u_i``, and its readings are ``y = A x + noise z``. The increments are Gaussians with
variances v of their own, ``u_i = sqrt(v_i) z_i``:

    Gaussian           v = s^2                                   the posterior has a closed form
    Student            v ~ inverse gamma                         v | u is inverse gamma
    Laplace            v ~ exponential                           v | u is the reciprocal of an inverse Gaussian
    BernoulliLaplace   v = 0 with probability 1 - p, else exponential: v has to be drawn with u integrated out

Given v, all is Gaussian: ``y ~ N(0, S)``, ``S = H V H^T + noise^2`` with H = A times the sums, and u is drawn by
Matheron's rule, which allows v = 0. For spikes, ``K = H^T S^-1 H`` and ``w = H^T S^-1 y`` tell what another v_i would
do to p(y | v), and follow each change of it (rank one). One v_i changes at a time, and then two change places, so that
a jump can move where nothing was measured.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
_REACH = 8  # the furthest that two variances change places


class Increments(ABC):
    """The law of the increments."""

    @abstractmethod
    def variances(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        """Draws of v from the prior."""

    def refreshed(self, v: Array, u: Array, rng: np.random.Generator) -> Array:
        """A draw of v given u, where v was."""
        return v

    def sample(self, count: int, size: int, rng: np.random.Generator) -> Array:
        """Signals (count, size)."""
        u = np.sqrt(self.variances((count, size), rng)) * rng.standard_normal((count, size))
        return u.cumsum(1)

    @property
    @abstractmethod
    def variance(self) -> float:
        """Of an increment."""


@dataclass(frozen=True)
class Gaussian(Increments):
    """N(0, scale^2)."""

    scale: float = 1.0

    def variances(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.full(shape, self.scale**2)

    @property
    def variance(self) -> float:
        return self.scale**2


@dataclass(frozen=True)
class Student(Increments):
    """``scale`` times Student's t with ``freedom`` degrees of freedom."""

    freedom: float = 3.0
    scale: float = 1.0

    def variances(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return self.scale**2 * self.freedom / rng.chisquare(self.freedom, shape)

    def refreshed(self, v: Array, u: Array, rng: np.random.Generator) -> Array:
        return (self.freedom * self.scale**2 + u**2) / rng.chisquare(self.freedom + 1, u.shape)

    @property
    def variance(self) -> float:
        return self.scale**2 * self.freedom / (self.freedom - 2)


@dataclass(frozen=True)
class Laplace(Increments):
    """Density ~ exp(-|u| / scale)."""

    scale: float = 1.0

    def variances(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return 2 * self.scale**2 * rng.exponential(size=shape)

    def refreshed(self, v: Array, u: Array, rng: np.random.Generator) -> Array:
        size = np.maximum(np.abs(u), 1e-9 * self.scale)
        return rng.wald(self.scale * size, size**2) + self.scale**2 * rng.chisquare(1, u.shape)

    @property
    def variance(self) -> float:
        return 2 * self.scale**2


@dataclass(frozen=True)
class BernoulliLaplace(Increments):
    """0, or with probability ``share`` Laplace."""

    share: float = 0.1
    scale: float = 1.0

    @property
    def slab(self) -> Laplace:
        return Laplace(self.scale)

    def variances(self, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
        return np.where(rng.random(shape) < self.share, self.slab.variances(shape, rng), 0.0)

    def refreshed(self, v: Array, u: Array, rng: np.random.Generator) -> Array:
        return np.where(v > 0, self.slab.refreshed(v, u, rng), 0.0)

    @property
    def variance(self) -> float:
        return self.share * self.slab.variance


@dataclass(frozen=True)
class Truth:
    """The posterior of M measurements.

    Arguments:
        mean: (M, D).
        power: the sum of the posterior variances (M,).
        draws: (M, n, D).
        error: the expected squared error of ``mean`` (M,), from two independent chains.
    """

    mean: Array
    power: Array
    draws: Array
    error: Array


def posterior(
    law: Increments, A: Array, noise: float, y: Array, sweeps: int, kept: int, rng: np.random.Generator
) -> Truth:
    """Two chains of ``sweeps`` for each row of ``y`` (M, readings), after a fifth as many that are left out.

    ``kept`` draws, spread over both chains, are returned.
    """
    H = np.cumsum(A[:, ::-1], 1)[:, ::-1]  # A times the sums
    rows = np.concatenate([y, y])
    v = law.variances((len(rows), A.shape[1]), rng)
    total, square, draws = np.zeros_like(v), np.zeros_like(v), []
    every, left_out = max(1, sweeps // -(-kept // 2)), sweeps // 5
    for sweep in range(-left_out, sweeps):
        if isinstance(law, BernoulliLaplace):
            v = _spikes(law, v, H, noise, rows, rng)
        mean, u = _increments(v, H, noise, rows, rng)
        v = law.refreshed(v, u, rng)
        if sweep >= 0:
            x = u.cumsum(1)
            total += mean.cumsum(1)
            square += x**2
            if sweep % every == 0:
                draws.append(x)
    halves = (total / sweeps).reshape(2, *y.shape[:1], -1)
    mean = halves.mean(0)
    power = ((square / sweeps).reshape(halves.shape).mean(0) - mean**2).sum(1)
    both = np.stack(draws, 1).reshape(2, len(y), -1, A.shape[1])
    error = np.square(halves[0] - halves[1]).sum(1) / 4
    return Truth(mean, power, np.concatenate(list(both), 1)[:, :kept], error)


def _increments(v: Array, H: Array, noise: float, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """The mean of u given v and y, and a draw of it."""
    u = np.sqrt(v) * rng.standard_normal(v.shape)
    gap = y - u @ H.T - noise * rng.standard_normal(y.shape)
    back = np.linalg.solve(_spread(v, H, noise), np.stack([y, gap], 2))  # (B, readings, 2)
    mean, change = np.moveaxis(v[..., None] * (H.T @ back), 2, 0)
    return mean, u + change


def _spread(v: Array, H: Array, noise: float) -> Array:
    return (v[:, None] * H) @ H.T + noise**2 * np.eye(len(H))


def _spikes(law: BernoulliLaplace, v: Array, H: Array, noise: float, y: Array, rng: np.random.Generator) -> Array:
    """Each v_i given the others and y; then pairs change places, by Metropolis."""
    v, size = v.copy(), v.shape[1]
    back = np.linalg.solve(_spread(v, H, noise), np.broadcast_to(H, (len(v), *H.shape)))
    K, w = H.T @ back, (y[:, None] @ back)[:, 0]
    odds = np.log(law.share / (1 - law.share))
    for i in rng.permutation(size):
        size_of = np.where(v[:, i] > 0, v[:, i], law.slab.variances((len(v),), rng))
        left = 1 - v[:, i] * K[:, i, i]  # K_ii and w_i without v_i are these over ``left``
        k, pull = K[:, i, i] / left, w[:, i] / left
        spike = odds - 0.5 * np.log1p(size_of * k) + 0.5 * size_of * pull**2 / (1 + size_of * k)
        new = np.where(rng.logistic(size=len(v)) < spike, size_of, 0.0)
        _change(K, w, v, np.full(len(v), i), new)
    every = np.arange(len(v))
    for _ in range(size):
        i = rng.integers(0, size, len(v))
        j = i + rng.integers(1, _REACH + 1, len(v)) * rng.choice([-1, 1], len(v))
        j = np.where((j >= 0) & (j < size), j, i)  # nothing changes
        at_i, at_j = v[every, i], v[every, j]
        gain = _gain(K[every, i, i], K[every, j, j], K[every, i, j], w[every, i], w[every, j], at_j - at_i)
        taken = -rng.exponential(size=len(v)) < gain
        _change(K, w, v, i, np.where(taken, at_j, at_i))
        _change(K, w, v, j, np.where(taken, at_i, at_j))
    return v


def _gain(a: Array, b: Array, c: Array, p: Array, q: Array, change: Array) -> Array:
    """What log p(y | v) gains when ``change`` is added to v_i and taken from v_j; K is a, b, c at ii, jj, ij."""
    determinant = (1 + change * a) * (1 - change * b) + (change * c) ** 2
    fit = change * (p**2 - q**2) - change**2 * (b * p**2 + a * q**2 - 2 * c * p * q)
    return -0.5 * np.log(determinant) + 0.5 * fit / determinant


def _change(K: Array, w: Array, v: Array, i: Array, new: Array) -> None:
    """Let v_i of each row be ``new``, and K and w follow."""
    rows = np.flatnonzero(new != v[np.arange(len(v)), i])
    i, new = i[rows], new[rows]
    change = new - v[rows, i]
    k = K[rows, :, i]
    share = change / (1 + change * k[np.arange(len(rows)), i])
    w[rows] -= (share * w[rows, i])[:, None] * k
    K[rows] -= share[:, None, None] * k[:, :, None] * k[:, None]
    v[rows, i] = new
