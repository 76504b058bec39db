"""The conditioning section: what a model is conditioned on besides the noise level."""

from __future__ import annotations

from typing import Literal

from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition

from .section import Section


class NoConditioning(Section):
    """An unconditional model."""

    kind: Literal["none"] = "none"

    def length(self, spec: DataSpec) -> int:
        """How many numbers of the network's condition vector it takes."""
        return 0

    def condition(self, samples: Samples) -> Condition | None:
        """The condition of training samples, one row per sample; None for an unconditional model."""
        return None
