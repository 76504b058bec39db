"""The exponential moving average of the weights."""

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


class EMA(Generic[M]):
    """An averaged copy of a ``module``, with its horizon in images so that it means the same at any batch size.

    After each step ``average <- d average + (1 - d) weights`` with ``d = 2^(-batch / half_life)``; early on the half
    life is ``ramp`` of the images seen, so that a short run averages over its last stretch and not over its start
    (Karras et al. 2022, appendix F.1). Parameters only: a buffer is not learned, and averaging would move it.
    """

    def __init__(self, module: M, half_life: int, ramp: float) -> None:
        self.module: M = copy.deepcopy(module).eval().requires_grad_(False)
        self._average: list[Tensor] = list(self.module.parameters())
        self.half_life = half_life
        self.ramp = ramp

    def decay(self, images_seen: int, batch: int) -> float:
        """``d`` for the step that brings the count to ``images_seen``."""
        half_life = min(float(self.half_life), self.ramp * images_seen)
        return math.pow(0.5, batch / half_life)

    @torch.no_grad()
    def update(self, parameters: list[nn.Parameter], images_seen: int, batch: int) -> None:
        """Move the average towards the module's ``parameters``, in their order, whose step has just been made."""
        torch._foreach_lerp_(self._average, [*parameters], 1 - self.decay(images_seen, batch))
