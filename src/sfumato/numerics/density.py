"""A learned density on [0, 1]: constant on equal cells, with exact distribution function and quantiles."""

import math
from collections.abc import Callable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.numerics.integers import whole

from .bounds import FARTHEST, kept_within

SPEED = 10.0
"""The speed of a parameter here relative to a weight under the same optimiser: it has farther to go."""
LEAST = 20.0
"""No cell has less than exp(-LEAST) of the mass of the largest: float64 then tells the ends of all cells apart."""


class Density(nn.Module):
    """``p(x) = K softmax(SPEED change)_k`` for x in cell k of K; uniform at first. Results are float64.

    For all finite parameters, the distribution function rises strictly: a cell has at least ``exp(-LEAST)`` of the
    largest mass.

    Only ``log_prob`` carries a gradient to the cells; ``quantile`` and ``cdf`` do not.

    Arguments:
        cells: K, the number of cells.

    Raises:
        InputError: no cell.
    """

    def __init__(self, cells: SupportsIndex) -> None:
        super().__init__()
        self.change = nn.Parameter(torch.zeros(whole("cells", cells, 1)))
        self._squares: Tensor | None = None  # (sum, count) of those in the current gradient

    def _log_masses(self) -> Tensor:
        logits = SPEED * self.change.double()
        highest = logits.detach().max().clamp(-FARTHEST, FARTHEST)
        return torch.log_softmax(kept_within(logits, highest - LEAST, highest), 0)

    def _knots(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The distribution function at the K + 1 ends of cells, from 0 to 1, and the cells' masses, on x's device."""
        masses = self._log_masses().detach().exp().to(x.device)
        knots = torch.cat((masses.new_zeros(1), masses.cumsum(0)))
        return knots / knots[-1], masses

    def log_prob(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """``log p(x)``."""
        K = len(self.change)
        cell = (x.detach() * K).long().clamp(0, K - 1)
        return (self._log_masses() + math.log(K)).to(x.device)[cell]

    def cdf(self, x: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The mass below x."""
        K = len(self.change)
        knots, _ = self._knots(x)
        cell = (x.detach() * K).long().clamp(0, K - 1)
        return knots[cell] + (x * K - cell) * (knots[cell + 1] - knots[cell])

    def quantile(self, u: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The x with mass u below it."""
        K = len(self.change)
        knots, _ = self._knots(u)
        cell = (torch.searchsorted(knots, u.detach().contiguous(), right=True) - 1).clamp(0, K - 1)
        return (cell + (u - knots[cell]) / (knots[cell + 1] - knots[cell])) / K

    def variance_surrogate(self, values: Float[Tensor, "b"], log_prob: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Zeros (B,) with the gradient that lowers the variance of ``mean(values)``, drawn from ``exp(log_prob)``.

        For an estimate ``m(x) / p(x)`` of ``integral m`` the second moment is ``integral m^2 / p``, whose gradient is
        ``-E[value^2 grad log p]``: no gradient of m is needed. ``settle`` makes its scale independent of m.
        """
        squares = values.detach().double().square()
        if log_prob.requires_grad:
            added = torch.stack((squares.sum(), squares.new_tensor(len(squares))))
            self._squares = added if self._squares is None else self._squares + added
        pull = -squares * log_prob
        return (pull - pull.detach()).to(values)

    def forget(self) -> None:
        """Begin a new gradient."""
        self._squares = None

    def settle(self, total: Callable[[Tensor], Tensor]) -> None:
        """Divide the gradient by the mean square of its values; ``total`` sums over processes."""
        if self._squares is not None and self.change.grad is not None:
            squares, count = total(self._squares)
            self.change.grad.div_((squares / count).clamp(min=1e-30))
        self._squares = None
