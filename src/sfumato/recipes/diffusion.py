"""The recipe of a diffusion model."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field
from torch import Tensor

from sfumato import core, objectives
from sfumato.data import AUGMENTATION_LABELS, DataSpec, Samples
from sfumato.denoisers import Condition, NetworkDenoiser
from sfumato.errors import InputError
from sfumato.sampling.methods import ADAPTIVE, NAMES

from .base import AutoBase, BaseSection, MixtureBase, NoBase
from .conditioning import AutoConditioning, ConditioningSection, KnownConditioning, VectorConditioning
from .networks import NETWORKS, AutoNetwork, NetworkSection
from .objective import DenoisingObjective, ObjectiveSection
from .process import ProcessSection
from .recipe import Recipe
from .section import Context, PositiveFloat, PositiveInt, Section
from .target import TargetSection
from .times import AutoTimes
from .views import LowResolution, Masked, ViewConditioning


def _sampler(name: str) -> str:
    tables = [known for known in NAMES if known != ADAPTIVE]  # a report shows fixed steps
    if name not in tables:
        raise ValueError(f"give one of {', '.join(tables)}")
    return name


class SamplingSection(Section):
    """The default sampler and its number of network evaluations, ``steps``."""

    sampler: Annotated[str, AfterValidator(_sampler)] = "auto"
    steps: PositiveInt = 20


class DiffusionRecipe(Recipe):
    """A diffusion model: process, target, objective, network, and how it is trained and sampled."""

    kind: ClassVar[str] = "diffusion model"
    marker: ClassVar[str | None] = None
    has_process: ClassVar[bool] = True

    process: ProcessSection = ProcessSection()
    target: TargetSection = TargetSection()
    objective: ObjectiveSection = DenoisingObjective()
    label: Literal["index", "logsnr", "log-ratio"] = "index"
    sigma_data: PositiveFloat | None = 1.0  # null: the data's own, the root of its second moment
    variance: Literal["fixed", "learned"] = "fixed"
    network: Annotated[NetworkSection, NETWORKS] = AutoNetwork()
    base: Annotated[BaseSection, Field(discriminator="kind")] = NoBase()
    conditioning: Annotated[ConditioningSection, Field(discriminator="kind")] = AutoConditioning()
    sampling: SamplingSection = SamplingSection()

    @property
    def trained_on_pairs(self) -> bool:
        return self.objective.pairs or self.data.noise is not None

    @property
    def loss_is_bound(self) -> bool:
        return self.objective.is_bound

    def resolved(self, spec: DataSpec) -> DiffusionRecipe:
        return self.model_copy(
            update={
                "training": self.training.resolved(spec),
                "network": self.network.resolved(spec, self.label),
                "process": self.process.resolved(spec),
                "base": self.base.resolved(spec, not (self.trained_on_pairs or self.training.augment)),
                "conditioning": self.conditioning.resolved(spec),
                "sigma_data": self._sigma_data(spec),
            }
        )

    def _sigma_data(self, spec: DataSpec) -> float:
        if self.sigma_data is not None:
            return self.sigma_data
        return round(max(math.sqrt(spec.second_moment), 0.001), 4)  # data that is all the same has none

    def _context(self, spec: DataSpec) -> Context:
        return Context(spec, self.build_process(), self._sigma_data(spec))

    def build(self, spec: DataSpec) -> NetworkDenoiser:
        """The denoiser with a fresh network for data of this contract.

        Raises:
            InputError: the settings cannot be built.
        """
        recipe = self.resolved(spec)
        context = recipe._context(spec)
        learned = self.variance == "learned"
        given = recipe._known_conditioning
        classes, quantities = given.classes(spec), given.quantities(spec)
        augmentation = AUGMENTATION_LABELS if recipe.training.augment else 0
        base = recipe._known_base.build(context.process, spec, classes)
        channels = given.channels(spec)
        extra = channels + (0 if base is None else spec.model_shape[0])
        network = recipe.network.build(
            spec.model_shape, 2 if learned else 1, classes + 2 * quantities + augmentation, extra
        )
        target = self.target.build(context)
        settings = (context.process, target, self.label, context.sigma_data, learned)
        return NetworkDenoiser(network, *settings, classes, augmentation, base, quantities, channels)

    @property
    def _known_base(self) -> NoBase | MixtureBase:
        """The base of a resolved recipe."""
        assert not isinstance(self.base, AutoBase)
        return self.base

    @property
    def _known_conditioning(self) -> KnownConditioning:
        """The conditioning of a resolved recipe."""
        assert not isinstance(self.conditioning, AutoConditioning)
        return self.conditioning

    @property
    def label_dropout(self) -> float:
        return self._known_conditioning.label_dropout

    @property
    def takes_classes(self) -> bool:
        given = self.conditioning
        return given.kind == "classes" or (isinstance(given, VectorConditioning) and bool(given.with_classes))

    @property
    def takes_quantities(self) -> bool:
        return isinstance(self.conditioning, VectorConditioning)

    @property
    def takes_view(self) -> bool:
        return isinstance(self.conditioning, ViewConditioning)

    def view(self, seen: Tensor, spec: DataSpec) -> Tensor:
        given = self.conditioning
        return given.view(seen, spec) if isinstance(given, LowResolution | Masked) else super().view(seen, spec)

    def condition(self, samples: Samples) -> Condition | None:
        return self._known_conditioning.condition(samples)

    def build_process(self) -> core.Process:
        return self.process.build()

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        recipe = self.resolved(spec)
        context = recipe._context(spec)
        recipe._check(context)
        return recipe.objective.build(context)

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        if self.trained_on_pairs:  # a flow has no bound
            return self.build_loss(spec)
        context = self.resolved(spec)._context(spec)
        return objectives.BoundLoss(AutoTimes().build(context, 0.0), context.loss_decoder)

    def _check(self, context: Context) -> None:
        """Raises InputError for sections that contradict each other."""
        objective, schedule, noise = self.objective, self.process.schedule, self.data.noise
        if schedule.learned and not objective.learns_schedule:
            raise InputError(
                f"objective.kind: a {schedule.kind} schedule learns only from the bound, and {objective.kind} would "
                "move its levels to where denoising is easy; give objective.kind=bound, or a fixed schedule"
            )
        if objective.needs_variance and self.variance != "learned":
            raise InputError(f"objective.kind: {objective.kind} needs a learned variance; give variance=learned")
        if self.variance == "learned" and (not objective.learns_variance or context.chain_length is None):
            raise InputError(
                "variance: a learned variance needs a chain and objective.kind=hybrid or bound; give both, or "
                "variance=fixed"
            )
        if noise is not None and not objective.takes_pairs:
            raise InputError(
                f"data.noise: {objective.kind} cannot use pairs of noise and data; give objective.kind=denoising, or "
                "leave it out"
            )
        if noise is not None and objective.pairs:
            raise InputError(
                "objective.pairing: the noise of each sample already comes with the data (data.noise); leave one out"
            )
        if (self.takes_quantities or self.takes_view) and objective.pairs:
            raise InputError(
                "objective.pairing: optimal transport over a whole batch gives samples of each condition the noise on "
                "their side, which skews the model; give objective.pairing=independent, or conditioning=none"
            )
        if self.training.augment and self.takes_view:
            raise InputError("training.augment: a view is of the image as it is; give training.augment=0")
        if self.training.augment and (not objective.takes_pairs or noise is not None):
            raise InputError(
                "training.augment: only objective.kind=denoising without data.noise learns from moved images; give "
                "training.augment=0"
            )


def register_network(section: type[NetworkSection]) -> type[NetworkSection]:
    """Make a kind of network known to recipes, under the ``kind`` of its section; usable as a decorator."""
    NETWORKS.add(section)
    DiffusionRecipe.model_rebuild(force=True)
    return section
