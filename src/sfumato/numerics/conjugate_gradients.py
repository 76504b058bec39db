"""Conjugate gradients for many symmetric systems at once, each stopped on its own."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def solve(
    product: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b d"]],
    right: Float[Tensor, "b d"],
    tolerance: float = 1e-4,
    most: int = 100,
) -> tuple[Float[Tensor, "b d"], int]:
    """``x`` with ``M_i x_i = right_i`` for symmetric positive definite matrices M_i, from x = 0.

    Row i stops at ``|M_i x_i - right_i| <= tolerance |right_i|`` and does not change after that, so it does not depend
    on the other rows. A row whose matrix shows a direction of no positive curvature stops there too.

    Arguments:
        product: ``x -> M x``, row by row.
        right: the right-hand sides.
        tolerance: of the residual, relative to the right-hand side.
        most: products at most.

    Returns:
        The solutions, and the number of products.

    References:
        Hestenes & Stiefel 1952.
    """
    x = torch.zeros_like(right)
    residual = right
    direction = residual
    power = _dot(residual, residual)
    goal = tolerance**2 * power
    active = power > goal
    done = 0
    while bool(active.any()) and done < most:
        image = product(direction)
        done += 1
        curvature = _dot(direction, image)
        active = active & (curvature > 0)
        step = torch.where(active, power / curvature, 0.0)
        x = x + step * direction
        residual = residual - step * image
        after = torch.where(active, _dot(residual, residual), power)
        direction = torch.where(active, residual + after / power * direction, direction)
        power = after
        active = active & (power > goal)
    return x, done


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(1, keepdim=True)
