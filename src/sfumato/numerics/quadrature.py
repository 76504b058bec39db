"""Integrals of interpolating polynomials, the basis of every multistep method."""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

_POINTS = 48  # exact for polynomials of degree 95; exp(-u) on [0, 60] to float64's last digits


@cache
def _gauss_legendre(points: int) -> tuple[Tensor, Tensor]:
    # Golub & Welsch (1969): nodes are the eigenvalues of the Jacobi matrix, weights from the eigenvectors' first row.
    k = torch.arange(1, points, dtype=torch.float64)
    off_diagonal = k / torch.sqrt(4 * k**2 - 1)
    nodes, vectors = torch.linalg.eigh(torch.diag(off_diagonal, 1) + torch.diag(off_diagonal, -1))
    return nodes, 2 * vectors[0] ** 2


def lagrange_integrals(
    nodes: Float[Tensor, "q"], start: Tensor | float, end: Tensor | float, rate: float = 0.0
) -> Float[Tensor, "q"]:
    """``integral from start to end of exp(rate (z - end)) L_j(z) dz`` for the Lagrange polynomials L_j on ``nodes``.

    They are the weights of the values at the nodes in the integral of the polynomial through them, times an exponential
    that is 1 at ``end``. Gauss-Legendre quadrature gives them to float64's rounding for rate (end - start) from -60 to
    60.

    Arguments:
        nodes: the nodes (Q,).
        start: the lower end of the integral.
        end: the upper end of the integral.
        rate: the rate of the exponential.
    """
    points, weights = _gauss_legendre(_POINTS)
    half = (end - start) / 2
    z = start + half * (points + 1)
    kernel = half * weights * torch.exp(rate * (z - end))
    rows = []
    for j in range(len(nodes)):
        others = torch.cat((nodes[:j], nodes[j + 1 :]))
        rows.append((kernel * ((z[:, None] - others) / (nodes[j] - others)).prod(1)).sum())
    return torch.stack(rows)
