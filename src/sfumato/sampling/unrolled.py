"""A deterministic sampler written out in its start and its estimates, and how its end moves with every number in it.

    x_{r+1} = starts[r] x + sum_{j <= r} estimates[r, j] x0_hat(x_j, t_j),        r = 0..n - 1

Any tableau without noise whose every row evaluates has this form. ``sensitivities`` carries the derivatives with
respect to all its numbers forward along with it, one row after another; ``gradient`` goes back through it for one
function of its end, evaluating anew what it needs. Either way a network keeps the activations of one evaluation at a
time, however many there are.
"""

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
    """Tables of n evaluations from one first level, each as a vector: logits of the steps between levels (n,), starts
    (n,), the lower triangle of estimates, row after row.

    The times are ``lowest + (first - lowest) sum_{k >= r} softmax(logits)_k``, so that any vector gives falling ones.
    ``start`` is the vector of the table that it is made from.
    """

    def __init__(self, table: Tableau, lowest: float) -> None:
        n = self.n = len(table.times)
        self.first, self.lowest = table.start, lowest
        states, estimates = torch.zeros(n + 1, dtype=torch.float64), torch.zeros(n + 1, n, dtype=torch.float64)
        states[0] = 1
        for r in range(n):  # each state written out in the first one and the estimates
            states[r + 1] = table.states[r] @ states[:n]
            estimates[r + 1] = table.states[r] @ estimates[:n] + table.estimates[r]
        triangle = torch.tril_indices(n, n)
        # A level at the lowest time exactly is the limit of small last steps.
        steps = (table.times - torch.cat((table.times[1:], table.times.new_tensor([lowest])))).clamp(min=1e-6)
        self.start = torch.cat((steps.log(), states[1:], estimates[1:][triangle[0], triangle[1]]))

    def unpack(self, vector: Float[Tensor, "p"]) -> tuple[Tensor, Tensor, Tensor]:
        """(times (n,), starts (n,), estimates (n, n))."""
        n = self.n
        times = self.lowest + (self.first - self.lowest) * vector[:n].softmax(0).flip(0).cumsum(0).flip(0)
        estimates = vector.new_zeros(n, n)
        triangle = torch.tril_indices(n, n)
        estimates[triangle[0], triangle[1]] = vector[2 * n :]
        return times, vector[n : 2 * n], estimates

    def table(self, vector: Float[Tensor, "p"]) -> Tableau:
        """The tableau of a vector."""
        times, starts, estimates = self.unpack(vector)
        states = torch.zeros_like(estimates)
        states[:, 0] = starts
        return Tableau(times, states, estimates, constant(torch.zeros_like(times)), f"fitted({self.n})")

    def time_tangents(self, vector: Float[Tensor, "p"]) -> Float[Tensor, "n n"]:
        """d times / d logits."""
        shares = vector[: self.n].softmax(0)
        below = shares.flip(0).cumsum(0).flip(0)
        return (self.first - self.lowest) * (
            torch.ones_like(shares).diag().cumsum(1) * shares - below[:, None] * shares
        )

    def known(self, r: int) -> Tensor:
        """Places of the numbers that the state and the time of row r depend on."""
        n = self.n
        if r == 0:
            return torch.zeros(0, dtype=torch.long)
        return torch.cat((torch.arange(n), n + torch.arange(r), 2 * n + torch.arange(r * (r + 1) // 2)))


def sensitivities(
    denoiser: Denoiser, form: Unrolled, vector: Float[Tensor, "p"], x: Float[Tensor, "b *s"], cond: Any = None
) -> tuple[Float[Tensor, "b *s"], Float[Tensor, "p b *s"]]:
    """The end of a run from ``x`` and its derivatives with respect to every number of the vector."""
    times, starts, estimates = form.unpack(vector)
    by_time = form.time_tangents(vector)
    chunk = max(1, _TANGENTS // x.numel())
    hats: list[tuple[Tensor, Tensor, Tensor]] = []  # each estimate, which numbers move it, and how
    state, tangents = x, x.new_zeros(len(vector), *x.shape)

    def believe(x: Tensor, t: Tensor) -> Tensor:
        x_0: Tensor = denoiser(x, t, cond).x_0
        return x_0

    for r in range(form.n):
        known = form.known(r)
        by = known.to(x.device)
        if r == 0:
            hats.append((believe(state, times[r]), by, x.new_zeros(0, *x.shape)))
        else:
            dt = torch.zeros(len(known), dtype=torch.float64)
            dt[: form.n] = by_time[r]
            both = vmap(lambda dx, dt, at=(state, times[r]): jvp(believe, at, (dx, dt)), chunk_size=chunk)
            hat, moves = both(tangents[by], dt)
            hats.append((hat[0], by, moves))
        state, tangents = starts[r] * x, torch.zeros_like(tangents)
        tangents[form.n + r] = x
        place = 2 * form.n + r * (r + 1) // 2
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
    with torch.enable_grad():
        leaf = vector.detach().requires_grad_()
        times, starts, estimates = form.unpack(leaf)

        def believe(x: Tensor, t: Tensor) -> Tensor:
            hat: Tensor = denoiser(x, t, cond).x_0
            return hat

        hats: list[Tensor] = []
        state = x
        for r in range(form.n):
            hats.append(checkpoint(believe, state, times[r], use_reentrant=False, preserve_rng_state=False))
            state = starts[r] * x
            for j, hat in enumerate(hats):
                state = state + estimates[r, j] * hat
        half = (weights * (state - x_0).flatten(1).pow(2).mean(1)).sum() / 2
        (found,) = torch.autograd.grad(half, leaf)
    return found
