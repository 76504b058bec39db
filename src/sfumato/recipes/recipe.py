"""The recipe: everything that makes a run besides the data itself, as nested plain data.

Each section is a strict model: an unknown key or a value of the wrong kind is an error. ``build_*`` turn a section into
the object that it describes. ``resolved(spec)`` writes out what depends on the data ("auto"), and only a resolved
recipe travels with weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_serializer,
)
from torch import nn

from sfumato import core, networks, objectives
from sfumato.core.terms import finest
from sfumato.data import AUGMENTATION_LABELS, DataOptions, DataSpec
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.hierarchical import MarkovianHVAE, Restrictions
from sfumato.objectives import weights
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


class LearnedBetasSchedule(Section):
    """A chain whose betas are learned by the bound, from where ``start`` puts them (Sohl-Dickstein et al. 2015).

    ``linear`` spreads DDPM's total decay over ``steps`` betas: ``1e-4 .. 0.02`` times 1000 / steps, at most 0.5.
    """

    kind: Literal["learned-betas"]
    steps: Annotated[int, Field(ge=2)] = 20
    start: Literal["linear", "cosine"] = "cosine"

    def build(self) -> core.Schedule:
        if self.start == "cosine":
            return core.LearnedBetas(core.cosine_betas(self.steps))
        scale = 1000 / self.steps
        return core.LearnedBetas(core.linear_betas(self.steps, min(1e-4 * scale, 0.5), min(0.02 * scale, 0.5)))


class LearnedLogSNRSchedule(Section):
    """VDM's clock: the ends learned by the bound, the inside by the variance of its estimate (Kingma et al. 2021).

    The ends are where they begin. A ``logsnr_max`` of null is chosen from the data: eight standard deviations of noise
    to a step between its levels; 13.3, VDM's, where it has none.
    """

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


class ContinuousBeta(Section):
    """The VP SDE's clock: a rate linear in t."""

    kind: Literal["continuous-beta"]
    beta_min: PositiveFloat = 0.1
    beta_max: PositiveFloat = 20.0

    def build(self) -> core.Schedule:
        return core.LinearBeta(self.beta_min, self.beta_max)


class SubVPContinuousBeta(ContinuousBeta):
    """The sub-VP SDE's clock: the same alpha for sigma = 1 - alpha^2."""

    kind: Literal["subvp-beta"]  # type: ignore[assignment]

    def build(self) -> core.Schedule:
        return core.SubVPBeta(core.LinearBeta(self.beta_min, self.beta_max))


class CosineSchedule(Section):
    """The cosine clock in continuous time."""

    kind: Literal["cosine"]
    logsnr_min: float = -15.0
    logsnr_max: float = 15.0

    def build(self) -> core.Schedule:
        return core.Cosine(self.logsnr_min, self.logsnr_max)


class GeometricSchedule(Section):
    """sigma in geometric progression. A ``sigma_max`` of null is the largest distance between two samples."""

    kind: Literal["geometric"]
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat | None = 50.0

    def resolved(self, spec: DataSpec) -> GeometricSchedule:
        return self.model_copy(update={"sigma_max": _sigma_max(self.sigma_max, self.sigma_min, spec)})

    def build(self) -> core.Schedule:
        return core.geometric(self.sigma_min, _known(self.sigma_max, "sigma_max"))


class GeometricSigmas(Section):
    """NCSN's chain: ``levels`` sigmas in geometric progression, by the techniques of NCSNv2 where they are null.

    ``sigma_max`` is then the largest distance between two samples of the data, and so many ``levels`` that the noise
    of one reaches the next (Song & Ermon 2020, techniques 1 and 2).
    """

    kind: Literal["geometric-sigmas"]
    sigma_min: PositiveFloat = 0.01
    sigma_max: PositiveFloat | None = None
    levels: Annotated[int, Field(ge=2)] | None = None

    def resolved(self, spec: DataSpec) -> GeometricSigmas:
        sigma_max = _sigma_max(self.sigma_max, self.sigma_min, spec)
        ratio = core.geometric_ratio(math.prod(spec.shape))
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
            f"process.schedule.{name}: null is for 'sfumato train' to fill in from the data; give a number"
        )
    return value


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


