"""The settings of the transformer on patches."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from sfumato import networks
from sfumato.data import DataSpec

from ..section import Fraction, PositiveInt
from .section import NETWORKS, NetworkSection

_TOKENS = 256  # patches of a sample, at most, where their size is not given


@NETWORKS.add
class DiTNetwork(NetworkSection):
    """A transformer on patches of signals and images; ``patch`` and ``embedding`` are chosen from the data."""

    kind: Literal["dit"] = "dit"
    patch: PositiveInt | None = None
    width: PositiveInt = 128
    depth: PositiveInt = 6
    heads: PositiveInt = 4
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] | None = None

    def resolved(self, spec: DataSpec, label: str) -> NetworkSection:
        sides, patch = spec.model_shape[1:], 1
        while math.prod(-(-side // patch) for side in sides) > _TOKENS:
            patch += 1
        # Sinusoids resolve labels that count to a thousand; the log of a ratio is of order one.
        embedding = self.embedding or ("fourier" if label == "log-ratio" else "sinusoidal")
        return self.model_copy(update={"patch": self.patch or patch, "embedding": embedding})

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0, extra: int = 0) -> nn.Module:
        settings = {name: value for name, value in self.model_dump(exclude={"kind"}).items() if value is not None}
        return networks.DiT(shape, **settings, outputs=outputs, conditions=conditions, extra=extra)
