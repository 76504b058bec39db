"""The layers of the U-Net, for signals (B, C, L) and images (B, C, H, W).

With e the embedding of the noise label,

    residual block    y = shortcut(x) + conv(dropout(silu(norm(h)))),   h = conv(silu(norm(x))) + linear(e)
    self-attention    y = x + out(softmax(q k^T / sqrt(d)) v),          q, k, v linear in norm(x), over all positions

Both end in a layer of zeros, so a fresh block equals its shortcut. The other weights are Xavier-uniform with zero
biases. (Ho, Jain & Abbeel 2020, "Denoising Diffusion Probabilistic Models", appendix B and its code.)
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sfumato.errors import InputError
from sfumato.networks.dropout import Dropout

EPSILON = 1e-6  # of the group norms, as in DDPM's network; with torch's 1e-5 its weights would compute something else


Layer = TypeVar("Layer", bound=nn.Module)


def convolution(
    dimension: int, channels: int, out_channels: int, kernel: int, *, stride: int = 1
) -> nn.Conv1d | nn.Conv2d:
    """Convolution over 1 or 2 axes with an odd kernel; stride 1 keeps the sides, stride 2 has no padding."""
    padding = kernel // 2 if stride == 1 else 0
    if dimension == 1:
        return initialised(nn.Conv1d(channels, out_channels, kernel, stride=stride, padding=padding))
    return initialised(nn.Conv2d(channels, out_channels, kernel, stride=stride, padding=padding))


def linear(features: int, out_features: int, *, bias: bool = True) -> nn.Linear:
    """Affine map of the last axis, or a linear one without the bias."""
    return initialised(nn.Linear(features, out_features, bias=bias))


def initialised(layer: Layer) -> Layer:
    """``layer`` with Xavier-uniform weights, variance 2 / (fan in + fan out), and zero biases."""
    for parameter in layer.parameters():
        if parameter.ndim > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return layer


def zeroed(layer: Layer) -> Layer:
    """``layer`` with all its parameters set to 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group norm with the most groups, up to ``groups``, that divide ``channels`` and have two channels or more.

    A group of one channel would subtract its mean over the positions, and with it the embedding that was just added.
    """
    return nn.GroupNorm(_divisor(channels, groups), channels, eps=EPSILON)


def norm_silu(channels: int, groups: int) -> "NormSilu":
    """``group_norm`` followed by a SiLU."""
    return NormSilu(_divisor(channels, groups), channels, eps=EPSILON)


def _divisor(channels: int, groups: int) -> int:
    most = max(1, min(groups, channels // 2))
    return next(g for g in range(most, 0, -1) if channels % g == 0)


class NormSilu(nn.GroupNorm):
    """``silu(norm(x))``, ``(B, C, *s) -> (B, C, *s)``.

    While ``lean`` is set, the backward pass computes the norm again from its input instead of keeping its output. This
    saves two of the six tensors that a residual block keeps. Forward and second derivatives are then not available.
    """

    lean: bool = False

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        if self.lean and torch.is_grad_enabled():
            lean: Callable[..., Tensor] = _LeanNormSilu.apply
            return lean(x, self.weight, self.bias, self.num_groups, self.eps)
        return F.silu(super().forward(x))


class _LeanNormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, epsilon: float) -> Tensor:
        # Only CPUs have a group norm for channels last.
        last = x.ndim == 4 and x.device.type == "cpu" and x.is_contiguous(memory_format=torch.channels_last)
        ctx.layout = torch.channels_last if last else torch.contiguous_format
        x = x.contiguous(memory_format=ctx.layout)
        batch, channels = x.shape[:2]
        ctx.sizes = batch, channels, x[0, 0].numel(), groups
        ctx.epsilon = epsilon
        y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, x[0, 0].numel(), groups, epsilon)
        ctx.save_for_backward(x, weight, bias, mean, rstd)
        return F.silu(y, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, rstd = ctx.saved_tensors
        batch, channels, size, groups = ctx.sizes
        y, *_ = torch.native_group_norm(x, weight, bias, batch, channels, size, groups, ctx.epsilon)
        gradient = torch.ops.aten.silu_backward(gradient.contiguous(memory_format=ctx.layout), y)
        backward = torch.ops.aten.native_group_norm_backward
        return *backward(gradient, x, mean, rstd, weight, *ctx.sizes, [True, True, True]), None, None


def full_precision(x: Tensor) -> torch.autocast:
    """A context without autocast on the device of ``x``: products keep the type of their factors."""
    return torch.autocast(x.device.type, enabled=False)


def in_autocast_type(x: Tensor) -> Tensor:
    """``x`` in the type of autocast where it is enabled, else unchanged."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


