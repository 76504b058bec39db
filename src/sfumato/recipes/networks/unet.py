"""The settings of the UNet."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from sfumato import networks

from ..section import Fraction, PositiveInt
from .section import NETWORKS, NetworkSection


@NETWORKS.add
class UNetNetwork(NetworkSection):
    """DDPM's UNet for signals and images."""

    kind: Literal["unet"] = "unet"
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

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
        return networks.UNet(
            shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions, extra=extra
        )
