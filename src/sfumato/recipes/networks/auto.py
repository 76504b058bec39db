"""The network that is chosen from the data."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from sfumato.data import DataSpec
from sfumato.errors import InputError

from ..section import Fraction, PositiveInt
from .mlp import MLPNetwork
from .section import NETWORKS, NetworkSection
from .unet import UNetNetwork


@dataclass(frozen=True)
class Size:
    """A size of UNet.

    Arguments:
        width: channels of its first stage.
        blocks: residual blocks per stage.
        attends: whether small feature maps have attention; the middle always has it.
    """

    width: int
    blocks: int
    attends: bool


SIZES = (
    Size(16, 1, False),
    Size(24, 1, False),
    Size(32, 1, False),
    Size(32, 2, True),
    Size(64, 2, True),
    Size(128, 2, True),
)
"""From what learns most in minutes of a CPU to what a GPU has room for."""

USUAL = 3


@NETWORKS.add
class AutoNetwork(NetworkSection):
    """An MLP for vectors, a UNet for signals and images, its sizes chosen from the data.

    ``size`` is an index of ``SIZES``, which ``budget`` chooses for a run with a budget in seconds; otherwise it is
    ``USUAL``.
    """

    kind: Literal["auto"] = "auto"
    size: Annotated[int, Field(ge=0, lt=len(SIZES))] | None = None
    width: PositiveInt | None = None
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] | None = None
    fourier: bool = False  # show fine differences of values to a UNet, for data that is not continuous

    def resolved(self, spec: DataSpec, label: str) -> NetworkSection:
        # Sinusoids resolve labels that count to a thousand; the log of a ratio is of order one.
        embedding = self.embedding or ("fourier" if label == "log-ratio" else "sinusoidal")
        if spec.layout.dimensions == 0:
            return MLPNetwork(width=self.width or 256, dropout=self.dropout, embedding=embedding)
        multipliers, attention = _stages(spec)
        size = SIZES[USUAL if self.size is None else self.size]
        # At this power of two the features repeat from one value of the data to the next.
        finest = 0 if spec.grid is None else round(math.log2(spec.grid.count))
        return UNetNetwork(
            width=self.width or size.width,
            multipliers=multipliers,
            blocks=size.blocks,
            attention=attention if size.attends else [],
            dropout=self.dropout,
            embedding=embedding,
            pad=True,
            fourier=[finest - 1, finest] if self.fourier and not spec.continuous else [],
        )

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
        raise InputError("network.kind: auto is chosen from the data; resolve the recipe with a data contract first")


def _stages(spec: DataSpec) -> tuple[list[int], list[int]]:
    """The ``multipliers`` and the ``attention`` of a UNet for samples of this shape."""
    # Halve until the longest side is at most 8 (16 for signals): deeper stages would see little but padding.
    smallest = spec.layout.smallest_side
    side, stages = max(spec.model_shape[1:]), 1
    while side > smallest or stages < 2:
        side, stages = -(-side // 2), stages + 1
    factor = 2 ** (stages - 1)
    sides = [-(-size // factor) * factor for size in spec.model_shape[1:]]
    attention = []
    for stage in range(1, stages):
        # Attention costs the square of the number of positions: worth it up to DDPM's 16 x 16.
        if math.prod(size >> stage for size in sides) <= 256:
            attention.append(max(sides) >> stage)
    return [1] + [2] * (stages - 1), attention
