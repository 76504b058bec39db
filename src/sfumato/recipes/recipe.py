"""The recipe: everything that makes a run besides the data itself, as nested plain data.

Each section is a strict model: an unknown key or a value of the wrong kind is an error. ``build_*`` turn a section into
the object that it describes. ``resolved(spec)`` writes out what depends on the data ("auto"), and only a resolved
recipe travels with weights.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import nn

from sfumato import core, networks, objectives
from sfumato.data import DataOptions, DataSpec
from sfumato.denoisers import NetworkDenoiser
from sfumato.sampling.methods import ADAPTIVE, NAMES

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A part of a recipe: frozen, strict, closed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


# --- process ---------------------------------------------------------------------------------------------------------


class LinearBetas(Section):
    """A chain with linear betas (Ho et al. 2020)."""

    kind: Literal["linear-betas"] = "linear-betas"
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.linear_betas(self.steps, self.first, self.last))


class QuadraticBetas(Section):
    """A chain whose betas have a linear square root."""

    kind: Literal["quadratic-betas"]
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.quadratic_betas(self.steps, self.first, self.last))


class SigmoidBetas(Section):
    """A chain with betas along a sigmoid."""

    kind: Literal["sigmoid-betas"]
    steps: PositiveInt = 1000
    first: OpenFraction = 1e-4
    last: OpenFraction = 0.02

    def build(self) -> core.Schedule:
        return core.Tabulated(core.sigmoid_betas(self.steps, self.first, self.last))


class CosineBetas(Section):
    """A chain along a squared cosine (Nichol & Dhariwal 2021)."""

    kind: Literal["cosine-betas"]
    steps: PositiveInt = 1000
    offset: PositiveFloat = 0.008
    clip: OpenFraction = 0.999

    def build(self) -> core.Schedule:
        return core.Tabulated(core.cosine_betas(self.steps, self.offset, self.clip))


class ContinuousBeta(Section):
    """The VP SDE's clock: a rate linear in t."""

    kind: Literal["continuous-beta"]
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0

    def build(self) -> core.Schedule:
        return core.LinearBeta(self.beta_min, self.beta_max)


class CosineSchedule(Section):
    """The cosine clock in continuous time."""

    kind: Literal["cosine"]
    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def build(self) -> core.Schedule:
        return core.Cosine(self.logsnr_min, self.logsnr_max)


class GeometricSchedule(Section):
    """sigma in geometric progression."""

    kind: Literal["geometric"]
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat = 50.0

    def build(self) -> core.Schedule:
        return core.geometric(self.sigma_min, self.sigma_max)


class LinearLogSNRSchedule(Section):
    """The log-SNR linear in t."""

    kind: Literal["linear-logsnr"]
    logsnr_min: float = -5.0
    logsnr_max: float = 13.3

    def build(self) -> core.Schedule:
        return core.LinearLogSNR(self.logsnr_min, self.logsnr_max)


class LogisticSchedule(Section):
    """Flow matching's clock; null is an end that is exactly noise, or exactly data."""

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
    | CosineSchedule
    | GeometricSchedule
    | LinearLogSNRSchedule
    | LogisticSchedule,
    Field(discriminator="kind"),
]


class ProcessSection(Section):
    """Scaling x schedule."""

    scaling: Literal["vp", "ve", "straight"] = "vp"
    schedule: ScheduleSection = LinearBetas()

    def build(self) -> core.Process:
        scaling = {"vp": core.VP(), "ve": core.VE(), "straight": core.Straight()}[self.scaling]
        return core.Process(scaling, self.schedule.build())


# --- target and objective --------------------------------------------------------------------------------------------


class PlainTarget(Section):
    """A target without settings."""

    kind: Literal["x_0", "noise", "score", "v", "velocity"] = "noise"

    def build(self, process: core.Process) -> core.Target:
        targets: dict[str, core.Target] = {
            "x_0": core.X0(),
            "noise": core.Noise(),
            "score": core.Score(),
            "v": core.V(),
            "velocity": core.Velocity(process.scaling),
        }
        return targets[self.kind]


class EDMTarget(Section):
    """EDM's preconditioned output."""

    kind: Literal["edm"]
    sigma_data: PositiveFloat = 0.5

    def build(self, process: core.Process) -> core.Target:
        return core.EDM(self.sigma_data)


class ObjectiveSection(Section):
    """Times x weight. ``auto`` times are the levels of a chain where the schedule is one, uniform elsewhere."""

    times: Literal["auto", "uniform"] = "auto"
    weight: Literal["simple"] = "simple"


# --- network ---------------------------------------------------------------------------------------------------------


