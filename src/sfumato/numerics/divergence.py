"""Traces of Jacobians: exact, one coordinate at a time, or estimated from random directions."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def divergence(
    field: Callable[[Float[Tensor, "b d"]], Float[Tensor, "b d"]],
    y: Float[Tensor, "b d"],
    probes: Float[Tensor, "p b d"] | None = None,
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b p"]]:
    """``field(y)`` and the trace of its Jacobian, for a field whose sample i depends on sample i alone.

    Arguments:
        field: the field.
        y: the points (B, D).
        probes: directions (P, B, D) of unit covariance. With them, the trace is estimated without bias by ``z . (J z)``
            for each; without them, it is exact, at the cost of D backward passes.

    Returns:
        The field's values (B, D), and the traces (B, P), or (B, 1) where they are exact.

    References:
        Hutchinson 1990.
    """
    with torch.enable_grad():
        y = y.detach().requires_grad_()
        value = field(y)
        if probes is None:
            total = torch.zeros_like(value[:, 0])
            for i in range(y.shape[1]):
                (row,) = torch.autograd.grad(value[:, i].sum(), y, retain_graph=True)
                total = total + row[:, i]
            traces = [total]
        else:
            traces = []
            for z in probes:
                (product,) = torch.autograd.grad(value, y, z, retain_graph=True)
                traces.append((product * z).sum(1))
    return value.detach(), torch.stack(traces, dim=1)
