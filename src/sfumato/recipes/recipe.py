"""The recipe: everything that makes a run besides the data itself, as nested plain data.

Each section is a strict model: an unknown key or a value of the wrong kind is an error. ``build_*`` turn a section into
the object that it describes. ``resolved(spec)`` writes out what depends on the data ("auto"), and only a resolved
recipe travels with weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_serializer,
)

from sfumato import bounds, core, objectives
from sfumato.bounds.terms import finest_time
from sfumato.data import AUGMENTATION_LABELS, DataOptions, DataSpec
from sfumato.denoisers import NetworkDenoiser
from sfumato.errors import InputError
from sfumato.hierarchical import MarkovianHVAE
from sfumato.sampling.methods import ADAPTIVE, NAMES

from .hierarchy import HierarchySection
from .network import AutoNetwork, MLPNetwork, UNetNetwork
from .objective import EDM_MEAN, EDM_STD, EXACT_TRACE, ObjectiveSection, TargetSection
from .process import ProcessSection
from .section import OpenFraction, PositiveFloat, PositiveInt, Section


class DataSection(Section):
    """How a source is read; the same names as ``DataOptions``."""

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    noise: str | None = None
    axis: str | None = None
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
    batch: PositiveInt | None = None  # null: 256 vectors, whose networks are small, or 64 signals or images
    learning_rate: PositiveFloat = 1e-3
    warmup: Annotated[int, Field(ge=0)] = 5_000
    decay_after: PositiveInt = 500_000
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: PositiveFloat = 1.0
    held_out: OpenFraction = 0.1
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0  # of images: the share that each of EDM's operations falls on
    seed: int = 0

    def resolved(self, spec: DataSpec) -> TrainingSection:
        """The batch written out; nothing else than images is augmented."""
        augment = self.augment if spec.layout.can_augment else 0.0
        return self.model_copy(update={"batch": self.batch_for(spec), "augment": augment})

    def batch_for(self, spec: DataSpec) -> int:
        """Samples to a step."""
        return self.batch or spec.layout.batch


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
            training = self.training.resolved(spec)
            return self.model_copy(update={"hierarchy": self.hierarchy.resolved(spec), "training": training})
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
        for key, given in (("training.augment", self.training.augment), ("data.noise", self.data.noise)):
            if given:
                raise InputError(f"{key}: a hierarchical VAE has no use for it; leave it out")
        return self.hierarchy.build(spec)

    def build_process(self) -> core.Process:
        """The process. Raises InputError for a schedule that cannot be, and for a hierarchical VAE, which has none."""
        if self.hierarchy is not None:
            raise InputError(f"{self.name}: a hierarchical VAE has no process; name a diffusion model")
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
                objectives.optimal_transport if paired else None,
            )
            return objectives.UncertaintyWeighted(loss) if objective.uncertainty == "learned" else loss
        if objective.kind == "implicit":
            exact = objective.probes is None and math.prod(spec.shape) <= EXACT_TRACE
            return objectives.ImplicitScoreMatching(times, None if exact else objective.probes or 1)
        if objective.kind == "sliced":
            return objectives.SlicedScoreMatching(times, objective.probes or 1)
        if objective.kind == "hybrid":
            return objectives.HybridLoss(times, self.build_decoder(spec), objective.bound_weight)
        return objectives.BoundLoss(times, self._bound_decoder(spec), objective.form)

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        """The bound by which trained weights are judged; of a model of pairs, which has none, what it learned from."""
        if self.hierarchy is not None or self.paired:
            return self.build_loss(spec)
        schedule = self.resolved(spec).process.schedule.build()
        times = objectives.ChainTimes(schedule.steps) if isinstance(schedule, core.Chain) else objectives.UniformTimes()
        return objectives.BoundLoss(times, self._bound_decoder(spec))

    def _bound_decoder(self, spec: DataSpec) -> bounds.Decoder:
        """The decoder, for a loss that does not ask the network a second time."""
        decoder = self.build_decoder(spec)
        if decoder.needs_prediction and not isinstance(self.process.schedule.build(), core.Chain):
            return bounds.ContinuousGaussian(needs_prediction=False)
        return decoder

    def _times(self, spec: DataSpec) -> objectives.TimeSampler:
        objective, process = self.objective, self.build_process()
        # A clock that begins at data itself is entered where data begins to show, or a loss could have no end.
        first = 0.0 if objective.kind == "bound" else finest_time(process, spec.grid)
        if objective.times == "log-normal":
            mean = EDM_MEAN if objective.log_ratio_mean is None else objective.log_ratio_mean
            return objectives.LogNormalTimes(process, mean, objective.log_ratio_std or EDM_STD, first)
        even: objectives.UniformTimes | objectives.ChainTimes = objectives.UniformTimes(first)
        if isinstance(process.schedule, core.Chain) and objective.times != "uniform":
            even = objectives.ChainTimes(process.schedule.steps)
        return objectives.LossAware(even) if objective.times == "loss-aware" else even

    def build_decoder(self, spec: DataSpec) -> bounds.Decoder:
        """p(x_0 | x_t) at the finest level: DDPM's on a chain, VDM's elsewhere, a density for data without levels."""
        grid = spec.grid
        if grid is None:
            return bounds.ContinuousGaussian()
        chain = isinstance(self.process.schedule.build(), core.Chain)
        return bounds.DiscretisedGaussian(grid) if chain else bounds.Factorised(grid)

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
        if self.data.noise is not None and kind != "denoising":
            raise InputError(f"data.noise: {kind} has no use for pairs; give objective.kind=denoising, or leave it out")
        if self.objective.uncertainty == "learned" and self.objective.times == "loss-aware":
            raise InputError("objective.uncertainty: loss-aware times undo it; give other times, or leave it out")
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
