"""The conditioning section: the conditions of a model besides the noise level."""

from __future__ import annotations

from typing import Literal

from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition

from .section import Section


class NoConditioning(Section):
    """An unconditional model."""

    kind: Literal["none"] = "none"

    def length(self, spec: DataSpec) -> int:
        """The number of entries it adds to the network's condition vector."""
        return 0

    def condition(self, samples: Samples) -> Condition | None:
        """The condition of training samples, one row per sample; None for an unconditional model."""
        return None
