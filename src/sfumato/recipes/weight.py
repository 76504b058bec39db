"""The weight section: the weight of each noise level in the denoising loss."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import Field

from sfumato import objectives
from sfumato.objectives import weights

from .section import Context, PositiveFloat, Section


class PlainWeight(Section):
    """A weight without settings; ``edm`` takes the ``sigma_data`` of the recipe."""

    kind: Literal["simple", "elbo", "likelihood", "edm", "flow"] = "simple"

    def build(self, context: Context) -> objectives.Weight:
        known: dict[str, objectives.Weight] = {
            "simple": weights.simple,
            "elbo": weights.elbo,
            "likelihood": weights.likelihood,
            "edm": partial(weights.edm, sigma_data=context.sigma_data),
            "flow": weights.flow,
        }
        return known[self.kind]


class MinSNRWeight(Section):
    """The SNR, at most ``most``, on the error of x_0."""

    kind: Literal["min-snr"]
    most: PositiveFloat = 5.0

    def build(self, context: Context) -> objectives.Weight:
        return partial(weights.min_snr, most=self.most)


class SigmoidWeight(Section):
    """A sigmoid of the log-SNR, relative to the weight of the ELBO."""

    kind: Literal["sigmoid"]
    bias: float = 2.0

    def build(self, context: Context) -> objectives.Weight:
        return partial(weights.sigmoid, bias=self.bias)


class P2Weight(Section):
    """Less weight where only imperceptible detail is left."""

    kind: Literal["p2"]
    offset: PositiveFloat = 1.0
    power: Annotated[float, Field(ge=0)] = 1.0

    def build(self, context: Context) -> objectives.Weight:
        return partial(weights.p2, offset=self.offset, power=self.power)


WeightSection = Annotated[PlainWeight | MinSNRWeight | SigmoidWeight | P2Weight, Field(discriminator="kind")]
