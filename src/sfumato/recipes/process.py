"""The process section: a scaling and a schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field

from sfumato import core
from sfumato.data import DataSpec
from sfumato.errors import InputError

from .section import OpenFraction, PositiveFloat, PositiveInt, Section


class BaseSchedule(Section, ABC):
    """Base class of schedules."""

    learned: ClassVar[bool] = False

    kind: str

    def resolved(self, spec: DataSpec) -> BaseSchedule:
        """This section with everything that depends on the data written out."""
        return self

    @abstractmethod
    def build(self) -> core.Schedule:
        """The schedule. Raises InputError for a null that only the data can replace."""


class LinearBetas(BaseSchedule):
    """A chain with linear betas (Ho et al. 2020)."""

    kind: Literal["linear-betas"] = "linear-betas"
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.linear_betas(self.steps, self.first, self.last))


class QuadraticBetas(BaseSchedule):
    """A chain whose betas have a linear square root."""

    kind: Literal["quadratic-betas"]
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.quadratic_betas(self.steps, self.first, self.last))


class SigmoidBetas(BaseSchedule):
    """A chain with betas along a sigmoid."""

    kind: Literal["sigmoid-betas"]
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.sigmoid_betas(self.steps, self.first, self.last))


class CosineBetas(BaseSchedule):
    """A chain along a squared cosine (Nichol & Dhariwal 2021)."""

    kind: Literal["cosine-betas"]
    steps: PositiveInt = 1000
    offset: PositiveFloat = 0.008
    clip: OpenFraction = 0.999

    def build(self) -> core.Schedule:
        return core.Tabulated(core.cosine_betas(self.steps, self.offset, self.clip))


class LearnedBetasSchedule(BaseSchedule):
    """A chain whose betas are learned by the bound, starting from ``start`` (Sohl-Dickstein et al. 2015).

    ``linear`` spreads the total decay of DDPM over ``steps`` betas: ``1e-4 .. 0.02`` times 1000 / steps, at most 0.5.
    """

    learned: ClassVar[bool] = True

    kind: Literal["learned-betas"]
    steps: Annotated[int, Field(ge=2)] = 20
    start: Literal["linear", "cosine"] = "cosine"

    def build(self) -> core.Schedule:
        if self.start == "cosine":
            return core.LearnedBetas(core.cosine_betas(self.steps))
        scale = 1000 / self.steps
        return core.LearnedBetas(core.linear_betas(self.steps, min(1e-4 * scale, 0.5), min(0.02 * scale, 0.5)))


class LearnedLogSNRSchedule(BaseSchedule):
    """VDM's clock: its ends are learned by the bound, its inside by the variance of the estimate (Kingma et al. 2021).

    ``logsnr_min`` and ``logsnr_max`` are the initial ends. With null, ``logsnr_max`` is chosen from the data: a step
    between neighbouring values is eight standard deviations of noise. For continuous data it is 13.3, as in VDM.
    """

    learned: ClassVar[bool] = True

    kind: Literal["learned-logsnr"]
    logsnr_min: float = -5.0
    logsnr_max: float | None = None
    cells: PositiveInt = 64

    def resolved(self, spec: DataSpec) -> LearnedLogSNRSchedule:
        if self.logsnr_max is not None or spec.grid is None:
            return self
        return self.model_copy(update={"logsnr_max": round(-2 * math.log(spec.grid.step / 8), 3)})

    def build(self) -> core.Schedule:
        logsnr_max = 13.3 if self.logsnr_max is None else self.logsnr_max
        return core.LearnedLogSNR(self.logsnr_min, logsnr_max, self.cells)


class ContinuousBeta(BaseSchedule):
    """The clock of the VP SDE: a rate linear in t."""

    kind: Literal["continuous-beta"]
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0

    def build(self) -> core.Schedule:
        return core.LinearBeta(self.beta_min, self.beta_max)


class SubVPContinuousBeta(ContinuousBeta):
    """The clock of the sub-VP SDE: the alpha of the VP SDE with sigma = 1 - alpha^2."""

    kind: Literal["subvp-beta"]  # type: ignore[assignment]

    def build(self) -> core.Schedule:
        return core.SubVPBeta(core.LinearBeta(self.beta_min, self.beta_max))


class CosineSchedule(BaseSchedule):
    """The cosine clock in continuous time."""

    kind: Literal["cosine"]
    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def build(self) -> core.Schedule:
        return core.Cosine(self.logsnr_min, self.logsnr_max)


class GeometricSchedule(BaseSchedule):
    """A geometric sigma. With null, ``sigma_max`` is the largest distance between two samples."""

    kind: Literal["geometric"]
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat | None = 50.0

    def resolved(self, spec: DataSpec) -> GeometricSchedule:
        return self.model_copy(update={"sigma_max": _sigma_max(self.sigma_max, self.sigma_min, spec)})

    def build(self) -> core.Schedule:
        return core.geometric(self.sigma_min, _known(self.sigma_max, "sigma_max"))


class GeometricSigmas(BaseSchedule):
    """NCSN's chain of ``levels`` sigmas in geometric progression.

    With null, ``sigma_max`` is the largest distance between two samples, and there are enough ``levels`` for the noise
    of one to overlap the next (Song & Ermon 2020, techniques 1 and 2).
    """

    kind: Literal["geometric-sigmas"]
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat | None = None
    levels: Annotated[int, Field(ge=2)] | None = None

    def resolved(self, spec: DataSpec) -> GeometricSigmas:
        sigma_max = _sigma_max(self.sigma_max, self.sigma_min, spec)
        ratio = core.geometric_ratio(math.prod(spec.model_shape))
        levels = self.levels or 1 + max(1, math.ceil(math.log(sigma_max / self.sigma_min) / math.log(ratio)))
        return self.model_copy(update={"sigma_max": sigma_max, "levels": levels})

    def build(self) -> core.Schedule:
        sigma_max, levels = _known(self.sigma_max, "sigma_max"), _known(self.levels, "levels")
        return core.Tabulated(core.geometric_betas(levels, self.sigma_min, sigma_max))


def _sigma_max(given: float | None, sigma_min: float, spec: DataSpec) -> float:
    return max(round(spec.diameter, 3), 2 * sigma_min) if given is None else given


Number = TypeVar("Number", int, float)


def _known(value: Number | None, name: str) -> Number:
    if value is None:
        raise InputError(
            f"process.schedule.{name}: null is replaced by 'sfumato train', which sees the data; give a number"
        )
    return value


class LinearLogSNRSchedule(BaseSchedule):
    """A log-SNR linear in t."""

    kind: Literal["linear-logsnr"]
    logsnr_min: float = -5.0
    logsnr_max: float = 13.3

    def build(self) -> core.Schedule:
        return core.LinearLogSNR(self.logsnr_min, self.logsnr_max)


class LogisticSchedule(BaseSchedule):
    """The clock of flow matching. With null, an end is pure noise or clean data."""

    kind: Literal["logistic"]
    logsnr_min: float | None = None
    logsnr_max: float | None = None

    def build(self) -> core.Schedule:
        low = -math.inf if self.logsnr_min is None else self.logsnr_min
        high = math.inf if self.logsnr_max is None else self.logsnr_max
        return core.Logistic(low, high)


ScheduleSection = Annotated[
    LinearBetas
    | QuadraticBetas
    | SigmoidBetas
    | CosineBetas
    | ContinuousBeta
    | SubVPContinuousBeta
    | CosineSchedule
    | GeometricSchedule
    | GeometricSigmas
    | LinearLogSNRSchedule
    | LogisticSchedule
    | LearnedBetasSchedule
    | LearnedLogSNRSchedule,
    Field(discriminator="kind"),
]


class ProcessSection(Section):
    """The scaling of x_t and the schedule of the log-SNR."""

    scaling: Literal["vp", "ve", "straight", "subvp"] = "vp"
    schedule: ScheduleSection = LinearBetas()

    def resolved(self, spec: DataSpec) -> ProcessSection:
        return self.model_copy(update={"schedule": self.schedule.resolved(spec)})

    def build(self) -> core.Process:
        scalings = {"vp": core.VP(), "ve": core.VE(), "straight": core.Straight(), "subvp": core.SubVP()}
        return core.Process(scalings[self.scaling], self.schedule.build())