OF_THE_DATA = (LearnedLogSNRSchedule, GeometricSchedule, GeometricSigmas)


class ProcessSection(Section):
    """Scaling x schedule."""

    scaling: Literal["vp", "ve", "straight", "subvp"] = "vp"
    schedule: ScheduleSection = LinearBetas()

    def resolved(self, spec: DataSpec) -> ProcessSection:
        if isinstance(self.schedule, OF_THE_DATA):
            return self.model_copy(update={"schedule": self.schedule.resolved(spec)})
        return self

    def build(self) -> core.Process:
        scalings = {"vp": core.VP(), "ve": core.VE(), "straight": core.Straight(), "subvp": core.SubVP()}
        return core.Process(scalings[self.scaling], self.schedule.build())


# --- target and objective --------------------------------------------------------------------------------------------


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


# --- network ---------------------------------------------------------------------------------------------------------


class AutoNetwork(Section):
    """A network chosen from the data: an MLP for vectors, a UNet for signals and images."""

    kind: Literal["auto"] = "auto"
    width: PositiveInt | None = None
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] | None = None
    fourier: bool = False  # features of the values' fine detail, where a UNet sees data with levels

    def resolved(self, spec: DataSpec, label: str) -> MLPNetwork | UNetNetwork:
        # Sinusoids resolve labels that count to a thousand; the log of a ratio is of order one.
        embedding = self.embedding or ("fourier" if label == "log-ratio" else "sinusoidal")
        if spec.layout == "vector":
            return MLPNetwork(kind="mlp", width=self.width or 256, dropout=self.dropout, embedding=embedding)
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
        finest = round(math.log2(spec.levels or 2))  # at this power the features repeat from level to level
        return UNetNetwork(
            kind="unet",
            width=self.width or 32,  # what a laptop trains in minutes; a GPU has room for 128
            multipliers=[1] + [2] * (levels - 1),
            attention=attention,
            dropout=self.dropout,
            embedding=embedding,
            pad=True,
            fourier=[finest - 1, finest] if self.fourier and spec.levels else [],
        )


class MLPNetwork(Section):
    """A residual MLP."""

    kind: Literal["mlp"]
    width: PositiveInt = 256
    depth: PositiveInt = 4
    dropout: Fraction = 0.0
    embedding: Literal["sinusoidal", "fourier"] = "sinusoidal"

    def resolved(self, spec: DataSpec, label: str) -> MLPNetwork:
        return self

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0) -> nn.Module:
        return networks.MLP(shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions)


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
    fourier: list[Annotated[int, Field(ge=0, le=20)]] = []

    def resolved(self, spec: DataSpec, label: str) -> UNetNetwork:
        return self

    def build(self, shape: tuple[int, ...], outputs: int = 1, conditions: int = 0) -> nn.Module:
        return networks.UNet(shape, **self.model_dump(exclude={"kind"}), outputs=outputs, conditions=conditions)


# --- hierarchy -------------------------------------------------------------------------------------------------------


WIDEST = 256  # of an automatic latent, so that large images have a model that fits into memory