class AutoNetwork(Section):
    """A network chosen from the data: an MLP for vectors, a UNet for signals and images."""

    kind: Literal["auto"] = "auto"
    width: PositiveInt | None = None
    dropout: Fraction = 0.0

    def resolved(self, spec: DataSpec) -> MLPNetwork | UNetNetwork:
        if spec.layout == "vector":
            return MLPNetwork(kind="mlp", width=self.width or 256, dropout=self.dropout)
        # Halve until the longest side is at most 8 (16 for signals): deeper levels would see little but padding.
        smallest = 8 if spec.layout == "image" else 16
        side, levels = max(spec.shape[1:]), 1
        while side > smallest or levels < 2:
            side, levels = -(-side // 2), levels + 1
        factor = 2 ** (levels - 1)
        sides = [-(-size // factor) * factor for size in spec.shape[1:]]
        attention = []
        for level in range(levels):
            positions = 1
            for size in sides:
                positions *= size >> level
            # Attention costs the square of the number of positions: worth it up to DDPM's 16 x 16.
            if level > 0 and positions <= 256:
                attention.append(max(sides) >> level)
        return UNetNetwork(
            kind="unet",
            width=self.width or 32,  # what a laptop trains in minutes; a GPU has room for 128
            multipliers=[1] + [2] * (levels - 1),
            attention=attention,
            dropout=self.dropout,
            pad=True,
        )


class MLPNetwork(Section):
    """A residual MLP."""

    kind: Literal["mlp"]
    width: PositiveInt = 256
    depth: PositiveInt = 4
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"

    def resolved(self, spec: DataSpec) -> MLPNetwork:
        return self

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        return networks.MLP(shape, width=self.width, depth=self.depth, dropout=self.dropout, embedding=self.embedding)


class UNetNetwork(Section):
    """DDPM's UNet for 1-D and 2-D data."""

    kind: Literal["unet"]
    width: PositiveInt = 128
    multipliers: list[PositiveInt] = [1, 2, 2, 2]
    blocks: PositiveInt = 2
    attention: list[PositiveInt] = [16]
    heads: PositiveInt = 1
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"
    groups: PositiveInt = 32
    pad: bool = False

    def resolved(self, spec: DataSpec) -> UNetNetwork:
        return self

    def build(self, shape: tuple[int, ...]) -> nn.Module:
        return networks.UNet(
            shape,
            width=self.width,
            multipliers=tuple(self.multipliers),
            blocks=self.blocks,
            attention=tuple(self.attention),
            heads=self.heads,
            dropout=self.dropout,
            embedding=self.embedding,
            groups=self.groups,
            pad=self.pad,
        )


# --- data, training, sampling ----------------------------------------------------------------------------------------


class DataSection(Section):
    """How a source is read; the same names as ``DataOptions``."""

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    size: Annotated[list[PositiveInt], Field(min_length=2, max_length=2)] | None = None
    unreadable: Literal["skip", "stop"] = "skip"
    low: float | None = None
    high: float | None = None
    levels: Annotated[int, Field(ge=2)] | None = None
    limit: PositiveInt | None = None
    count: PositiveInt = 10_000
    seed: int = 0

    def options(self) -> DataOptions:
        """The same as the data floor takes it."""
        size = None if self.size is None else (self.size[0], self.size[1])
        return DataOptions(**{**self.model_dump(), "size": size})


class TrainingSection(Section):
    """The optimisation. Lengths are counted in images seen, so that they mean the same at any batch size."""

    steps: PositiveInt = 20_000
    batch: PositiveInt = 64
    learning_rate: PositiveFloat = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 5_000
    decay_after: PositiveInt = 500_000
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: PositiveFloat = 1.0
    ema_half_life: PositiveInt = 250_000
    ema_ramp: PositiveFloat = 0.1
    held_out: OpenFraction = 0.1
    seed: int = 0


def _sampler(name: str) -> str:
    tables = [known for known in NAMES if known != ADAPTIVE]  # a report shows the way in fixed steps
    if name not in tables:
        raise ValueError(f"give one of {', '.join(tables)}")
    return name


class SamplingSection(Section):
    """How the model is sampled unless told otherwise; ``steps`` are evaluations of the network."""

    sampler: Annotated[str, AfterValidator(_sampler)] = "auto"
    steps: PositiveInt = 20


class Recipe(Section):
    """A whole run: process, target, objective, network, data, training, sampling."""

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")] = "custom"  # it becomes part of a folder's name
    process: ProcessSection = ProcessSection()
    target: Annotated[PlainTarget | EDMTarget, Field(discriminator="kind")] = PlainTarget()
    objective: ObjectiveSection = ObjectiveSection()
    label: Literal["index", "logsnr", "log-ratio"] = "index"
    sigma_data: PositiveFloat = 1.0
    network: Annotated[AutoNetwork | MLPNetwork | UNetNetwork, Field(discriminator="kind")] = AutoNetwork()
    data: DataSection = DataSection()
    training: TrainingSection = TrainingSection()
    sampling: SamplingSection = SamplingSection()

    def resolved(self, spec: DataSpec) -> Recipe:
        """This recipe with everything that depends on the data written out."""
        return self.model_copy(update={"network": self.network.resolved(spec)})

    def build_process(self) -> core.Process:
        """The process. Raises InputError for a schedule that cannot be."""
        return self.process.build()

    def build_loss(self) -> objectives.DenoisingLoss:
        """The objective."""
        length = self.chain_length
        times = objectives.UniformTimes() if length is None else objectives.ChainTimes(length)
        return objectives.DenoisingLoss(times, objectives.WEIGHTS[self.objective.weight])

    @property
    def chain_length(self) -> int | None:
        """T, when the model is trained at the levels of a discrete chain and should be sampled at them; else None."""
        schedule = self.process.schedule.build()
        return schedule.steps if isinstance(schedule, core.Tabulated) and self.objective.times == "auto" else None

    def build_denoiser(self, spec: DataSpec) -> NetworkDenoiser:
        """The denoiser with a fresh network for data of this shape. Raises InputError for what cannot be built."""
        process = self.build_process()
        network = self.network.resolved(spec).build(spec.shape)
        return NetworkDenoiser(network, process, self.target.build(process), self.label, self.sigma_data)
