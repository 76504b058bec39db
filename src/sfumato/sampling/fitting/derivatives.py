"""The derivatives of a sampler's end with respect to every number of its table.

``sensitivities`` carries the derivatives with respect to all numbers forward, one row after another; ``gradient`` goes
back through the run for one function of its end, and evaluates again what it needs. Both keep the activations of one
evaluation at a time, however many there are.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap
from torch.utils.checkpoint import checkpoint

from sfumato.denoisers import Condition, Denoiser

from .parameters import Parametrisation

_TANGENTS = 2**16  # numbers of a network's input in flight at once


def sensitivities(
    denoiser: Denoiser,
    form: Parametrisation,
    vector: Float[Tensor, "p"],
    x: Float[Tensor, "b *s"],
    cond: Condition | None = None,
) -> tuple[Float[Tensor, "b *s"], Float[Tensor, "p b *s"]]:
    """The end of a run from ``x`` and its derivatives with respect to every number of the vector."""
    n = form.n
    times, starts, estimates = form.unpack(vector)
    by_time = form.time_tangents(vector)
    chunk = max(1, _TANGENTS // x.numel())
    hats: list[tuple[Tensor, Tensor, Tensor]] = []  # each estimate, the numbers that it depends on, its derivatives

    def along(x: Tensor, t: Tensor, dx: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
        both = jvp(_estimate(denoiser, cond), (x, t), (dx, dt))
        return both[0], both[1]

    state, tangents = starts[0] * x, x.new_zeros(len(vector), *x.shape)
    tangents[n + 1] = x
    for r in range(n):
        known = form.dependencies(r)
        by = known.to(x.device)
        dt = torch.zeros(len(known), dtype=torch.float64)
        dt[: n + 1] = by_time[r]
        hat, moves = vmap(along, in_dims=(None, None, 0, 0), chunk_size=chunk)(state, times[r], tangents[by], dt)
        hats.append((hat[0], by, moves))
        state, tangents = starts[r + 1] * x, torch.zeros_like(tangents)
        tangents[n + 2 + r] = x
        offset = 2 * n + 2 + r * (r + 1) // 2
        for j, (hat, by, moves) in enumerate(hats):
            state = state + estimates[r, j] * hat
            tangents.index_add_(0, by, moves, alpha=float(estimates[r, j]))
            tangents[offset + j] += hat
    return state, tangents


def gradient(
    denoiser: Denoiser,
    form: Parametrisation,
    vector: Float[Tensor, "p"],
    x: Float[Tensor, "b *s"],
    x_0: Float[Tensor, "b *s"],
    weights: Float[Tensor, "b"],
    cond: Condition | None = None,
) -> Float[Tensor, "p"]:
    """Half the gradient of ``sum_b weights_b |end_b - x_0_b|^2 / D``, by reverse mode through the run from ``x``."""
    estimate = _estimate(denoiser, cond)
    with torch.enable_grad():
        leaf = vector.detach().requires_grad_()
        times, starts, estimates = form.unpack(leaf)
        hats: list[Tensor] = []
        state = starts[0] * x
        for r in range(form.n):
            hats.append(checkpoint(estimate, state, times[r], use_reentrant=False, preserve_rng_state=False))
            state = starts[r + 1] * x
            for j, hat in enumerate(hats):
                state = state + estimates[r, j] * hat
        half = (weights * (state - x_0).flatten(1).pow(2).mean(1)).sum() / 2
        (found,) = torch.autograd.grad(half, leaf)
    return found


def _estimate(denoiser: Denoiser, cond: Condition | None) -> Callable[[Tensor, Tensor], Tensor]:
    """x_0-hat as a function of the state and the time."""

    def estimate(x: Tensor, t: Tensor) -> Tensor:
        x_0: Tensor = denoiser(x, t, cond).x_0
        return x_0

    return estimate
