"""The numbers of a deterministic sampler: any tableau without noise, written out in its start and its estimates.

State r of a run is

    x_r = starts[r] x + sum_{j < r} estimates[r - 1, j] x0_hat(x_j, t_j),        r = 0..n
"""

import math
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from sfumato.numerics.integers import whole

from ..tableau import Tableau, constant


def numbers_of(evaluations: SupportsIndex) -> int:
    """The length of the vector of a table with this number of evaluations."""
    n = whole("evaluations", evaluations, 1)
    return n * (n + 5) // 2 + 2


class Parametrisation:
    """Tables of n evaluations from one start, each as a vector.

    A vector holds the logits of the n + 1 steps between the start, the levels and ``lowest``; then the starts (n + 1,);
    then the lower triangle of the estimates, row after row. The times are ``lowest + (start - lowest) sum_{k > r}
    softmax(logits)_k``, which fall for every vector. ``initial`` is the vector of the table that was given.

    Arguments:
        table: a tableau without noise.
        lowest: the time that no level comes below.
    """

    def __init__(self, table: Tableau, lowest: float) -> None:
        rows = (~table.times.isnan()).nonzero().flatten().tolist()
        n, R = len(rows), len(table.times)
        self.n, self.start, self.lowest = n, table.start, lowest
        # Each state written out in the first one and the estimates.
        states, estimates = torch.zeros(R + 1, dtype=torch.float64), torch.zeros(R + 1, R, dtype=torch.float64)
        states[0] = 1
        for r in range(R):
            states[r + 1] = table.states[r] @ states[:R]
            estimates[r + 1] = table.states[r] @ estimates[:R] + table.estimates[r]
        kept = [*rows, R]
        times = table.times[rows]
        ends = times.new_tensor([self.start]), times.new_tensor([lowest])
        # A level at an end exactly is the limit of a small step.
        steps = (torch.cat((ends[0], times)) - torch.cat((times, ends[1]))).clamp(min=1e-6)
        triangle = torch.tril_indices(n, n)
        self.initial = torch.cat((steps.log(), states[kept], estimates[kept[1:]][:, rows][triangle[0], triangle[1]]))

    def unpack(self, vector: Float[Tensor, "p"]) -> tuple[Tensor, Tensor, Tensor]:
        """(times (n,), starts (n + 1,), estimates (n, n))."""
        n = self.n
        times = self.lowest + (self.start - self.lowest) * self._below(vector)[1:]
        estimates = vector.new_zeros(n, n)
        triangle = torch.tril_indices(n, n)
        estimates[triangle[0], triangle[1]] = vector[2 * n + 2 :]
        return times, vector[n + 1 : 2 * n + 2], estimates

    def table(self, vector: Float[Tensor, "p"]) -> Tableau:
        """The tableau of a vector: a first row that only scales the start, then one row per evaluation."""
        times, starts, estimates = self.unpack(vector)
        from_states, from_estimates = torch.zeros(2, self.n + 1, self.n + 1, dtype=torch.float64)
        from_states[:, 0] = starts
        from_estimates[1:, 1:] = estimates
        times = torch.cat((times.new_tensor([math.nan]), times))
        noise = constant(torch.zeros_like(times))
        return Tableau(times, from_states, from_estimates, noise, f"fitted({self.n})", self.start)

    def time_tangents(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "n m"]:
        """d times / d logits, (n, n + 1)."""
        fractions, below = vector[: self.n + 1].softmax(0), self._below(vector)
        whole = torch.ones_like(fractions).diag().cumsum(1) * fractions - below[:, None] * fractions
        return (self.start - self.lowest) * whole[1:]

    def dependencies(self, r: int) -> Tensor:
        """Indices of the numbers that the state and the time of evaluation r depend on."""
        n = self.n
        estimates = 2 * n + 2 + torch.arange(r * (r + 1) // 2)
        return torch.cat((torch.arange(n + 1), n + 1 + torch.arange(r + 1), estimates))

    def _below(self, vector: Tensor) -> Tensor:
        return vector[: self.n + 1].softmax(0).flip(0).cumsum(0).flip(0)
