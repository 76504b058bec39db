"""The recipe of a model that is a mixture of Gaussians and nothing else."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from sfumato import core, objectives
from sfumato.data import DataSpec, split
from sfumato.denoisers import MixtureDenoiser
from sfumato.errors import InputError

from .diffusion import SamplingSection
from .process import ProcessSection
from .recipe import Recipe
from .section import PositiveFloat, PositiveInt, Section

MOST = 256  # numbers of a sample: each Gaussian has a matrix of their square
LEAST = 10  # samples to fit to
_NUMBERS = 2**24  # in all these matrices


class MixtureSection(Section):
    """One Gaussian per sample, as wide as its neighbours lie (``numerics.local_mixtures``).

    Arguments:
        components: number of Gaussians; null: one per training sample, at most 2^24 numbers in all covariances.
        neighbours: number of nearest samples that give a Gaussian its covariance; null: chosen by the likelihood of a
            fifth of the samples.
        shrinkage: weight of the mean covariance, in samples; null: chosen likewise.
        width: factor of all covariances; null: chosen likewise.
    """

    components: PositiveInt | None = None
    neighbours: PositiveInt | None = None
    shrinkage: PositiveFloat | None = None
    width: PositiveFloat | None = None


class MixtureRecipe(Recipe):
    """A diffusion model whose denoiser is exact for a mixture fitted to the data, so that posteriors of linear
    measurements have a closed form.

    ``training`` is only asked for its seed and for what is held out.
    """

    kind: ClassVar[str] = "mixture of Gaussians"
    marker: ClassVar[str | None] = "mixture"
    has_process: ClassVar[bool] = True

    mixture: MixtureSection = MixtureSection()
    process: ProcessSection = ProcessSection()
    sampling: SamplingSection = SamplingSection(sampler="auto", steps=50)

    def resolved(self, spec: DataSpec) -> MixtureRecipe:
        training = self.training.resolved(spec)
        count = len(split(spec.count, training.held_out, training.seed)[0])
        most = max(min(count, _NUMBERS // math.prod(spec.model_shape) ** 2), 1)
        mixture = self.mixture.model_copy(update={"components": self.mixture.components or most})
        return self.model_copy(update={"training": training, "mixture": mixture})

    def build(self, spec: DataSpec) -> MixtureDenoiser:
        """The denoiser before it is fitted, for data of this contract.

        Raises:
            InputError: samples that are too long or too few; a setting that a mixture cannot use.
        """
        D = math.prod(spec.model_shape)
        if D > MOST:
            raise InputError(
                f"{self.name}: a mixture is for samples of at most {MOST} numbers, not for {spec.layout.name}s of {D}; "
                "choose another recipe"
            )
        if self.data.noise is not None or self.data.conditions is not None:
            raise InputError("data: a mixture takes no noise and no numbers beside the data; leave them out")
        if self.process.schedule.learned:
            raise InputError("process.schedule: a mixture learns no schedule; give one with fixed levels")
        mixture = self.resolved(spec).mixture
        count = len(split(spec.count, self.training.held_out, self.training.seed)[0])
        assert mixture.components is not None
        if count < LEAST or mixture.components > count:
            raise InputError(
                f"mixture: {count:,} samples to fit are too few; give at least {max(LEAST, mixture.components):,}, "
                "besides those held out"
            )
        return MixtureDenoiser(self.build_process(), spec.model_shape, D, mixture.components)

    def build_process(self) -> core.Process:
        return self.process.build()

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        raise InputError(f"{self.name}: a mixture is fitted without a loss; train it alone: --recipe mixture")

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        return self.build_loss(spec)
