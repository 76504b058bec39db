"""The U-Net of DDPM, for images and signals.

    conv_in -> down: per stage `blocks` blocks, then half the sides   (each output is kept as a skip)
            -> middle: block, attention, block
            -> up: per stage `blocks + 1` blocks, each on [x, skip], then double the sides
            -> norm, SiLU, conv_out

Stage i has ``width * multipliers[i]`` channels and sides ``s / 2^i``. A block is a residual block, followed by
self-attention at the chosen resolutions. The defaults on (3, 32, 32) give the network of Ho, Jain & Abbeel (2020,
appendix B) for CIFAR-10, layer for layer, with 35,746,307 parameters. Submodules are registered in order of execution,
so that weights can be exchanged with other code by order alone.
"""

from collections.abc import Sequence
from typing import SupportsIndex

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfumato.errors import InputError
from sfumato.networks.arguments import even, fits, image_or_signal, positive, positives, probability
from sfumato.networks.embeddings import LabelEmbedding
from sfumato.networks.execution import Attention
from sfumato.networks.layers import (
    Downsample,
    NormSilu,
    ResidualBlock,
    SelfAttention,
    Upsample,
    convolution,
    full_precision,
    in_autocast_type,
    norm_silu,
    zeroed,
)
from sfumato.numerics.integers import whole


class Block(nn.Module):
    """A residual block followed by attention, or by the identity.

    While ``recomputes`` is set, the backward pass computes the block again from its input instead of keeping its inner
    values: a third more time for a fraction of the memory, with the same gradient to the bit (Chen et al. 2016,
    "Training deep nets with sublinear memory cost").
    """

    recomputes: bool = False

    def __init__(self, residual: ResidualBlock, attention: nn.Module) -> None:
        super().__init__()
        self.residual = residual
        self.attention = attention

    def forward(self, x: Float[Tensor, "b c *s"], embedding: Float[Tensor, "b e"]) -> Float[Tensor, "b d *s"]:
        if self.recomputes and torch.is_grad_enabled():
            y: Tensor = checkpoint(self._inside, x, embedding, use_reentrant=False)
            return y
        return self._inside(x, embedding)

    def _inside(self, x: Tensor, embedding: Tensor) -> Tensor:
        y: Tensor = self.attention(self.residual(x, embedding))
        return y


class Down(nn.Module):
    """One stage on the way down: its blocks, then ``resample``. Appends every output to ``skips``."""

    def __init__(self, blocks: Sequence[Block], resample: Downsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
            skips.append(x)
        if self.resample is not None:
            x = self.resample(x)
            skips.append(x)
        return x


class Up(nn.Module):
    """One stage on the way up: its blocks, then ``resample``. Each block also takes the last of ``skips``."""

    def __init__(self, blocks: Sequence[Block], resample: Upsample | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.resample = resample

    def forward(self, x: Tensor, embedding: Tensor, skips: list[Tensor]) -> Tensor:
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), embedding)
        if self.resample is not None:
            x = self.resample(x)
        return x


