r"""A mixture of Gaussians around samples, as wide as their neighbours lie: manifold Parzen windows of several widths.

    p(x) = sum_b s_b 1/K sum_i N(x_i, C_bi),    C_bi = w (S_i + c P) / (k + c),    S_i = sum_j (x_j - x_i)(x_j - x_i)^T,

with j over the k nearest neighbours of x_i, P the mean of all S_i / k, and b = (k, c, w). Directions in which there are
no neighbours keep the spread of the whole data there, so that the samples of few directions have a density in all.
Vincent & Bengio 2003 have one width, isotropic noise in the place of P, and no w; Smyth & Wolpert 1999 choose shares of
densities by the likelihood of samples left out (stacking).
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .mixtures import LEAST

NOISE = 0.1
"""Noise of the samples that choose, of the standard deviation of the data. Without it the shares would be decided by
directions in which all samples lie on a plane, and which no measurement sees."""
_MOST_ASKED = 400  # samples that choose
_MOST_FITTED = 1600  # samples that are fitted to meanwhile
_ENTRIES = 2**24  # of their covariances, at most
_FOLDS = 5  # each leaves out one of them
_ITERATIONS = 300
_LEAST_SHARE = 0.03
_FLOOR = 1e-6  # of a variance, relative to the mean one of P
_CHUNK = 64  # Gaussians whose distances to all samples are in memory


@dataclass(frozen=True)
class Bandwidth:
    """How wide the Gaussians are.

    Arguments:
        neighbours: k.
        shrinkage: c, in samples.
        width: w.
    """

    neighbours: int
    shrinkage: float
    width: float


def covariances(x: Float[Tensor, "n d"], centres: Int64[Tensor, "k"], bandwidth: Bandwidth) -> Float[Tensor, "k d d"]:
    """C_i of the Gaussians at ``x[centres]``, with neighbours among all of ``x``.

    P is the mean over all samples, of many over every second, third, ... of them.
    """
    k = bandwidth.neighbours
    scatter = torch.cat(list(_scatters(x, centres, k)))
    if len(centres) == len(x):
        pooled = scatter.mean(0) / k
    else:  # of few centres the mean would have few directions
        some = torch.arange(len(x))[:: -(-len(x) // _MOST_FITTED)]
        pooled = torch.stack([own.sum(0) for own in _scatters(x, some, k)]).sum(0) / (len(some) * k)
    return bandwidth.width * _shrunk(scatter, pooled, k, bandwidth.shrinkage)


def gaussians(
    x: Float[Tensor, "n d"], shares: Mapping[Bandwidth, float], most: int, generator: torch.Generator
) -> tuple[Float[Tensor, "k"], Float[Tensor, "k d"], Float[Tensor, "k d d"]]:
    """Weights, means and covariances of at most ``most`` Gaussians.

    Every sample has one of each bandwidth where there is room. Else each bandwidth gets its share of the room, and as
    many samples as can be have one before any has two.

    Arguments:
        x: the samples.
        shares: of the bandwidths, as ``stacked`` finds them.
        most: at least 1. Where there are more bandwidths, those of the largest shares stay.
        generator: chooses samples where there is too little room.
    """
    kept = sorted(shares, key=shares.__getitem__, reverse=True)[:most]
    total = sum(shares[bandwidth] for bandwidth in kept)
    order, used, left = torch.randperm(len(x), generator=generator), 0, 1.0
    weights, centres, spreads = [], [], []
    for i, bandwidth in enumerate(kept):
        share, room = shares[bandwidth] / total, most - used
        others = len(kept) - i - 1
        count = max(min(round(room * share / left), len(x), room - others), 1) if others else min(room, len(x))
        own = order[torch.arange(used, used + count) % len(x)].sort().values
        weights.append(torch.full((count,), share / count, dtype=x.dtype))
        centres.append(x[own])
        spreads.append(covariances(x, own, bandwidth))
        used, left = used + count, left - share
    return torch.cat(weights), torch.cat(centres), torch.cat(spreads)


def stacked(
    x: Float[Tensor, "n d"],
    generator: torch.Generator,
    neighbours: Sequence[int],
    shrinkages: Sequence[float],
    widths: Sequence[float],
) -> dict[Bandwidth, float]:
    """Shares s_b of bandwidths, under which samples with noise of ``NOISE`` are likeliest given other samples.

    Each fifth of the samples is left out once, by EM on the shares; shares below 0.03 are dropped.

    Arguments:
        x: at least 3 samples. At most 2,000 are looked at.
        generator: chooses the fifths, and their noise.
        neighbours: values of k to try.
        shrinkages: values of c.
        widths: values of w.
    """
    order = torch.randperm(len(x), generator=generator)
    noise = NOISE * float((x - x.mean(0)).square().mean().sqrt())
    most_fitted = max(min(_MOST_FITTED, _ENTRIES // x.shape[1] ** 2), 2)
    logs: dict[Bandwidth, list[Tensor]] = {}
    for held, others in _folds(order, most_fitted):
        asked = x[held] + noise * torch.randn(len(held), x.shape[1], generator=generator, dtype=x.dtype)
        for k in dict.fromkeys(min(k, len(others) - 1) for k in neighbours):
            scatter = torch.cat(list(_scatters(x[others], torch.arange(len(others)), k)))
            pooled = scatter.mean(0) / k
            for c in shrinkages:
                found = _log_densities(asked, x[others], _shrunk(scatter, pooled, k, c), widths, noise**2)
                for w, own in zip(widths, found, strict=True):
                    logs.setdefault(Bandwidth(k, c, w), []).append(own)
    return _shares({bandwidth: torch.cat(own) for bandwidth, own in logs.items()})


def _folds(order: Tensor, most_fitted: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples left out and samples fitted to; of many samples one fold is enough."""
    folds = [order[i::_FOLDS] for i in range(min(_FOLDS, len(order)))]
    used = folds if len(order) <= _MOST_ASKED else folds[:1]
    for i, held in enumerate(used):
        others = torch.cat(folds[:i] + folds[i + 1 :])
        yield held[:_MOST_ASKED], others[:most_fitted]