class HierarchySection(Section):
    """A Markovian hierarchical VAE of ``levels`` latents (3, or as many as ``widths``), in a diffusion model's place.

    ``widths`` are the dimensions of z_1 .. z_T; null is the number of the data's values, at most 256, falling evenly
    to the top. ``hidden`` and ``depth`` are those of the networks, one for each learned Gaussian. The restrictions are
    those of ``hierarchical.Restrictions``; ``betas`` are a linear encoder's: ``even``, whose log-SNR falls evenly from
    7 to -7, or ``cosine``.

    Raises InputError when built with settings that contradict each other.
    """

    levels: PositiveInt | None = None
    widths: Annotated[list[PositiveInt], Field(min_length=1)] | None = None
    hidden: PositiveInt = 256
    depth: PositiveInt = 2
    same_dimension: bool = False
    linear_encoder: bool = False
    standard_end: bool = False
    betas: Literal["even", "cosine"] | None = None

    def resolved(self, spec: DataSpec) -> HierarchySection:
        numbers = math.prod(spec.shape)
        levels = self.levels or (3 if self.widths is None else len(self.widths))
        widths = self.widths
        if widths is None and self.same_dimension:
            widths = [numbers] * levels
        elif widths is None:
            widths = [math.ceil(min(numbers, WIDEST) * (levels - t) / (levels + 1)) for t in range(levels)]
        betas = self.betas or ("even" if self.linear_encoder else None)
        return self.model_copy(update={"levels": levels, "widths": widths, "betas": betas})

    def build(self, spec: DataSpec) -> MarkovianHVAE:
        section = self.resolved(spec)
        assert section.levels is not None
        assert section.widths is not None
        numbers = math.prod(spec.shape)
        if section.levels != len(section.widths):
            raise InputError(
                f"hierarchy.levels: {section.levels}, and hierarchy.widths names {len(section.widths)}; give one of "
                "them, or both alike"
            )
        if self.linear_encoder and not self.same_dimension:
            raise InputError(
                "hierarchy.linear_encoder: it keeps a latent's dimension; give same_dimension=true with it"
            )
        if self.same_dimension and set(section.widths) != {numbers}:
            raise InputError(
                f"hierarchy.widths: {section.widths} with same_dimension, data has {numbers} numbers; leave them out"
            )
        if section.betas is not None and not self.linear_encoder:
            raise InputError("hierarchy.betas: a learned encoder has none; leave them out, or give linear_encoder=true")
        return MarkovianHVAE(
            spec.shape,
            section.widths,
            section.hidden,
            section.depth,
            spec.grid,
            Restrictions(section.same_dimension, section.linear_encoder, section.standard_end),
            None if section.betas is None else _betas(section.betas, section.levels),
        )


def _betas(kind: Literal["even", "cosine"], steps: int) -> torch.Tensor:
    if kind == "cosine":
        return core.cosine_betas(steps)
    logsnr = torch.linspace(7, -7, steps, dtype=torch.float64) if steps > 1 else torch.zeros(1, dtype=torch.float64)
    kept = torch.cat((torch.ones(1, dtype=torch.float64), torch.sigmoid(logsnr)))  # alpha^2, and 1 before the first
    return 1 - kept[1:] / kept[:-1]


# --- data, training, sampling ----------------------------------------------------------------------------------------


class DataSection(Section):
    """How a source is read; the same names as ``DataOptions``."""

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    noise: str | None = None
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
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0  # of images: the share that each of EDM's operations falls on
    seed: int = 0

    def resolved(self, spec: DataSpec) -> TrainingSection:
        """Nothing else than images is augmented."""
        return self if spec.layout == "image" else self.model_copy(update={"augment": 0.0})


def _sampler(name: str) -> str:
    tables = [known for known in NAMES if known != ADAPTIVE]  # a report shows the way in fixed steps
    if name not in tables:
        raise ValueError(f"give one of {', '.join(tables)}")
    return name


class SamplingSection(Section):
    """How the model is sampled unless told otherwise; ``steps`` are evaluations of the network."""

    sampler: Annotated[str, AfterValidator(_sampler)] = "auto"
    steps: PositiveInt = 20


OF_DIFFUSION = ("process", "target", "objective", "label", "sigma_data", "variance", "network", "sampling")