class ResidualBlock(nn.Module):
    """Two convolutions with the noise embedding added between them, around a shortcut.

    ``(B, channels, *s), (B, embedding) -> (B, out_channels, *s)``. The shortcut is a 1x1 convolution where the number
    of channels changes, else the identity. The SiLU of the embedding is computed once, before all blocks.

    Arguments:
        dimension: 1 for signals, 2 for images.
        channels: channels of the input.
        out_channels: channels of the output.
        embedding: length of the embedding.
        groups: maximum number of groups of the norms.
        dropout: probability of dropout.
    """

    def __init__(
        self,
        dimension: int,
        channels: int,
        out_channels: int,
        embedding: int,
        *,
        groups: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm_silu(channels, groups)
        self.conv1 = convolution(dimension, channels, out_channels, 3)
        self.embed = linear(embedding, out_channels)
        self.norm2 = norm_silu(out_channels, groups)
        self.dropout = Dropout(dropout)
        self.conv2 = zeroed(convolution(dimension, out_channels, out_channels, 3))
        self.shortcut = nn.Identity() if channels == out_channels else convolution(dimension, channels, out_channels, 1)

    def forward(self, x: Float[Tensor, "b c *s"], embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b d *s"]:
        h = self.conv1(self.norm1(x))
        e = self.embed(embedding)
        h = h + e.reshape(e.shape + (1,) * (x.ndim - 2))
        h = self.conv2(self.dropout(self.norm2(h)))
        y: Tensor = self.shortcut(x) + h
        return y


class SelfAttention(nn.Module):
    """Every position attends to every other: ``(B, C, *s) -> (B, C, *s)``.

    ``y = x + out(softmax(q k^T / sqrt(d)) v)`` with d = C / heads, and q, k, v affine in the normalised x. While
    ``fused`` is set, torch's own attention computes this, without forward derivatives (torch.func.jvp) and second ones.

    Arguments:
        channels: channels C of x.
        heads: number of heads, a divisor of ``channels``.
        groups: maximum number of groups of the norm.

    Raises:
        InputError: ``heads`` does not divide ``channels``.
    """

    fused: bool = False

    def __init__(self, channels: int, *, heads: int = 1, groups: int = 32) -> None:
        super().__init__()
        if channels % heads:
            raise InputError(f"heads={heads} does not divide the {channels} channels of an attention: give a divisor")
        self.heads = heads
        self.norm = group_norm(channels, groups)
        self.query = linear(channels, channels)
        self.key = linear(channels, channels)
        self.value = linear(channels, channels)
        self.out = zeroed(linear(channels, channels))

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *s"]:
        # One copy here; without it each of the three layers would make its own.
        h = self.norm(x).flatten(2).transpose(1, 2).contiguous()  # (B, positions, C)
        q, k, v = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, positions, C / heads)
            for layer in (self.query, self.key, self.value)
        )
        if self.fused:
            h = F.scaled_dot_product_attention(q, k, v)
        else:
            h = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1) @ v
        h = self.out(h.transpose(1, 2).flatten(2))
        y: Tensor = x + h.transpose(1, 2).unflatten(2, x.shape[2:])
        return y


class Downsample(nn.Module):
    """Halve every even side by a convolution of kernel 3 and stride 2: ``(B, C, *s) -> (B, C, *(s / 2))``.

    Each axis is padded by one zero at its end and none at its beginning, so output i sees inputs 2 i to 2 i + 2.
    """

    def __init__(self, dimension: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution(dimension, channels, channels, 3, stride=2)
        self.padding = (0, 1) * dimension

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *half"]:
        y: Tensor = self.conv(F.pad(x, self.padding))
        return y


class Upsample(nn.Module):
    """Double every side by repetition, followed by a convolution of kernel 3: ``(B, C, *s) -> (B, C, *(2 s))``."""

    def __init__(self, dimension: int, channels: int) -> None:
        super().__init__()
        self.conv = convolution(dimension, channels, channels, 3)

    def forward(self, x: Float[Tensor, "b c *s"]) -> Float[Tensor, "b c *double"]:
        y: Tensor = self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
        return y
