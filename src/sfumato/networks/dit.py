"""A transformer on patches of images and signals.

With h the patches of x, each mapped linearly to ``width`` numbers and added to features of its position, and e the
embedding of the noise label,

    a       = h + gate_1(e) attention((1 + scale_1(e)) n(h) + shift_1(e))
    h       = a + gate_2(e) mlp((1 + scale_2(e)) n(a) + shift_2(e))                                 per block
    y       = linear((1 + scale(e)) n(h) + shift(e)), each patch back in its place

n is the layer norm. Gates, scales, shifts and the last layer start at zero, so that a fresh block is the identity and a
fresh network outputs 0 (Peebles & Xie 2023, "Scalable diffusion models with transformers", section 3.2, adaLN-Zero).
Positions have sines and cosines of fixed frequencies, half of them per axis for images (Vaswani et al. 2017, section
3.5). Every layer sees all patches; unlike a U-Net it has no preference for neighbours, and must learn it.
"""

import math
from collections.abc import Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfumato.errors import InputError
from sfumato.networks.arguments import fits, image_or_signal, positive, probability
from sfumato.networks.dropout import Dropout
from sfumato.networks.embeddings import LabelEmbedding, Sinusoidal
from sfumato.networks.execution import Attention
from sfumato.networks.layers import full_precision, in_autocast_type, linear, zeroed
from sfumato.numerics.integers import whole

_MLP = 4  # the width of the hidden layer of a block, in units of the network's


class TransformerBlock(nn.Module):
    """Self-attention and two layers, both modulated and gated by the embedding: ``(B, n, w), (B, e) -> (B, n, w)``.

    Arguments:
        width: length of a token.
        heads: number of heads, a divisor of ``width``.
        embedding: length of the embedding.
        dropout: probability of dropout between the two layers.
    """

    fused: bool = False
    recomputes: bool = False

    def __init__(self, width: int, heads: int, embedding: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zeroed(linear(embedding, 6 * width))
        self.query, self.key, self.value, self.out = (linear(width, width) for _ in range(4))
        self.linear1 = linear(width, _MLP * width)
        self.dropout = Dropout(dropout)
        self.linear2 = linear(_MLP * width, width)

    def forward(self, h: Float[Tensor, "b n w"], embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b n w"]:
        if self.recomputes and torch.is_grad_enabled():
            y: Tensor = checkpoint(self._inside, h, embedding, use_reentrant=False)
            return y
        return self._inside(h, embedding)

    def _inside(self, h: Tensor, embedding: Tensor) -> Tensor:
        gate1, scale1, shift1, gate2, scale2, shift2 = self.modulation(embedding)[:, None].chunk(6, dim=2)
        h = h + gate1 * self._attention((1 + scale1) * self.norm(h) + shift1)
        z = self.linear1((1 + scale2) * self.norm(h) + shift2)
        y: Tensor = h + gate2 * self.linear2(self.dropout(F.gelu(z, approximate="tanh")))
        return y

    def _attention(self, h: Tensor) -> Tensor:
        q, k, v = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, n, w / heads)
            for layer in (self.query, self.key, self.value)
        )
        if self.fused:
            h = F.scaled_dot_product_attention(q, k, v)
        else:
            h = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
        y: Tensor = self.out(h.transpose(1, 2).flatten(2))
        return y


