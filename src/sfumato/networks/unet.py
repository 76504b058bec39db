"""The U-Net of DDPM, for images and signals.

    conv_in -> down: per level `blocks` blocks, then half the sides   (each output is kept as a skip)
            -> middle: block, attention, block
            -> up: per level `blocks + 1` blocks, each on [x, skip], then double the sides
            -> norm, SiLU, conv_out

Level i has ``width * multipliers[i]`` channels and sides ``s / 2^i``; a block is a residual block, followed by
self-attention at the chosen resolutions. With its defaults on (3, 32, 32) it is the network of Ho, Jain and Abbeel
(2020, appendix B) for CIFAR-10, layer for layer, with 35,746,307 parameters. Submodules are registered in order of
execution, so that weights can be carried to and from other code by order alone.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sfumato.errors import InputError
from sfumato.networks.arguments import even, fits, positive, positives, probability
from sfumato.networks.embeddings import LabelEmbedding
from sfumato.networks.execution import Attention
from sfumato.networks.layers import (
    Downsample,
    NormSilu,
    ResidualBlock,
    SelfAttention,
    Upsample,
    at_hand,
    convolution,
    full_precision,
    norm_silu,
    zeroed,
)


class Block(nn.Module):
    """A residual block and the attention that follows it, which is the identity where there is none.

    While ``recomputes`` is set, backward computes the block anew from its input instead of keeping what is inside: a
    third more time, for a fraction of the memory, and the same gradient to the bit (Chen et al. 2016, "Training deep
    nets with sublinear memory cost").
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
    """One level of the way down: its blocks, then ``resample``. Appends every output to ``skips``."""

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
    """One level of the way up: its blocks, then ``resample``. Each block takes the last of ``skips`` to its input."""

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
    """``y = network(x, label, cond)``: x (B, C, L) or (B, C, H, W), label (B,) any real number, cond (B, conditions) or
    None for zeros, y shaped as x (``outputs`` times its channels).

    Arguments:
        shape: of one sample, (C, L) or (C, H, W).
        width: channels of the first level, and features of the label; even, at least 4.
        multipliers: channels of each level in units of ``width``; every level halves the sides of the one before it.
        blocks: residual blocks a level on the way down; the way up has one more.
        attention: the resolutions (longest side of the feature map, after padding) whose blocks attend; may be empty.
            The middle always attends.
        heads: of every attention; divides the channels of each.
        dropout: probability inside each residual block.
        embedding: "sinusoidal" for labels that count steps, "fourier" for labels of order one.
        groups: of the group norms, at most (see ``layers.group_norm``).
        outputs: how many answers of x's shape, one behind the other along the channels.
        fourier: powers n of the features sin(2^n pi x), cos(2^n pi x) that the first convolution sees beside x, so that
            fine detail of values is plain to it (Kingma et al. 2021, appendix C: n = 7, 8 for 256 levels).
        pad: repeat the last values of each axis until its length divides by 2^(levels - 1), and crop the output.
        conditions: how many numbers of order one, beside the label, are told of a sample; zeros say nothing.

    A fresh network outputs 0. Computes in the type of its weights, which must be that of x. Raises ``InputError`` for
    arguments that make no network and for an x or a cond of another shape.
    """

    def __init__(
        self,
        shape: Sequence[int],
        width: int = 128,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 2,
        attention: Sequence[int] = (16,),
        heads: int = 1,
        dropout: float = 0.0,
        embedding: str = "sinusoidal",
        groups: int = 32,
        pad: bool = False,
        outputs: int = 1,
        fourier: Sequence[int] = (),
        conditions: int = 0,
    ) -> None:
        super().__init__()
        self.shape = _image_or_signal(shape)
        even("width", width)
        channels = [width * m for m in positives("multipliers", multipliers)]
        positive("blocks", blocks)
        positive("heads", heads)
        positive("groups", groups)
        positive("outputs", outputs)
        probability("dropout", dropout)
        padded = _padded_sides(self.shape, 2 ** (len(channels) - 1), pad)
        self.padding = [p - s for p, s in zip(padded, self.shape[1:], strict=True)]
        attends = _attending_levels(attention, [max(padded) // 2**i for i in range(len(channels))])
        dimension = len(padded)

        def block(inputs: int, outputs: int, attend: bool) -> Block:
            residual = ResidualBlock(dimension, inputs, outputs, 4 * width, groups=groups, dropout=dropout)
            return Block(residual, SelfAttention(outputs, heads=heads, groups=groups) if attend else nn.Identity())

        self.embed = LabelEmbedding(embedding, width, 4 * width, conditions)
        self.fourier = tuple(fourier)
        self.conv_in = convolution(dimension, self.shape[0] * (1 + 2 * len(self.fourier)), width, 3)
        skips = [width]  # the channels of every skip, in the order in which they are kept
        down = []
        for level, c in enumerate(channels):
            last = level == len(channels) - 1
            stage = [block(skips[-1] if j == 0 else c, c, attends[level]) for j in range(blocks)]
            down.append(Down(stage, None if last else Downsample(dimension, c)))
            skips += [c] * (blocks if last else blocks + 1)
        self.down = nn.ModuleList(down)
        self.middle = nn.ModuleList([block(channels[-1], channels[-1], attend) for attend in (True, False)])
        above = channels[-1]  # the channels that come up from the level below
        up = []
        for level, c in reversed(list(enumerate(channels))):
            stage = [block((above if j == 0 else c) + skips.pop(), c, attends[level]) for j in range(blocks + 1)]
            up.append(Up(stage, Upsample(dimension, c) if level else None))
            above = c
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
        fits(x, self.shape)
        embedding = self.embed(label, cond)
        if any(self.padding):
            # F.pad counts axes from the last, and wants the numbers for both ends of each.
            x = F.pad(x, [n for extra in reversed(self.padding) for n in (0, extra)], mode="replicate")
        angles = [2**n * torch.pi * x for n in self.fourier]
        with full_precision(x):  # where data has its last digits
            x = self.conv_in(torch.cat([x, *(wave for angle in angles for wave in (angle.sin(), angle.cos()))], dim=1))
        x = at_hand(x)
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


def _image_or_signal(shape: Sequence[int]) -> tuple[int, ...]:
    given = positives("shape", shape)
    if len(given) not in (2, 3):
        raise InputError(
            f"shape={given} is neither a signal nor an image: give (channels, length) or (channels, height, width), "
            "or use an MLP, which takes any shape"
        )
    return given


def _padded_sides(shape: tuple[int, ...], factor: int, pad: bool) -> list[int]:
    """The sides of the input that the levels can halve, at least as long as the given ones."""
    sides = [-(-side // factor) * factor for side in shape[1:]]
    if sides != list(shape[1:]) and not pad:
        raise InputError(
            f"shape={shape} has sides that {factor} does not divide, as the multipliers need: "
            "give fewer multipliers, or pad=True"
        )
    return sides


def _attending_levels(attention: Sequence[int], resolutions: list[int]) -> list[bool]:
    unknown = sorted(set(attention) - set(resolutions), reverse=True)
    if unknown:
        raise InputError(
            f"attention={tuple(attention)} asks for resolutions that never occur, {', '.join(map(str, unknown))}: "
            f"give some of {', '.join(map(str, resolutions))}, or () for the middle only"
        )
    return [resolution in attention for resolution in resolutions]
