"""The recipe of a diffusion model of boosted trees."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from pydantic import Field

from sfumato import core, objectives
from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition, TreesDenoiser
from sfumato.errors import InputError

from .conditioning import AutoConditioning, ClassConditioning, ConditioningSection, KnownConditioning
from .diffusion import SamplingSection
from .process import CosineSchedule, ProcessSection
from .recipe import Recipe
from .section import PositiveFloat, PositiveInt, Section

MOST = 500  # numbers of a sample: each has trees of its own at each level


class TreesSection(Section):
    """The forests and how they are grown.

    Arguments:
        levels: noise levels with a forest, even in the angle.
        trees: trees for each number of a sample.
        leaves: the most leaves of a tree.
        depth: the most decisions in a tree.
        learning_rate: what each tree counts for.
        rows: noisy rows that each forest is grown on; a row of a small class is repeated with fresh noise.
        least: the fewest noisy rows in a leaf.
    """

    levels: PositiveInt = 50
    trees: PositiveInt = 50
    leaves: Annotated[int, Field(ge=2, le=1000)] = 15
    depth: Annotated[int, Field(ge=1, le=30)] = 6
    learning_rate: PositiveFloat = 0.15
    rows: PositiveInt = 5_000
    least: PositiveInt = 20


class TreesRecipe(Recipe):
    """A diffusion model whose denoiser is grown, level by level, instead of trained by gradients.

    ``training`` is only asked for its seed and for what is held out.
    """

    kind: ClassVar[str] = "diffusion model of trees"
    marker: ClassVar[str | None] = "trees"
    has_process: ClassVar[bool] = True

    trees: TreesSection = TreesSection()
    process: ProcessSection = ProcessSection(schedule=CosineSchedule(kind="cosine"))
    conditioning: Annotated[ConditioningSection, Field(discriminator="kind")] = AutoConditioning()
    sampling: SamplingSection = SamplingSection(sampler="ddim", steps=50)

    def resolved(self, spec: DataSpec) -> TreesRecipe:
        conditioning = self.conditioning.resolved(spec)
        return self.model_copy(update={"training": self.training.resolved(spec), "conditioning": conditioning})

    def build(self, spec: DataSpec) -> TreesDenoiser:
        """The denoiser before it is grown, for data of this contract.

        Raises:
            InputError: samples that are not vectors, or are too long; a setting that trees cannot use.
        """
        D = math.prod(spec.model_shape)
        if spec.layout.name != "vector" or D > MOST:
            raise InputError(
                f"{self.name}: trees are for tables of at most {MOST} columns, not for {spec.layout.name}s of {D} "
                "numbers; choose another recipe"
            )
        if self.data.noise is not None:
            raise InputError("data.noise: trees cannot use pairs of noise and data; leave it out")
        if self.process.schedule.learned:
            raise InputError("process.schedule: trees learn no schedule; give one with fixed levels")
        given = self.resolved(spec)._known_conditioning
        if given.quantities(spec):
            raise InputError("data.conditions: trees take no numbers beside the data; train a network: --recipe flow")
        if given.channels(spec):
            raise InputError("conditioning: trees are shown no view; train a network: --recipe flow")
        classes = given.classes(spec)
        s = self.trees
        return TreesDenoiser(self.build_process(), D, classes, s.levels, s.trees, s.leaves, s.depth)

    @property
    def _known_conditioning(self) -> KnownConditioning:
        """The conditioning of a resolved recipe."""
        assert not isinstance(self.conditioning, AutoConditioning)
        return self.conditioning

    @property
    def takes_classes(self) -> bool:
        return isinstance(self.conditioning, ClassConditioning)

    def condition(self, samples: Samples) -> Condition | None:
        return self._known_conditioning.condition(samples)

    def build_process(self) -> core.Process:
        return self.process.build()

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        raise InputError(f"{self.name}: trees are grown without a loss; train them alone: sfumato train --recipe trees")

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        return self.build_loss(spec)
