"""A conditional Gaussian from a small residual network.

With the two outputs r of the network, both zero at initialisation, and a linear map S,

    q(y | x) = N(S x + r_mean(x), diag exp(l(x))),    l = -3 + 9 tanh((r_log(x) + 3) / 9) in (-12, 6)

so at initialisation it passes its input on, with a variance of about 1, and no training step can make a variance vanish
or explode.
"""

import math
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.core import Gaussian
from sfumato.networks.arguments import even, positive
from sfumato.networks.layers import linear, zeroed
from sfumato.networks.mlp import CoordinateFeatures

_MIDDLE, _REACH = -3.0, 9.0  # standard deviations from 0.0025, below a step of 8-bit data, to 20


def bounded(raw: Tensor) -> Tensor:
    """A log-variance in (-12, 6), smooth in ``raw`` and nearly equal to it around -3."""
    return _MIDDLE + _REACH * torch.tanh((raw - _MIDDLE) / _REACH)


def unbounded(variance: float) -> float:
    """The inverse of ``bounded``: the ``raw`` for this variance."""
    return _MIDDLE + _REACH * math.atanh((math.log(variance) - _MIDDLE) / _REACH)


class _Block(nn.Module):
    """``h + linear(silu(linear(norm(h))))``, the identity at initialisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear1 = linear(width, width)
        self.linear2 = zeroed(linear(width, width))

    def forward(self, h: Tensor) -> Tensor:
        y: Tensor = h + self.linear2(F.silu(self.linear1(self.norm(h))))
        return y


class GaussianMLP(nn.Module):
    """``N(mean(x), diag variance(x))`` over vectors of ``outputs`` numbers, for x of ``inputs`` numbers.

    The linear map starts as the identity if the two dimensions are equal, else as an orthogonal map. It computes in the
    type of its weights, and returns the type of x.

    Arguments:
        inputs: numbers of x.
        outputs: numbers of y.
        hidden: width of the hidden layers, and number of sines and cosines of x; even, at least 4.
        depth: number of residual blocks.
    """

    def __init__(self, inputs: int, outputs: int, hidden: SupportsIndex = 128, depth: SupportsIndex = 2) -> None:
        super().__init__()
        hidden, depth = even("hidden", hidden), positive("depth", depth)
        self.features = CoordinateFeatures(inputs, hidden // 2)
        self.linear_in = linear(inputs + hidden, hidden)
        self.blocks = nn.Sequential(*(_Block(hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(hidden)
        self.head = zeroed(linear(hidden, 2 * outputs))
        self.path = nn.Linear(inputs, outputs)
        nn.init.zeros_(self.path.bias)
        if inputs == outputs:
            nn.init.eye_(self.path.weight)
        else:
            nn.init.orthogonal_(self.path.weight)

    def forward(self, x: Float[Tensor, "b n"]) -> Gaussian:
        inputs = x.to(self.path.weight.dtype)
        h = self.norm(self.blocks(self.linear_in(self.features(inputs))))
        shift, raw = self.head(F.silu(h)).to(x.dtype).chunk(2, dim=1)
        return Gaussian(self.path(inputs).to(x.dtype) + shift, bounded(raw).exp())
