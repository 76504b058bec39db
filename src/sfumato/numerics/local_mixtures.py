r"""A mixture of one Gaussian per sample, as wide as its neighbours lie: manifold Parzen windows.

    p(x) = 1/K sum_i N(x_i, C_i),    C_i = w (S_i + c P) / (k + c),    S_i = sum_j (x_j - x_i)(x_j - x_i)^T,

with j over the k nearest neighbours of x_i, and P the mean of all S_i / k. Directions in which there are no neighbours
keep the spread of the whole data there, so that the samples of few directions have a density in all. Vincent & Bengio
2003 have isotropic noise in the place of P, and no w.
"""

import itertools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from .mixtures import LEAST

NEIGHBOURS, SHRINKAGES, WIDTHS = (5, 10, 20, 40), (0.5, 1.0, 2.0), (0.3, 0.5, 0.8)
"""What ``likeliest`` tries."""
_ASKED = 2000  # samples that choose, at most: seconds
_HELD_OUT = 5  # one in so many of them
_FLOOR = 1e-4  # of a variance, relative to the mean one of P
_CHUNK = 256  # Gaussians whose distances to all samples are in memory


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
    """C_i of the Gaussians at ``x[centres]``, with neighbours among all of ``x``."""
    scatter = _scatter(x, centres, bandwidth.neighbours)
    return bandwidth.width * _shrunk(scatter, bandwidth.neighbours, bandwidth.shrinkage)


def likeliest(
    x: Float[Tensor, "n d"],
    generator: torch.Generator,
    neighbours: int | None = None,
    shrinkage: float | None = None,
    width: float | None = None,
) -> Bandwidth:
    """The widths under which a fifth of the samples, at most 400, is likeliest given the others.

    Arguments:
        x: at least 3 samples.
        generator: chooses that fifth.
        neighbours: k if it is given; by default it is chosen too.
        shrinkage: c, likewise.
        width: w, likewise.
    """
    order = torch.randperm(len(x), generator=generator)[:_ASKED]
    held = max(len(order) // _HELD_OUT, 1)
    asked, fitted = x[order[:held]], x[order[held:]]
    ks = [k for k in NEIGHBOURS if k < len(fitted)] or [len(fitted) - 1]
    cs, ws = SHRINKAGES if shrinkage is None else (shrinkage,), WIDTHS if width is None else (width,)
    best = (-math.inf, Bandwidth(1, 1.0, 1.0))
    for k in ks if neighbours is None else [min(neighbours, len(fitted) - 1)]:
        scatter = _scatter(fitted, torch.arange(len(fitted)), k)
        for c in cs:
            squares, volumes = _distances(asked, fitted, _shrunk(scatter, k, c))
            for w in ws:
                logs = -0.5 * (squares / w + volumes[:, None] + x.shape[1] * math.log(w))
                best = max(best, (float(logs.logsumexp(0).mean()), Bandwidth(k, c, w)), key=lambda one: one[0])
    return best[1]


def _scatter(x: Tensor, centres: Tensor, neighbours: int) -> Float[Tensor, "k d d"]:
    """S_i of each centre."""
    found = []
    for own in torch.split(centres, _CHUNK):
        apart = torch.cdist(x[own], x)
        apart[torch.arange(len(own)), own] = torch.inf  # a sample is no neighbour of its own
        gaps = x[apart.topk(neighbours, largest=False).indices] - x[own, None]
        found.append(gaps.mT @ gaps)
    return torch.cat(found)


def _shrunk(scatter: Tensor, neighbours: int, shrinkage: float) -> Float[Tensor, "k d d"]:
    pooled = scatter.mean(0) / neighbours
    floor = _FLOOR * float(pooled.diagonal().mean()) + LEAST
    mixed = (scatter + shrinkage * pooled) / (neighbours + shrinkage)
    return mixed + floor * torch.eye(len(pooled), dtype=scatter.dtype)


def _distances(x: Tensor, centres: Tensor, spread: Tensor) -> tuple[Float[Tensor, "k n"], Float[Tensor, "k"]]:
    """Squared Mahalanobis distances of all samples to all centres, and log |C| of each."""
    roots, found = torch.linalg.cholesky(spread), []
    for i, j in itertools.pairwise([*range(0, len(centres), _CHUNK), len(centres)]):
        gaps = (x[None] - centres[i:j, None]).mT
        found.append(torch.linalg.solve_triangular(roots[i:j], gaps, upper=False).square().sum(1))
    return torch.cat(found), 2 * roots.diagonal(dim1=1, dim2=2).log().sum(1)