class Recipe(Section):
    """A whole run: process, target, objective, network, data, training, sampling.

    With a ``hierarchy`` the model is a hierarchical VAE, and what makes and samples a diffusion model must be left out.
    """

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")] = "custom"  # it becomes part of a folder's name
    hierarchy: HierarchySection | None = None
    process: ProcessSection = ProcessSection()
    target: TargetSection = TargetSection()
    objective: ObjectiveSection = ObjectiveSection()
    label: Literal["index", "logsnr", "log-ratio"] = "index"
    sigma_data: PositiveFloat | None = 1.0  # null: the data's own, the root of its second moment
    variance: Literal["fixed", "learned"] = "fixed"
    network: Annotated[AutoNetwork | MLPNetwork | UNetNetwork, Field(discriminator="kind")] = AutoNetwork()
    data: DataSection = DataSection()
    training: TrainingSection = TrainingSection()
    sampling: SamplingSection = SamplingSection()

    @field_validator(*OF_DIFFUSION, mode="before")
    @classmethod
    def _has_a_use(cls, value: Any, info: Any) -> Any:
        if info.data.get("hierarchy") is not None:
            raise ValueError("a hierarchical VAE has none; leave it out (preset mhvae does), or leave out hierarchy")
        return value

    @model_serializer(mode="wrap")
    def _of_use(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        data = handler(self)
        unused = ("hierarchy",) if self.hierarchy is None else OF_DIFFUSION
        return {key: value for key, value in data.items() if key not in unused}

    @property
    def paired(self) -> bool:
        """Whether noise is paired with data, so that what is learned is a flow, and no score."""
        return self.objective.pairing != "independent" or self.data.noise is not None

    def resolved(self, spec: DataSpec) -> Recipe:
        """This recipe with everything that depends on the data written out."""
        if self.hierarchy is not None:
            return self.model_copy(update={"hierarchy": self.hierarchy.resolved(spec)})
        return self.model_copy(
            update={
                "training": self.training.resolved(spec),
                "network": self.network.resolved(spec, self.label),
                "process": self.process.resolved(spec),
                "sigma_data": self._sigma_data(spec),
            }
        )

    def _sigma_data(self, spec: DataSpec) -> float:
        if self.sigma_data is not None:
            return self.sigma_data
        return round(max(math.sqrt(spec.second_moment), 0.001), 4)  # data that is all the same has none

    def build(self, spec: DataSpec) -> NetworkDenoiser | MarkovianHVAE:
        """The model's fresh weights for data of this contract. Raises InputError for what cannot be built."""
        if self.hierarchy is None:
            return self.build_denoiser(spec)
        if self.training.augment or self.data.noise is not None:
            raise InputError("training.augment, data.noise: a hierarchical VAE has a use for neither; leave them out")
        return self.hierarchy.build(spec)

    def build_process(self) -> core.Process:
        """The process. Raises InputError for a schedule that cannot be."""
        return self.process.build()

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        """What is minimised. Raises InputError for an objective that does not go with the rest of the recipe."""
        if self.hierarchy is not None:
            return objectives.NegativeELBO()
        recipe = self.resolved(spec)
        recipe._check()
        return recipe._build_objective(spec)

    def _build_objective(self, spec: DataSpec) -> objectives.Loss[Any]:
        objective, times = self.objective, self._times(spec)
        if objective.kind == "denoising":
            paired = objective.pairing == "optimal-transport"
            loss = objectives.DenoisingLoss(
                times,
                objective.weight.build(self._sigma_data(spec)),
                *([objectives.optimal_transport] if paired else []),
            )
            return objectives.UncertaintyWeighted(loss) if objective.uncertainty == "learned" else loss
        if objective.kind == "implicit":
            exact = objective.probes is None and math.prod(spec.shape) <= EXACT_TRACE
            return objectives.ImplicitScoreMatching(times, None if exact else objective.probes or 1)
        if objective.kind == "sliced":
            return objectives.SlicedScoreMatching(times, objective.probes or 1)
        decoder = self.build_decoder(spec)
        if objective.kind == "hybrid":
            return objectives.HybridLoss(times, decoder, objective.bound_weight)
        if decoder.asks and not isinstance(self.process.schedule.build(), core.Chain):
            decoder = core.ContinuousGaussian(asks=False)
        return objectives.BoundLoss(times, decoder, objective.form)

    def _times(self, spec: DataSpec) -> objectives.TimeSampler:
        objective, process = self.objective, self.build_process()
        # A clock that begins at data itself is entered where data begins to show, or a loss could have no end.
        first = 0.0 if objective.kind == "bound" else finest(process, spec.grid)
        if objective.times == "log-normal":
            mean = EDM_MEAN if objective.log_ratio_mean is None else objective.log_ratio_mean
            return objectives.LogNormalTimes(process, mean, objective.log_ratio_std or EDM_STD, first)
        even: objectives.UniformTimes | objectives.ChainTimes = objectives.UniformTimes(first)
        if isinstance(process.schedule, core.Chain) and objective.times != "uniform":
            even = objectives.ChainTimes(process.schedule.steps)
        return objectives.LossAware(even) if objective.times == "loss-aware" else even

    def build_decoder(self, spec: DataSpec) -> core.Decoder:
        """p(x_0 | x_t) at the finest level: DDPM's on a chain, VDM's elsewhere, a density for data without levels."""
        grid = spec.grid
        if grid is None:
            return core.ContinuousGaussian()
        chain = isinstance(self.process.schedule.build(), core.Chain)
        return core.DiscretisedGaussian(grid) if chain else core.Factorised(grid)

    def _check(self) -> None:
        kind, schedule = self.objective.kind, self.process.schedule
        chain = isinstance(schedule.build(), core.Chain)
        if schedule.kind.startswith("learned") and kind != "bound":
            raise InputError(
                f"objective.kind: a {schedule.kind} schedule learns from the bound alone, and {kind} would move its "
                "levels to where denoising is easy; give objective.kind=bound, or a fixed schedule"
            )
        if kind == "hybrid" and self.variance != "learned":
            raise InputError("objective.kind: hybrid is for a variance that is learned; give variance=learned")
        if self.variance == "learned" and (kind not in ("hybrid", "bound") or not chain):
            raise InputError(
                "variance: one that is learned is a chain's, and learns from objective.kind=hybrid or bound; give one "
                "of them and a chain, or variance=fixed"
            )
        if kind in ("hybrid", "bound") and chain and self.objective.times == "uniform":
            raise InputError(f"objective.times: {kind} is a sum over the levels of the chain; give auto or loss-aware")
        if kind in ("hybrid", "bound") and self.objective.times == "log-normal":
            raise InputError(f"objective.times: {kind} is a sum over all levels alike; give auto or loss-aware")
        if self.objective.pairing != "independent" and self.data.noise is not None:
            raise InputError(
                "objective.pairing: the data brings the noise of each sample along (data.noise); leave one"
            )
        if self.training.augment and (kind != "denoising" or self.data.noise is not None):
            raise InputError(
                "training.augment: moved images are for objective.kind=denoising, and without data.noise; give "
                "training.augment=0"
            )
        for key, holds, remedy in (
            ("form", kind == "bound", "this is how a bound reads its errors; give objective.kind=bound with it"),
            (
                "weight",
                kind == "denoising",
                f"{kind} has none to choose; leave it out, or give objective.kind=denoising",
            ),
            ("uncertainty", kind == "denoising", "only objective.kind=denoising can learn it; leave it out"),
            ("pairing", kind == "denoising", "only objective.kind=denoising takes pairs; leave it out"),
            (
                "probes",
                kind in ("implicit", "sliced"),
                "give objective.kind=implicit or sliced with it, or leave it out",
            ),
            ("log_ratio_mean", self.objective.times == "log-normal", "give objective.times=log-normal with it"),
            ("log_ratio_std", self.objective.times == "log-normal", "give objective.times=log-normal with it"),
        ):
            if not holds and getattr(self.objective, key) != ObjectiveSection.model_fields[key].default:
                raise InputError(f"objective.{key}: {remedy}")

    def build_denoiser(self, spec: DataSpec) -> NetworkDenoiser:
        """The denoiser with a fresh network for data of this shape. Raises InputError for what cannot be built."""
        recipe = self.resolved(spec)
        process, sigma_data = recipe.build_process(), recipe._sigma_data(spec)
        learned = self.variance == "learned"
        conditions = AUGMENTATION_LABELS if recipe.training.augment else 0
        network = recipe.network.resolved(spec, self.label).build(spec.shape, 2 if learned else 1, conditions)
        target = self.target.build(process, sigma_data)
        return NetworkDenoiser(network, process, target, self.label, sigma_data, learned)
