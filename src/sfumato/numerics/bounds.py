"""Bounds on learned parameters, so that formulas of them hold in floating point after any update."""

import torch
from torch import Tensor

FARTHEST = 1e6  # so far beyond its bounds a parameter is moved back without a gradient; float64 is exact to 1e-10 there


def kept_within(x: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """``x`` clamped to ``[lowest, highest]``, with the gradient of x itself, so that a parameter outside can return.

    Inside the bounds it is x, bit for bit.
    """
    x = x.clamp(-FARTHEST, FARTHEST)
    free = x.detach()
    return x + (torch.minimum(torch.maximum(free, lowest), highest) - free)
