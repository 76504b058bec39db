"""The network section: one of a kind, or chosen from the data."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from sfumato import networks
from sfumato.data import DataSpec

from .section import Fraction, PositiveInt, Section


class AutoNetwork(Section):
    """A network chosen from the data: an MLP for vectors, a UNet for signals and images."""

    kind: Literal["auto"] = "auto"
    width: PositiveInt | None = None
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] | None = None
    fourier: bool = False  # features of the values' fine detail, where a UNet sees data with levels

    def resolved(self, spec: DataSpec, label: str) -> MLPNetwork | UNetNetwork:
        # Sinusoids resolve labels that count to a thousand; the log of a ratio is of order one.
        embedding = self.embedding or ("fourier" if label == "log-ratio" else "sinusoidal")
        if spec.layout.dimensions == 0:
            return MLPNetwork(kind="mlp", width=self.width or 256, dropout=self.dropout, embedding=embedding)
        # Halve until the longest side is at most 8 (16 for signals): deeper levels would see little but padding.
        smallest = spec.layout.smallest_side
        side, levels = max(spec.shape[1:]), 1
        while side > smallest or levels < 2:
            side, levels = -(-side // 2), levels + 1
        factor = 2 ** (levels - 1)
        sides = [-(-size // factor) * factor for size in spec.shape[1:]]
        attention = []
        for level in range(levels):
            positions = 1
            for size in sides:
                positions *= size >> level
            # Attention costs the square of the number of positions: worth it up to DDPM's 16 x 16.
            if level > 0 and positions <= 256:
                attention.append(max(sides) >> level)
        # At this power the features repeat from level to level.
        finest = 0 if spec.grid is None else round(math.log2(spec.grid.count))
        return UNetNetwork(
            kind="unet",
            width=self.width or 32,  # what a laptop trains in minutes; a GPU has room for 128
            multipliers=[1] + [2] * (levels - 1),
            attention=attention,
            dropout=self.dropout,
            embedding=embedding,
            pad=True,
            fourier=[finest - 1, finest] if self.fourier and not spec.continuous else [],
        )


class MLPNetwork(Section):
    """A residual MLP."""

    kind: Literal["mlp"]
    width: PositiveInt = 256
    depth: PositiveInt = 4
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"

    def resolved(self, spec: DataSpec, label: str) -> MLPNetwork:
        return self

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0) -> nn.Module:
        return networks.MLP(shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions)


class UNetNetwork(Section):
    """DDPM's UNet for 1-D and 2-D data."""

    kind: Literal["unet"]
    width: PositiveInt = 128
    multipliers: list[PositiveInt] = Field(default=[1, 2, 2, 2])
    blocks: PositiveInt = 2
    attention: list[PositiveInt] = Field(default=[16])
    heads: PositiveInt = 1
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"
    groups: PositiveInt = 32
    pad: bool = False
    fourier: list[Annotated[int, Field(ge=0, le=20)]] = Field(default=[])

    def resolved(self, spec: DataSpec, label: str) -> UNetNetwork:
        return self

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0) -> nn.Module:
        return networks.UNet(shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions)
