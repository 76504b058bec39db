"""The target and objective sections: what the network outputs, and what is minimised at which times."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from sfumato import core, objectives
from sfumato.objectives import weights

from .section import PositiveFloat, PositiveInt, Section


class TargetSection(Section):
    """What the network outputs."""

    kind: Literal["x_0", "noise", "score", "v", "velocity", "edm"] = "noise"

    def build(self, process: core.Process, sigma_data: float) -> core.Target:
        targets: dict[str, core.Target] = {
            "x_0": core.X0(),
            "noise": core.Noise(),
            "score": core.Score(),
            "v": core.V(),
            "velocity": core.Velocity(process.scaling),
            "edm": core.EDM(sigma_data),
        }
        return targets[self.kind]


class PlainWeight(Section):
    """A weight without settings; ``edm`` takes the recipe's sigma_data."""

    kind: Literal["simple", "elbo", "likelihood", "edm", "flow"] = "simple"

    def build(self, sigma_data: float) -> objectives.Weight:
        known: dict[str, objectives.Weight] = {
            "simple": weights.simple,
            "elbo": weights.elbo,
            "likelihood": weights.likelihood,
            "edm": partial(weights.edm, sigma_data=sigma_data),
            "flow": weights.flow,
        }
        return known[self.kind]


class MinSNRWeight(Section):
    """The error of x_0 weighted by the SNR, at ``most`` so much."""

    kind: Literal["min-snr"]
    most: PositiveFloat = 5.0

    def build(self, sigma_data: float) -> objectives.Weight:
        return partial(weights.min_snr, most=self.most)


class SigmoidWeight(Section):
    """A sigmoid of the log-SNR relative to the bound."""

    kind: Literal["sigmoid"]
    bias: float = 2.0

    def build(self, sigma_data: float) -> objectives.Weight:
        return partial(weights.sigmoid, bias=self.bias)


class P2Weight(Section):
    """Less weight where only imperceptible detail is left."""

    kind: Literal["p2"]
    offset: PositiveFloat = 1.0
    power: Annotated[float, Field(ge=0)] = 1.0

    def build(self, sigma_data: float) -> objectives.Weight:
        return partial(weights.p2, offset=self.offset, power=self.power)


EDM_MEAN, EDM_STD = -1.2, 1.2  # of log(sigma / alpha): Karras et al. 2022, table 1
EXACT_TRACE = 16  # dimensions; above, a pass backwards for each costs more than it saves


class ObjectiveSection(Section):
    """What is minimised, at which times.

    ``denoising`` is the weighted error of the noise; ``bound`` the negative ELBO, its errors read in a ``form``;
    ``hybrid`` L_simple + ``bound_weight`` L_vlb, for a learned variance. ``implicit`` and ``sliced`` learn the score of
    noisy data without ever seeing which noise it was, from ``probes`` random directions a sample; null is one, and
    for ``implicit`` in up to 16 dimensions the exact trace.

    ``auto`` times are the levels of a chain where the schedule is one, uniform elsewhere; ``loss-aware`` ones are drawn
    more often where the loss is large; ``log-normal`` ones have a normal log(sigma / alpha), with its mean and std.
    The ``weight`` is that of ``denoising``, which can also learn the ``uncertainty`` of each level, and have the noises
    of a batch dealt out so that each is near its sample, ``pairing``.
    """

    kind: Literal["denoising", "hybrid", "bound", "implicit", "sliced"] = "denoising"
    times: Literal["auto", "uniform", "log-normal", "loss-aware"] = "auto"
    log_ratio_mean: float | None = None
    log_ratio_std: PositiveFloat | None = None
    weight: Annotated[PlainWeight | MinSNRWeight | SigmoidWeight | P2Weight, Field(discriminator="kind")] = (
        PlainWeight()
    )
    uncertainty: Literal["none", "learned"] = "none"
    pairing: Literal["independent", "optimal-transport"] = "independent"
    form: Literal["noise", "x_0", "score"] | None = None
    bound_weight: PositiveFloat = 0.001
    probes: PositiveInt | None = None
