"""The objective section: the loss, and the times that it is computed at."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from sfumato import objectives
from sfumato.bounds.terms import finest_time

from .section import Context, PositiveFloat, PositiveInt, Section
from .times import AnyTimes, AutoTimes, BoundTimes, LossAwareTimes
from .weight import PlainWeight, WeightSection

MAX_EXACT_TRACE = 16  # dimensions; above, a backward pass for each costs more than it saves


class BaseObjective(Section, ABC):
    """Base class of objectives. Its flags let a recipe check that its sections fit together."""

    learns_schedule: ClassVar[bool] = False
    learns_variance: ClassVar[bool] = False
    needs_variance: ClassVar[bool] = False
    takes_pairs: ClassVar[bool] = False  # of noise and data, and images that were moved
    is_bound: ClassVar[bool] = False

    kind: str

    @property
    def pairs(self) -> bool:
        """Whether noise is paired with data, so that a flow is learned instead of a score."""
        return False

    @abstractmethod
    def build(self, context: Context) -> objectives.Loss[Any]:
        """The loss."""


def _first_time(context: Context) -> float:
    """The earliest time of a loss; after clean data, where the loss would be infinite."""
    return finest_time(context.process, context.spec.grid)


class DenoisingObjective(BaseObjective):
    """The error of the noise with a ``weight`` per noise level.

    It can also learn the ``uncertainty`` of each noise level. A ``pairing`` reassigns the noise of a batch so that
    noise and samples are near each other.
    """

    takes_pairs: ClassVar[bool] = True

    kind: Literal["denoising"] = "denoising"
    times: AnyTimes = AutoTimes()
    weight: WeightSection = PlainWeight()
    uncertainty: Literal["none", "learned"] = "none"
    pairing: Literal["independent", "optimal-transport"] = "independent"

    @field_validator("uncertainty")
    @classmethod
    def _not_undone(cls, value: str, info: Any) -> str:  # pydantic's ValidationInfo cannot be checked at run time
        if value == "learned" and isinstance(info.data.get("times"), LossAwareTimes):
            raise ValueError("loss-aware times undo it; give other objective.times, or objective.uncertainty=none")
        return value

    @property
    def pairs(self) -> bool:
        return self.pairing != "independent"

    def build(self, context: Context) -> objectives.Loss[Any]:
        times, weight = self.times.build(context, _first_time(context)), self.weight.build(context)
        loss = objectives.DenoisingLoss(times, weight, objectives.optimal_transport if self.pairs else None)
        return objectives.UncertaintyWeighted(loss) if self.uncertainty == "learned" else loss


class HybridObjective(BaseObjective):
    """``L_simple + bound_weight L_vlb``, for a variance that is learned."""

    learns_variance: ClassVar[bool] = True
    needs_variance: ClassVar[bool] = True

    kind: Literal["hybrid"]
    times: BoundTimes = AutoTimes()
    bound_weight: PositiveFloat = 0.001

    def build(self, context: Context) -> objectives.Loss[Any]:
        return objectives.HybridLoss(
            self.times.build(context, _first_time(context)), context.decoder, self.bound_weight
        )


class BoundObjective(BaseObjective):
    """The negative ELBO. Its errors are read in a ``form``; null leaves the choice to the loss."""

    learns_schedule: ClassVar[bool] = True
    learns_variance: ClassVar[bool] = True
    is_bound: ClassVar[bool] = True

    kind: Literal["bound"]
    times: BoundTimes = AutoTimes()
    form: Literal["noise", "x_0", "score"] | None = None

    def build(self, context: Context) -> objectives.Loss[Any]:
        return objectives.BoundLoss(self.times.build(context, 0.0), context.loss_decoder, self.form)


class ImplicitObjective(BaseObjective):
    """Implicit score matching, from noisy data alone.

    ``probes`` is the number of random directions per sample. Null means the exact trace in up to 16 dimensions, and
    one direction in more.
    """

    kind: Literal["implicit"]
    times: AnyTimes = AutoTimes()
    probes: PositiveInt | None = None

    def build(self, context: Context) -> objectives.Loss[Any]:
        exact = self.probes is None and math.prod(context.spec.model_shape) <= MAX_EXACT_TRACE
        times = self.times.build(context, _first_time(context))
        return objectives.ImplicitScoreMatching(times, None if exact else self.probes or 1)


class SlicedObjective(BaseObjective):
    """Sliced score matching, from noisy data alone, with ``probes`` random directions per sample."""

    kind: Literal["sliced"]
    times: AnyTimes = AutoTimes()
    probes: PositiveInt = 1

    def build(self, context: Context) -> objectives.Loss[Any]:
        return objectives.SlicedScoreMatching(self.times.build(context, _first_time(context)), self.probes)


ObjectiveSection = Annotated[
    DenoisingObjective | HybridObjective | BoundObjective | ImplicitObjective | SlicedObjective,
    Field(discriminator="kind"),
]
