"""The target section: the quantity that the network predicts."""

from __future__ import annotations

from typing import Literal

from sfumato import core

from .section import Context, Section


class TargetSection(Section):
    """The quantity that the network predicts."""

    kind: Literal["x_0", "noise", "score", "v", "velocity", "edm"] = "noise"

    def build(self, context: Context) -> core.Target:
        targets: dict[str, core.Target] = {
            "x_0": core.X0(),
            "noise": core.Noise(),
            "score": core.Score(),
            "v": core.V(),
            "velocity": core.Velocity(context.process.scaling),
            "edm": core.EDM(context.sigma_data),
        }
        return targets[self.kind]
