"""What a network is shown of a sample beside its noise: a low resolution of it, or the parts that are not hidden.

A view has the sides of the sample: its values in model units, 0 where nothing is known, and one more channel that is 1
where they are known. All zeros say that nothing is shown.
"""

import math

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from sfumato.numerics import random

SHORTEST, LONGEST = 0.25, 0.75  # sides of a hidden box, of the sample's


def view_of(values: Float[Tensor, "b c *s"], known: Bool[Tensor, "b 1 *s"]) -> Float[Tensor, "b d *s"]:
    """The values where they are known, and that they are."""
    return torch.cat([values.masked_fill(~known, 0.0), known.to(values)], dim=1)


def block_means(x: Float[Tensor, "b c *s"], factor: int) -> Float[Tensor, "b c *r"]:
    """The means of blocks of ``factor`` values along each side, which it must divide."""
    for axis in range(2, x.ndim):
        x = x.reshape(*x.shape[:axis], -1, factor, *x.shape[axis + 1 :]).mean(axis + 1)
    return x


def repeated(x: Float[Tensor, "b c *r"], factor: int) -> Float[Tensor, "b c *s"]:
    """Each value ``factor`` times along each side."""
    for axis in range(2, x.ndim):
        x = x.repeat_interleave(factor, axis)
    return x


def shown_parts(keys: Int64[Tensor, "b"], sides: tuple[int, ...]) -> Bool[Tensor, "b 1 *s"]:
    """What is not hidden of samples with these sides, at random: a function of the key alone.

    Of half of the samples a box is hidden, of a fourth to three fourths of each side. Of the others each position is
    hidden with a probability that is uniform in (0, 1) itself.
    """
    first = random.uniform(keys, 0, 2 + 2 * len(sides))
    inside = torch.ones(len(keys), *sides, dtype=torch.bool, device=keys.device)
    for axis, side in enumerate(sides):
        length = (SHORTEST + (LONGEST - SHORTEST) * first[:, 2 + 2 * axis]) * side
        start = first[:, 3 + 2 * axis] * (side - length)
        at = torch.arange(side, dtype=torch.float64, device=keys.device) + 0.5
        along = (at >= start[:, None]) & (at < (start + length)[:, None])
        inside &= along.view(len(keys), *(side if k == axis else 1 for k in range(len(sides))))
    single = random.uniform(keys, 1, math.prod(sides)).view(-1, *sides)
    rate = first[:, 1].view(-1, *(1 for _ in sides))
    in_boxes = (first[:, 0] < 0.5).view(-1, *(1 for _ in sides))
    return ~torch.where(in_boxes, inside, single < rate)[:, None]
