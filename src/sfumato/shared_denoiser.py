"""A denoiser whose evaluations several processes share."""

from typing import Any, cast

import torch
from torch import Tensor

from sfumato.core import Prediction
from sfumato.denoisers import Condition, Denoiser, condition_rows
from sfumato.world import World


class SharedDenoiser(Denoiser):
    """The same predictions, computed by all processes of a ``world``, each for its rows of the batch.

    All processes pass the same batch at the same time, and all of them get the whole prediction. So the levels, the
    noise and the probes of a measurement, which are drawn for the batch, are those of a single process, and so is what
    a pilot learns from the whole set. Gradients are shared in the same way.

    Arguments:
        denoiser: computes the rows.
        world: the processes.
    """

    def __init__(self, denoiser: Denoiser, world: World) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.process = denoiser.process
        self.world = world

    def forward(self, x_t: Tensor, t: Tensor, cond: Condition | None = None) -> Prediction:
        count = len(x_t)
        if count < self.world.size:
            return cast(Prediction, self.denoiser(x_t, t, cond))
        first, last = self.world.rows(count)
        x = _Rows.apply(x_t, self.world)  # type: ignore[no-untyped-call]
        found = self.denoiser(x, t if t.ndim == 0 else t[first:last], condition_rows(cond, slice(first, last)))
        variance = None if found.variance_share is None else self._whole(found.variance_share, count)
        return Prediction(self._whole(found.x_0, count), self._whole(found.eps, count), variance)

    def _whole(self, rows: Tensor, count: int) -> Tensor:
        return cast(Tensor, _Whole.apply(rows, count, self.world))  # type: ignore[no-untyped-call]


class _Rows(torch.autograd.Function):
    """Forward: this process's rows of the whole. Backward: the rows of all processes."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, world: World) -> Tensor:
        ctx.count, ctx.world = len(whole), world
        first, last = world.rows(len(whole))
        return whole[first:last].clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.world.gather(grads[0], ctx.count).to(grads[0].device), None


class _Whole(torch.autograd.Function):
    """Forward: the rows of all processes. Backward: this process's rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, count: int, world: World) -> Tensor:
        ctx.rows = world.rows(count)
        return world.gather(rows, count).to(rows.device)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        first, last = ctx.rows
        return grads[0][first:last], None, None


def shared(denoiser: Denoiser, world: World) -> Denoiser:
    """``denoiser``, shared among the processes where there are several."""
    return denoiser if world.size == 1 else SharedDenoiser(denoiser, world)