class UNet(nn.Module):
    """The U-Net, ``y = network(x, label, cond)``.

    x has shape (B, C + extra, L) or (B, C + extra, H, W), label is any real number (B,), cond has shape (B, conditions)
    or is None for zeros. y has ``outputs`` times C channels. A fresh network outputs 0. It computes in the type of
    its weights, which must be that of x.

    Arguments:
        shape: shape of one sample, (C, L) or (C, H, W).
        width: channels of the first stage, and number of features of the label; even, at least 4.
        multipliers: channels of each stage in units of ``width``; every stage halves the sides of the previous one.
        blocks: residual blocks per stage on the way down; on the way up there is one more.
        attention: resolutions (longest side of the feature map, after padding) whose blocks have attention; may be
            empty. The middle always has it.
        heads: number of heads of every attention; divides the channels of each.
        dropout: probability of dropout in each residual block.
        embedding: "sinusoidal" for labels that count steps, "fourier" for labels of order one.
        groups: maximum number of groups of the norms (see ``layers.group_norm``).
        pad: repeat the last values of each axis until 2^(stages - 1) divides its length, and crop the output.
        outputs: number of outputs, concatenated along the channels.
        fourier: powers n of the features sin(2^n pi x), cos(2^n pi x) that are concatenated with x, which show the
            first convolution fine differences of values (Kingma et al. 2021, appendix C: n = 7, 8 for 256 values).
        conditions: length of the condition vector, with entries of order one; zeros mean unconditional.
        extra: channels that x has after those of ``shape``.

    Raises:
        InputError: an argument is out of range, or x or cond has another shape.
    """

    def __init__(
        self,
        shape: Sequence[SupportsIndex],
        width: SupportsIndex = 128,
        multipliers: Sequence[SupportsIndex] = (1, 2, 2, 2),
        blocks: SupportsIndex = 2,
        attention: Sequence[SupportsIndex] = (16,),
        heads: SupportsIndex = 1,
        dropout: float = 0.0,
        embedding: str = "sinusoidal",
        groups: SupportsIndex = 32,
        pad: bool = False,
        outputs: SupportsIndex = 1,
        fourier: Sequence[SupportsIndex] = (),
        conditions: SupportsIndex = 0,
        extra: SupportsIndex = 0,
    ) -> None:
        super().__init__()
        self.shape = image_or_signal(shape)
        self.extra = whole("extra", extra, 0)
        width, blocks, heads = even("width", width), positive("blocks", blocks), positive("heads", heads)
        groups, outputs = positive("groups", groups), positive("outputs", outputs)
        channels = [width * m for m in positives("multipliers", multipliers)]
        probability("dropout", dropout)
        padded = _padded_sides(self.shape, 2 ** (len(channels) - 1), pad)
        self.padding = [p - s for p, s in zip(padded, self.shape[1:], strict=True)]
        sides = [max(padded) // 2**i for i in range(len(channels))]
        attends = _attending_stages([whole("attention", side) for side in attention], sides)
        dimension = len(padded)

        def block(inputs: int, outputs: int, attend: bool) -> Block:
            residual = ResidualBlock(dimension, inputs, outputs, 4 * width, groups=groups, dropout=dropout)
            return Block(residual, SelfAttention(outputs, heads=heads, groups=groups) if attend else nn.Identity())

        self.embed = LabelEmbedding(embedding, width, 4 * width, conditions)
        self.fourier = tuple(whole("fourier", power) for power in fourier)
        inputs = self.shape[0] * (1 + 2 * len(self.fourier)) + self.extra
        self.conv_in = convolution(dimension, inputs, width, 3)
        skips = [width]  # the channels of every skip, in order
        down = []
        for stage, c in enumerate(channels):
            last = stage == len(channels) - 1
            stack = [block(skips[-1] if j == 0 else c, c, attends[stage]) for j in range(blocks)]
            down.append(Down(stack, None if last else Downsample(dimension, c)))
            skips += [c] * (blocks if last else blocks + 1)
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([block(channels[-1], channels[-1], attend) for attend in (True, False)])
        below = channels[-1]  # the channels that come up from the stage below
        up = []
        for stage, c in reversed(list(enumerate(channels))):
            stack = [block((below if j == 0 else c) + skips.pop(), c, attends[stage]) for j in range(blocks + 1)]
            up.append(Up(stack, Upsample(dimension, c) if stage else None))
            below = c
        self.up = nn.ModuleList(up)
        self.norm = norm_silu(channels[0], groups)
        self.conv_out = zeroed(convolution(dimension, channels[0], outputs * self.shape[0], 3))

    def configure(
        self, *, attention: Attention | None = None, lean_norms: bool | None = None, recompute: bool | None = None
    ) -> None:
        """Change how the network computes; a choice that is None stays as it is (see ``execution.Configurable``)."""
        for module in self.modules():
            if isinstance(module, SelfAttention) and attention is not None:
                module.fused = attention == "fused"
            if isinstance(module, NormSilu) and lean_norms is not None:
                module.lean = lean_norms
            if isinstance(module, Block) and recompute is not None:
                module.recomputes = recompute

    def units(self) -> list[nn.Module]:
        """Its blocks, in order of execution."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def forward(
        self,
        x: Float[Tensor, "b c *s"],
        label: Float[Tensor, " b"],
        cond: Float[Tensor, "n conditions"] | None = None,
    ) -> Float[Tensor, "b d *s"]:
        fits(x, (self.shape[0] + self.extra, *self.shape[1:]))
        embedding = self.embed(label, cond)
        if any(self.padding):
            # F.pad counts axes from the last, with the padding of both ends of each.
            x = F.pad(x, [n for extra in reversed(self.padding) for n in (0, extra)], mode="replicate")
        angles = [2**n * torch.pi * x[:, : self.shape[0]] for n in self.fourier]
        with full_precision(x):  # x has the last digits of the data
            x = self.conv_in(torch.cat([x, *(wave for angle in angles for wave in (angle.sin(), angle.cos()))], dim=1))
        x = in_autocast_type(x)
        skips = [x]
        for stage in self.down:
            x = stage(x, embedding, skips)
        for block in self.middle:
            x = block(x, embedding)
        for stage in self.up:
            x = stage(x, embedding, skips)
        x = self.norm(x)
        with full_precision(x):
            x = self.conv_out(x.to(self.conv_out.weight.dtype))
        if any(self.padding):
            for axis, length in enumerate(self.shape[1:], start=2):
                x = x.narrow(axis, 0, length)
        return x


def _padded_sides(shape: tuple[int, ...], factor: int, pad: bool) -> list[int]:
    """The smallest sides, at least the given ones, that every stage can halve."""
    sides = [-(-side // factor) * factor for side in shape[1:]]
    if sides != list(shape[1:]) and not pad:
        raise InputError(
            f"shape={shape} has sides that {factor} does not divide, as the multipliers need: "
            "give fewer multipliers, or pad=True"
        )
    return sides


def _attending_stages(attention: Sequence[int], resolutions: list[int]) -> list[bool]:
    unknown = sorted(set(attention) - set(resolutions), reverse=True)
    if unknown:
        raise InputError(
            f"attention={tuple(attention)} asks for resolutions that never occur, {', '.join(map(str, unknown))}: "
            f"give some of {', '.join(map(str, resolutions))}, or () for the middle only"
        )
    return [resolution in attention for resolution in resolutions]
