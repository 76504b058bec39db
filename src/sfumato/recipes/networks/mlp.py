"""The settings of the residual MLP."""

from __future__ import annotations

from typing import Literal

from torch import nn

from sfumato import networks

from ..section import Fraction, PositiveInt
from .section import NETWORKS, NetworkSection


@NETWORKS.add
class MLPNetwork(NetworkSection):
    """A residual MLP."""

    kind: Literal["mlp"] = "mlp"
    width: PositiveInt = 256
    depth: PositiveInt = 4
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
        return networks.MLP(
            shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions, extra=extra
        )