class DiT(nn.Module):
    """The transformer, ``y = network(x, label, cond)``.

    x has shape (B, C + extra, L) or (B, C + extra, H, W), label is any real number (B,), cond has shape (B, conditions)
    or is None for zeros. y has ``outputs`` times C channels. A fresh network outputs 0. It computes in the type of
    its weights, which must be that of x.

    Arguments:
        shape: shape of one sample, (C, L) or (C, H, W).
        patch: sides of a patch; the last values of an axis are repeated until it divides the length, and the output is
            cropped.
        width: length of a token; a multiple of 4, or of 2 for signals, and of ``heads``.
        depth: number of blocks.
        heads: number of heads of every attention.
        dropout: probability of dropout in each block.
        embedding: "sinusoidal" for labels that count steps, "fourier" for labels of order one.
        outputs: number of outputs, concatenated along the channels.
        conditions: length of the condition vector, with entries of order one; zeros mean unconditional.
        extra: channels that x has after those of ``shape``.

    Raises:
        InputError: an argument is out of range, or x or cond has another shape.
    """

    positions: Tensor

    def __init__(
        self,
        shape: Sequence[SupportsIndex],
        patch: SupportsIndex = 2,
        width: SupportsIndex = 128,
        depth: SupportsIndex = 6,
        heads: SupportsIndex = 4,
        dropout: float = 0.0,
        embedding: str = "sinusoidal",
        outputs: SupportsIndex = 1,
        conditions: SupportsIndex = 0,
        extra: SupportsIndex = 0,
    ) -> None:
        super().__init__()
        self.shape = image_or_signal(shape)
        self.patch, width, depth, heads = (
            positive(name, value)
            for name, value in (("patch", patch), ("width", width), ("depth", depth), ("heads", heads))
        )
        self.extra, outputs, sides = whole("extra", extra, 0), positive("outputs", outputs), self.shape[1:]
        probability("dropout", dropout)
        if width % heads or width % (2 * len(sides)) or width < 4 * len(sides):
            raise InputError(
                f"width={width} is not allowed: give a multiple of heads={heads} and of {2 * len(sides)}, at least "
                f"{4 * len(sides)}"
            )
        self.grid = tuple(-(-side // self.patch) for side in sides)
        self.padding = [n * self.patch - side for n, side in zip(self.grid, sides, strict=True)]
        volume = self.patch ** len(sides)
        self.outputs = outputs * self.shape[0]
        self.register_buffer("positions", _positions(self.grid, width), persistent=False)
        self.embed = LabelEmbedding(embedding, width, width, conditions)
        self.linear_in = linear((self.shape[0] + self.extra) * volume, width)
        self.blocks = nn.ModuleList([TransformerBlock(width, heads, width, dropout=dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = zeroed(linear(width, 2 * width))
        self.linear_out = zeroed(linear(width, self.outputs * volume))

    def configure(
        self, *, attention: Attention | None = None, lean_norms: bool | None = None, recompute: bool | None = None
    ) -> None:
        """Change how the network computes (see ``execution.Configurable``). Its norms have no leaner form."""
        for block in self.blocks:
            assert isinstance(block, TransformerBlock)
            if attention is not None:
                block.fused = attention == "fused"
            if recompute is not None:
                block.recomputes = recompute

    def units(self) -> list[nn.Module]:
        """Its blocks, in order of execution."""
        return list(self.blocks)

    def forward(
        self,
        x: Float[Tensor, "b c *s"],
        label: Float[Tensor, " b"],
        cond: Float[Tensor, "n conditions"] | None = None,
    ) -> Float[Tensor, "b d *s"]:
        fits(x, (self.shape[0] + self.extra, *self.shape[1:]))
        embedding = self.embed(label, cond)
        if any(self.padding):
            x = F.pad(x, [n for extra in reversed(self.padding) for n in (0, extra)], mode="replicate")
        with full_precision(x):  # x has the last digits of the data
            h = self.linear_in(self._patches(x)) + self.positions.to(x.dtype)
        h = in_autocast_type(h)
        for block in self.blocks:
            h = block(h, embedding)
        scale, shift = self.modulation(embedding)[:, None].chunk(2, dim=2)
        h = (1 + scale) * self.norm(h) + shift
        with full_precision(h):
            y = self._joined(self.linear_out(h.to(self.linear_out.weight.dtype)))
        if any(self.padding):
            for axis, length in enumerate(self.shape[1:], start=2):
                y = y.narrow(axis, 0, length)
        return y

    def _patches(self, x: Tensor) -> Tensor:
        """``(B, C, *s) -> (B, n, C p^d)``."""
        d, p = len(self.grid), self.patch
        split = [size for n in self.grid for size in (n, p)]  # (B, C, n_1, p_1, ..., n_d, p_d)
        numbers, places = range(2, 2 + 2 * d, 2), range(3, 3 + 2 * d, 2)
        x = x.reshape(*x.shape[:2], *split).permute(0, *numbers, 1, *places)
        return x.reshape(len(x), math.prod(self.grid), -1)

    def _joined(self, h: Tensor) -> Tensor:
        """``(B, n, C p^d) -> (B, C, *s)``, the inverse."""
        d, p = len(self.grid), self.patch
        x = h.reshape(len(h), *self.grid, self.outputs, *[p] * d)
        x = x.permute(0, 1 + d, *(axis for i in range(d) for axis in (1 + i, 2 + d + i)))
        return x.reshape(len(h), self.outputs, *(n * p for n in self.grid))


def _positions(grid: Sequence[int], width: int) -> Float[Tensor, "n w"]:
    """Features of the position of each patch, an equal part of them for each axis."""
    features = Sinusoidal(width // len(grid))
    each = [features(torch.arange(n, dtype=torch.float32)) for n in grid]
    numbers = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, len(grid))
    return torch.cat([part[numbers[:, axis]] for axis, part in enumerate(each)], dim=1)
