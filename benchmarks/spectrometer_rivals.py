"""Ways to a spectrum from a few readings that need no diffusion model, for ``spectrometer.py``.

Each is a function ``(train, A, noise, setting, readings) -> spectra``, and a grid of settings of which the caller
takes that with the least squared error on a validation split. ``train`` is (n, D), ``A`` (K, D), readings (m, K).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy import linalg, optimize
from sklearn.decomposition import MiniBatchDictionaryLearning
from sklearn.mixture import GaussianMixture

Array = np.ndarray


@dataclass(frozen=True)
class Rival:
    """A method and the settings among which it is tuned."""

    name: str
    estimate: Callable[[Array, Array, float, Any, Array], Array]
    settings: Sequence[Any]


def second_differences(size: int) -> Array:
    return np.diff(np.eye(size), 2, axis=0)


def nonnegative(train: Array, A: Array, noise: float, smooth: float, y: Array) -> Array:
    """min |y - A x|^2 / noise^2 + smooth |second differences of x|^2 over x >= 0."""
    D = second_differences(A.shape[1])
    matrix = np.concatenate([A / noise, smooth**0.5 * D])
    return np.stack([optimize.nnls(matrix, np.append(row / noise, np.zeros(len(D))))[0] for row in y])


def tikhonov(train: Array, A: Array, noise: float, order: int, y: Array) -> Array:
    """min |y - A x|^2 + lambda |differences of ``order``|^2, lambda of each by generalised cross-validation.

    The differences have a small ridge, without which those of a line would not be penalised.
    """
    size = A.shape[1]
    D = np.diff(np.eye(size), order, axis=0) if order else np.eye(size)
    penalty = D.T @ D + 1e-6 * np.eye(size)
    best, least = np.zeros((len(y), size)), np.full(len(y), np.inf)
    for strength in 10.0 ** np.arange(-10, 2):
        back = linalg.solve(A.T @ A + strength * penalty, A.T, assume_a="pos")
        hat = A @ back
        score = np.square(y - y @ hat.T).sum(1) / np.trace(np.eye(len(A)) - hat) ** 2
        better = score < least
        best[better], least[better] = (y @ back.T)[better], score[better]
    return best


def lasso(train: Array, A: Array, noise: float, setting: tuple[float, bool], y: Array) -> Array:
    """Sparse cosine coefficients of x - centre, by ``sparse``."""
    strength, centred = setting
    size = A.shape[1]
    k, n = np.arange(size)[:, None], np.arange(size)
    basis = np.cos(np.pi * (n + 0.5) * k / size) * np.sqrt(np.where(k == 0, 1, 2) / size)
    centre = train.mean(0) if centred else np.zeros(size)
    return sparse(basis, centre, A, strength, y)


def learned_lasso(train: Array, A: Array, noise: float, setting: tuple[float, int, float], y: Array) -> Array:
    """As ``lasso``, with coefficients in a dictionary learnt from the training spectra about their mean."""
    strength, atoms, penalty = setting
    return sparse(dictionary(train.tobytes(), train.shape[1], atoms, penalty), train.mean(0), A, strength, y)


@cache
def dictionary(train: bytes, size: int, atoms: int, penalty: float) -> Array:
    """Rows of norm 1 in which the centred spectra have sparse coefficients (Mairal et al. 2009)."""
    x = np.frombuffer(train).reshape(-1, size)
    found = MiniBatchDictionaryLearning(atoms, alpha=penalty, max_iter=50, random_state=0).fit(x - x.mean(0))
    return np.asarray(found.components_)


def sparse(basis: Array, centre: Array, A: Array, strength: float, y: Array) -> Array:
    """``centre + s basis`` with s of the least ``|y - A x|^2 / 2 + strength |s|_1``, by accelerated proximal steps."""
    B, target = A @ basis.T, y - A @ centre
    step = 1 / np.linalg.norm(B, 2) ** 2
    x = ahead = np.zeros((len(y), len(basis)))
    t = 1.0
    for _ in range(1500):
        moved = ahead - step * (ahead @ B.T - target) @ B
        new = np.sign(moved) * np.maximum(np.abs(moved) - step * strength, 0)
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        x, ahead = new, new + (before - 1) / t * (new - x)
    return centre + x @ basis


def wiener(train: Array, A: Array, noise: float, ridge: float, y: Array) -> Array:
    """The posterior mean under one Gaussian with the mean and covariance of the training spectra."""
    return posterior_mean(train.mean(0), np.cov(train.T) + ridge * np.eye(A.shape[1]), A, noise, y)


def posterior_mean(mean: Array, covariance: Array, A: Array, noise: float, y: Array) -> Array:
    spread = A @ covariance @ A.T + noise**2 * np.eye(len(A))
    return mean + (y - A @ mean) @ linalg.solve(spread, A @ covariance, assume_a="pos")


def local_wiener(train: Array, A: Array, noise: float, setting: tuple[int, float], y: Array) -> Array:
    """As ``wiener``, from the training spectra whose readings are nearest, weighted by their distance.

    The covariance is mixed with that of all spectra.
    """
    neighbours, share = setting
    everything, readings = np.cov(train.T), train @ A.T
    found = []
    for row in y:
        gap = np.square(readings - row).sum(1)
        nearest = np.argpartition(gap, neighbours)[: neighbours + 1]
        width = np.sqrt(gap[nearest].max())
        weights = np.maximum(1 - gap[nearest] / width**2, 0)
        weights = weights / weights.sum()
        mean = weights @ train[nearest]
        gaps = train[nearest] - mean
        covariance = (1 - share) * (gaps.T * weights) @ gaps + share * everything
        found.append(posterior_mean(mean, covariance, A, noise, row[None])[0])
    return np.stack(found)


def kernel_ridge(train: Array, A: Array, noise: float, setting: tuple[float, float], y: Array) -> Array:
    """Ridge regression with a Gaussian kernel from readings to spectra, trained on two noisy copies of the readings."""
    width, strength = setting
    rng = np.random.default_rng(0)
    readings = np.concatenate([train @ A.T] * 2)
    readings = readings + noise * rng.standard_normal(readings.shape)
    scale = width * np.sqrt(readings.var(0).sum())
    mean, spectra = train.mean(0), np.concatenate([train] * 2)
    kernel = np.exp(-0.5 * squared_distances(readings, readings) / scale**2)
    kernel[np.diag_indices_from(kernel)] += strength
    weights = linalg.solve(kernel, spectra - mean, assume_a="pos")
    return mean + np.exp(-0.5 * squared_distances(y, readings) / scale**2) @ weights


def squared_distances(a: Array, b: Array) -> Array:
    return np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0)


def neighbours(train: Array, A: Array, noise: float, setting: tuple[str, float], y: Array) -> Array:
    """The mean of the spectra with the nearest readings: of k, or of all by the likelihood at a wider noise."""
    kind, value = setting
    gap = squared_distances(y, train @ A.T)
    if kind == "nearest":
        chosen = np.argpartition(gap, int(value), axis=1)[:, : int(value)]
        return train[chosen].mean(1)
    logits = -0.5 * gap / (value * noise) ** 2
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights @ train / weights.sum(1, keepdims=True)


def mixture(train: Array, A: Array, noise: float, setting: tuple[int, float], y: Array) -> Array:
    """The posterior mean under a mixture of Gaussians."""
    return mixture_mean(*fitted_mixture(train.tobytes(), train.shape[1], *setting), A, noise, y)


def mixture_mean(weights: Array, means: Array, covariances: Array, A: Array, noise: float, y: Array) -> Array:
    """The posterior mean under the mixture with these weights (n,), means (n, D) and covariances (n, D, D)."""
    log_weights, found = [], []
    for w, mean, covariance in zip(weights, means, covariances, strict=True):
        spread = A @ covariance @ A.T + noise**2 * np.eye(len(A))
        gap = y - A @ mean
        scaled = linalg.solve(spread, gap.T, assume_a="pos").T
        log_weights.append(np.log(w) - 0.5 * (gap * scaled).sum(1) - 0.5 * np.linalg.slogdet(spread)[1])
        found.append(mean + scaled @ A @ covariance)
    logits = np.stack(log_weights)
    share = np.exp(logits - logits.max(0))
    return np.einsum("km,kmd->md", share / share.sum(0), np.stack(found))


@cache
def fitted_mixture(train: bytes, size: int, components: int, ridge: float) -> tuple[Array, Array, Array]:
    """Weights, means and covariances of a mixture fitted by expectation maximisation."""
    x = np.frombuffer(train).reshape(-1, size)
    found = GaussianMixture(components, reg_covar=ridge, random_state=0, max_iter=300).fit(x)
    return found.weights_, found.means_, found.covariances_


RIVALS = (
    Rival("non-negative, smooth", nonnegative, [10.0**i for i in range(-1, 8)]),
    Rival("Tikhonov, GCV", tikhonov, [0, 1, 2]),
    Rival("LASSO, cosines", lasso, [(10.0**i, centred) for i in range(-8, -1) for centred in (False, True)]),
    Rival(
        "LASSO, learned",
        learned_lasso,
        [(10.0**i, atoms, penalty) for atoms in (32, 128) for penalty in (0.1, 0.3) for i in range(-8, -1)],
    ),
    Rival("Wiener", wiener, [0.0, 1e-6, 1e-5, 1e-4, 1e-3]),
    Rival("local Wiener", local_wiener, [(n, s) for n in (10, 20, 40, 80, 160, 320, 640) for s in (0.001, 0.01, 0.1)]),
    Rival("kernel ridge", kernel_ridge, [(w, 10.0**i) for w in (0.3, 0.6, 1.2, 2.4, 4.8) for i in range(-9, 1, 1)]),
    Rival(
        "neighbours",
        neighbours,
        [("nearest", k) for k in (1, 2, 3, 5, 8, 12, 20, 30)] + [("likelihood", w) for w in (0.7, 1, 1.4, 2, 3, 5)],
    ),
    Rival("mixture", mixture, [(k, 10.0**i) for k in (1, 4, 8, 16, 24, 32, 48, 64) for i in (-6, -5, -4)]),
)
