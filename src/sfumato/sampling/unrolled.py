"""A deterministic sampler written out in its start and its estimates, and how its end moves with every number in it.

    x_r = starts[r] x + sum_{j < r} estimates[r - 1, j] x0_hat(x_j, t_j),        r = 0..n

Any tableau without noise has this form. ``sensitivities`` carries the derivatives with
respect to all its numbers forward along with it, one row after another; ``gradient`` goes back through it for one
function of its end, evaluating anew what it needs. Either way a network keeps the activations of one evaluation at a
time, however many there are.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils.checkpoint import checkpoint

from sfumato.denoisers import Denoiser

from .tableau import Tableau, constant

_TANGENTS = 2**16  # numbers of a network's input in flight at once


class Unrolled:
    """Tables of n evaluations from one start, each as a vector: logits of the n + 1 steps between the start, the levels
    and ``lowest``; starts (n + 1,); the lower triangle of estimates, row after row.

    The times are ``lowest + (start - lowest) sum_{k > r} softmax(logits)_k``, so that any vector gives falling ones.
    ``begin`` is the vector of the table that it is made from.
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
        self.begin = torch.cat((steps.log(), states[kept], estimates[kept[1:]][:, rows][triangle[0], triangle[1]]))

    def unpack(self, vector: Float[Tensor, "p"]) -> tuple[Tensor, Tensor, Tensor]:
        """(times (n,), starts (n + 1,), estimates (n, n))."""
        n = self.n
        times = self.lowest + (self.start - self.lowest) * self._below(vector)[1:]
        estimates = vector.new_zeros(n, n)
        triangle = torch.tril_indices(n, n)
        estimates[triangle[0], triangle[1]] = vector[2 * n + 2 :]
        return times, vector[n + 1 : 2 * n + 2], estimates

    def table(self, vector: Float[Tensor, "p"]) -> Tableau:
        """The tableau of a vector: a first row that scales the start and evaluates nothing, then one an evaluation."""
        times, starts, estimates = self.unpack(vector)
        from_states, from_estimates = torch.zeros(2, self.n + 1, self.n + 1, dtype=torch.float64)
        from_states[:, 0] = starts
        from_estimates[1:, 1:] = estimates
        times = torch.cat((times.new_tensor([math.nan]), times))
        noise = constant(torch.zeros_like(times))
        return Tableau(times, from_states, from_estimates, noise, f"fitted({self.n})", self.start)

    def time_tangents(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "n m"]:
        """d times / d logits, (n, n + 1)."""
        shares, below = vector[: self.n + 1].softmax(0), self._below(vector)
        whole = torch.ones_like(shares).diag().cumsum(1) * shares - below[:, None] * shares
        return (self.start - self.lowest) * whole[1:]

    def known(self, r: int) -> Tensor:
        """Places of the numbers that the state and the time of evaluation r depend on."""
        n = self.n
        estimates = 2 * n + 2 + torch.arange(r * (r + 1) // 2)
        return torch.cat((torch.arange(n + 1), n + 1 + torch.arange(r + 1), estimates))

    def _below(self, vector: Tensor) -> Tensor:
        return vector[: self.n + 1].softmax(0).flip(0).cumsum(0).flip(0)


def sensitivities(
    denoiser: Denoiser, form: Unrolled, vector: Float[Tensor, "p"], x: Float[Tensor, "b *s"], cond: Any = None
) -> tuple[Float[Tensor, "b *s"], Float[Tensor, "p b *s"]]:
    """The end of a run from ``x`` and its derivatives with respect to every number of the vector."""
    n = form.n
    times, starts, estimates = form.unpack(vector)
    by_time = form.time_tangents(vector)
    chunk = max(1, _TANGENTS // x.numel())
    hats: list[tuple[Tensor, Tensor, Tensor]] = []  # each estimate, which numbers move it, and how

    def along(x: Tensor, t: Tensor, dx: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        both = jvp(_beliefs(denoiser, cond), (x, t), (dx, dt))
        return both[0], both[1]

    state, tangents = starts[0] * x, x.new_zeros(len(vector), *x.shape)
    tangents[n + 1] = x
    for r in range(n):
        known = form.known(r)
        by = known.to(x.device)
        dt = torch.zeros(len(known), dtype=torch.float64)
        dt[: n + 1] = by_time[r]
        hat, moves = vmap(along, in_dims=(None, None, 0, 0), chunk_size=chunk)(state, times[r], tangents[by], dt)
        hats.append((hat[0], by, moves))
        state, tangents = starts[r + 1] * x, torch.zeros_like(tangents)
        tangents[n + 2 + r] = x
        place = 2 * n + 2 + r * (r + 1) // 2
        for j, (hat, by, moves) in enumerate(hats):
            state = state + estimates[r, j] * hat
            tangents.index_add_(0, by, moves, alpha=float(estimates[r, j]))
            tangents[place + j] += hat
    return state, tangents


def gradient(
    denoiser: Denoiser,
    form: Unrolled,
    vector: Float[Tensor, "p"],
    x: Float[Tensor, "b *s"],
    x_0: Float[Tensor, "b *s"],
    weights: Float[Tensor, "b"],
    cond: Any = None,
) -> Float[Tensor, "p"]:
    """Half the gradient of ``sum_b weights_b |end_b - x_0_b|^2 / D``, by going back through the run from ``x``."""
    believe = _beliefs(denoiser, cond)
    with torch.enable_grad():
        leaf = vector.detach().requires_grad_()
        times, starts, estimates = form.unpack(leaf)
        hats: list[Tensor] = []
        state = starts[0] * x
        for r in range(form.n):
            hats.append(checkpoint(believe, state, times[r], use_reentrant=False, preserve_rng_state=False))
            state = starts[r + 1] * x
            for j, hat in enumerate(hats):
                state = state + estimates[r, j] * hat
        half = (weights * (state - x_0).flatten(1).pow(2).mean(1)).sum() / 2
        (found,) = torch.autograd.grad(half, leaf)
    return found


def _beliefs(denoiser: Denoiser, cond: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """x_0-hat alone, as a function of what is differentiated."""

    def believe(x: Tensor, t: Tensor) -> Tensor:
        x_0: Tensor = denoiser(x, t, cond).x_0
        return x_0

    return believe
