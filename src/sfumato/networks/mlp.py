"""A residual network for vectors, and for samples of any shape, flattened.

With e the embedding of the noise label and n the layer norm,

    h_0     = linear([x, sin(2 pi F x), cos(2 pi F x)])
    h_(i+1) = h_i + linear(dropout(silu(linear((1 + scale_i(e)) n(h_i) + shift_i(e)))))        i = 0 .. depth - 1
    y       = linear(silu(n(h_depth))) + gain(e) x

In few dimensions the fixed random frequencies F let a small network represent sharp edges, which it learns slowly from
the coordinates alone (Tancik et al. 2020, "Fourier features let networks learn high frequency functions in low
dimensional domains"). The modulation by scale and shift is that of Perez et al. (2018, "FiLM").
"""

import math
from collections.abc import Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sfumato.networks.arguments import even, fits, positive, positives, probability
from sfumato.networks.dropout import Dropout
from sfumato.networks.embeddings import LabelEmbedding, random_frequencies
from sfumato.networks.layers import linear, zeroed
from sfumato.numerics.integers import whole

LABEL_FEATURES = 64  # enough for one number, whatever the width


class CoordinateFeatures(nn.Module):
    """A vector together with sines and cosines of random projections of it: ``(B, n) -> (B, n + 2 count)``.

    ``[x, sin(2 pi F x), cos(2 pi F x)]``, F (count, n) drawn once from N(0, s^2), ``s = sqrt(2) n^(-3/2)`` periods per
    unit. For x of unit variance the angles have a standard deviation of 2 pi s sqrt(n) = 9 / n: several periods in two
    dimensions, and smoother features in more dimensions, where oscillating ones harm and the coordinates suffice.

    Arguments:
        n: length of the vector.
        count: number of random projections.
    """

    frequencies: Tensor

    def __init__(self, n: int, count: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", random_frequencies(count, n, scale=math.sqrt(2.0) * n**-1.5))

    def forward(self, x: Float[Tensor, "b n"]) -> Float[Tensor, "b features"]:
        angle = 2.0 * math.pi * F.linear(x, self.frequencies)
        return torch.cat([x, angle.sin(), angle.cos()], dim=1)


class ModulatedBlock(nn.Module):
    """A residual block of two layers whose normalised input is scaled and shifted by the embedding.

    ``(B, width), (B, embedding) -> (B, width)``; scale, shift and the second layer start at zero, so that a fresh block
    is the identity.
    """

    def __init__(self, width: int, embedding: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = zeroed(linear(embedding, 2 * width))
        self.linear1 = linear(width, width)
        self.dropout = Dropout(dropout)
        self.linear2 = zeroed(linear(width, width))

    def forward(self, h: Float[Tensor, "b w"], embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b w"]:
        scale, shift = self.modulation(embedding).chunk(2, dim=1)
        z = self.linear1(torch.addcmul(shift, self.norm(h), 1.0 + scale))
        y: Tensor = h + self.linear2(self.dropout(F.silu(z)))
        return y


class MLP(nn.Module):
    """A residual MLP, ``y = network(x, label, cond)``.

    x has shape (B, *shape), with ``extra`` more entries along its first axis, label is any real number (B,), cond has
    shape (B, conditions) or is None for zeros. y has ``outputs`` times the first axis of ``shape``. A fresh network
    outputs 0. It expects x of about unit variance, in the type of its weights.

    Arguments:
        shape: shape of one sample, which is flattened.
        width: width of the hidden layers, and number of sines and cosines of x; even, at least 4.
        depth: number of residual blocks.
        dropout: probability of dropout in each block.
        embedding: "sinusoidal" for labels that count steps, "fourier" for labels of order one.
        outputs: number of outputs, concatenated along the first axis of a sample.
        conditions: length of the condition vector, with entries of order one; zeros mean unconditional.
        extra: entries that x has along its first axis after those of ``shape``.

    Raises:
        InputError: an argument is out of range, or x or cond has another shape.
    """

    def __init__(
        self,
        shape: Sequence[SupportsIndex],
        width: SupportsIndex = 256,
        depth: SupportsIndex = 4,
        dropout: float = 0.0,
        embedding: str = "sinusoidal",
        outputs: SupportsIndex = 1,
        conditions: SupportsIndex = 0,
        extra: SupportsIndex = 0,
    ) -> None:
        super().__init__()
        self.shape = positives("shape", shape)
        self.extra = whole("extra", extra, 0)
        width, depth, outputs = even("width", width), positive("depth", depth), positive("outputs", outputs)
        probability("dropout", dropout)
        self.outputs = outputs
        n, beside = math.prod(self.shape), self.extra * math.prod(self.shape[1:])
        self.embed = LabelEmbedding(embedding, LABEL_FEATURES, width // 2, conditions)
        self.features = CoordinateFeatures(n, width // 2)
        self.linear_in = linear(n + width + beside, width)
        self.blocks = nn.ModuleList([ModulatedBlock(width, width // 2, dropout=dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.linear_out = zeroed(linear(width, outputs * n))
        self.gain = zeroed(linear(width // 2, outputs))

    def forward(
        self,
        x: Float[Tensor, "b *s"],
        label: Float[Tensor, " b"],
        cond: Float[Tensor, "n conditions"] | None = None,
    ) -> Float[Tensor, "b *t"]:
        fits(x, (self.shape[0] + self.extra, *self.shape[1:]))
        embedding = self.embed(label, cond)
        own = x[:, : self.shape[0]].flatten(1)
        h = self.linear_in(torch.cat([self.features(own), x[:, self.shape[0] :].flatten(1)], dim=1))
        for block in self.blocks:
            h = block(h, embedding)
        y: Tensor = self.linear_out(F.silu(self.norm(h)))
        y = y + (self.gain(embedding)[:, :, None] * own[:, None]).flatten(1)
        return y.reshape(len(x), self.outputs * self.shape[0], *self.shape[1:])
