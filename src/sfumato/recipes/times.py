"""The times section: the distribution of the times that a loss is computed at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from sfumato import objectives
from sfumato.errors import InputError

from .section import Context, PositiveFloat, Section

EDM_MEAN, EDM_STD = -1.2, 1.2  # of log(sigma / alpha): Karras et al. 2022, table 1


class AutoTimes(Section):
    """The noise levels of a chain, each equally likely; uniform times in continuous time."""

    kind: Literal["auto"] = "auto"

    def build(self, context: Context, first: float) -> objectives.UniformTimes | objectives.ChainTimes:
        if context.chain_length is None:
            return objectives.UniformTimes(first)
        return objectives.ChainTimes(context.chain_length)


class UniformTimes(Section):
    """Uniform times, also between the noise levels of a chain."""

    kind: Literal["uniform"]

    def build(self, context: Context, first: float) -> objectives.TimeSampler:
        return objectives.UniformTimes(first)


class LogNormalTimes(Section):
    """Times at which log(sigma / alpha) is normal."""

    kind: Literal["log-normal"]
    log_ratio_mean: float = EDM_MEAN
    log_ratio_std: PositiveFloat = EDM_STD

    def build(self, context: Context, first: float) -> objectives.TimeSampler:
        try:
            return objectives.LogNormalTimes(context.process, self.log_ratio_mean, self.log_ratio_std, first)
        except InputError as error:
            raise InputError(f"objective.times.{error}") from None


class LossAwareTimes(Section):
    """The times of ``auto``, drawn more often where the loss is large."""

    kind: Literal["loss-aware"]

    def build(self, context: Context, first: float) -> objectives.TimeSampler:
        return objectives.LossAware(AutoTimes().build(context, first))


AnyTimes = Annotated[AutoTimes | UniformTimes | LogNormalTimes | LossAwareTimes, Field(discriminator="kind")]
"""For the losses whose mean over any times is a loss of its own."""

BoundTimes = Annotated[AutoTimes | LossAwareTimes, Field(discriminator="kind")]
"""For a bound, which is the mean over all times, each equally likely."""