def _log_densities(
    x: Tensor, centres: Tensor, spread: Tensor, widths: Sequence[float], variance: float
) -> Float[Tensor, "w n"]:
    """log p of samples with noise of this variance under equal Gaussians of covariance w ``spread``, for each width."""
    variances, axes = torch.linalg.eigh(spread)
    wide = torch.tensor(widths, dtype=x.dtype)[:, None] * variances.clamp(min=0)[:, None] + variance  # (k, w, d)
    found = []
    for i, j in itertools.pairwise([*range(0, len(centres), _CHUNK), len(centres)]):
        away = (x - centres[i:j, None]) @ axes[i:j]  # (k, n, d)
        found.append(away.square() @ (1 / wide[i:j]).mT + wide[i:j].log().sum(-1)[:, None])
    logs = -0.5 * (torch.cat(found) + x.shape[1] * math.log(2 * math.pi))
    return (logs.logsumexp(0) - math.log(len(centres))).T


def _shares(logs: dict[Bandwidth, Tensor]) -> dict[Bandwidth, float]:
    values = torch.stack(list(logs.values()))  # (b, n)
    shares = torch.full((len(values),), 1 / len(values), dtype=values.dtype)
    for _ in range(_ITERATIONS):
        shares = (shares.log()[:, None] + values).softmax(0).mean(1)
    shares = torch.where(shares < min(_LEAST_SHARE, float(shares.max())), 0.0, shares)
    return {b: float(s) for b, s in zip(logs, shares / shares.sum(), strict=True) if s > 0}


def _scatters(x: Tensor, centres: Tensor, neighbours: int) -> Iterator[Float[Tensor, "k d d"]]:
    """S_i of each centre, some at a time."""
    for own in torch.split(centres, _CHUNK):
        apart = torch.cdist(x[own], x)
        apart[torch.arange(len(own)), own] = torch.inf  # a sample is no neighbour of its own
        gaps = x[apart.topk(neighbours, largest=False).indices] - x[own, None]
        yield gaps.mT @ gaps


def _shrunk(scatter: Tensor, pooled: Tensor, neighbours: int, shrinkage: float) -> Float[Tensor, "k d d"]:
    floor = _FLOOR * float(pooled.diagonal().mean()) + LEAST
    mixed = (scatter + shrinkage * pooled) / (neighbours + shrinkage)
    return mixed + floor * torch.eye(len(pooled), dtype=scatter.dtype)
