"""Systems whose matrix is the identity and a covariance, where what should be a covariance is not quite one.

The Jacobian of a network is not symmetric and has negative eigenvalues, though that of an exact denoiser is a
covariance. Conjugate gradients end at the first of these directions, or step far along it.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_EVERY = 4  # iterations between looks at the residual, after the first
_TINY = 1e-6  # of a new direction, relative to its image: the space is exhausted


def solve(
    product: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b d"]],
    right: Float[Tensor, "b d"],
    tolerance: float = 1e-4,
    most: int = 100,
) -> Float[Tensor, "b d"]:
    """``x = sum_j u_j (u_j . right) / m_j`` over the eigenvectors u_j of M_i whose eigenvalues m_j are at least 1.

    For ``M = 1 + W C W^T`` with a covariance C this solves ``M x = right``. What rounding takes from x are directions
    with ``W C W^T u = 0``, where ``C W^T u = 0`` too, so that ``C W^T x`` is the same. A direction of negative
    curvature is treated as one of these: no measurement tells of it.

    M is replaced by the symmetric part of its projection to the Krylov space of ``right`` (Arnoldi; of a symmetric
    matrix Lanczos, whose x is that of conjugate gradients). Row i stops where the residual in the other directions is
    at most ``tolerance |right_i|``, and does not depend on other rows. A row where
    ``right`` or ``product`` is not finite is NaN.

    Arguments:
        product: ``x -> M x``, row by row.
        right: the right-hand sides.
        tolerance: of the residual, relative to the right-hand side.
        most: products at most.

    References:
        Saad 2003, chapter 6.
    """
    rows, size = right.shape
    most = min(most, size)
    lost = ~right.isfinite().all(dim=1)
    right = right.masked_fill(lost[:, None], 0.0)
    norm = right.norm(dim=1)
    basis = (right / norm.clamp(min=torch.finfo(right.dtype).tiny)[:, None])[:, None]  # (b, k, d)
    projected = torch.zeros(rows, most, most, dtype=torch.float64)  # small matrices, on the CPU
    found = torch.zeros(rows, most, dtype=torch.float64)
    active = norm > 0
    for k in range(most):
        image = product(basis[:, -1])
        length = image.norm(dim=1)
        lost = lost | ~length.isfinite()
        image, length = image.masked_fill(lost[:, None], 0.0), length.masked_fill(lost, 0.0)  # eigh refuses NaN
        for _ in range(2):  # the second removes what rounding left
            parts = (basis @ image[..., None])[..., 0]
            image = image - (parts[:, None] @ basis)[:, 0]
            projected[:, : k + 1, k] += parts.cpu().double()
        beyond = image.norm(dim=1)
        ended = beyond <= _TINY * length
        last = k == most - 1
        if k < _EVERY or k % _EVERY == 0 or last or bool((ended & active).any()):
            y, last_part = _positive(projected[:, : k + 1, : k + 1])
            small = beyond.cpu().double() * last_part <= tolerance
            stopped = active.cpu() & (last | ended.cpu() | small)
            found[:, : k + 1] = torch.where(stopped[:, None], y, found[:, : k + 1])
            active = active & ~stopped.to(active.device)
            if not bool(active.any()):
                break
        projected[:, k + 1, k] = torch.where(ended, 0.0, beyond).cpu().double()
        following = image / torch.where(ended, torch.inf, beyond)[:, None]
        basis = torch.cat([basis, following[:, None]], 1)
    x: Tensor = norm[:, None] * (found[:, None, : basis.shape[1]].to(right) @ basis)[:, 0]
    return x.masked_fill(lost[:, None], torch.nan)


def _positive(projected: Float[Tensor, "b k k"]) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b"]]:
    """The first column y of the inverse of the symmetric part, over its eigenvalues of at least 1, and its last number.

    The residual is as large as that number. Where eigenvalues are left out, their directions are not yet known, and y
    may be 0: then the sum of all contributions to it, whatever their sign, bounds it.
    """
    values, vectors = torch.linalg.eigh((projected + projected.mT) / 2)
    kept = values >= 1 - 1e-9
    parts = vectors * vectors[:, :1]
    y = (parts * torch.where(kept, 1 / values, 0.0)[:, None]).sum(2)
    bound = (parts[:, -1].abs() / values.abs().clamp(min=1)).sum(1)
    return y, torch.where(kept.all(1), y[:, -1].abs(), bound)
