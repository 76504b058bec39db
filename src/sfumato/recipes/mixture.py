"""The recipe of a model that is a mixture of Gaussians and nothing else."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field

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


def _listed(value: Any) -> Any:
    """Numbers as people type them, 5,10 or 5, as a list."""
    if isinstance(value, str):
        try:
            return [float(word) if "." in word else int(word) for word in value.split(",")]
        except ValueError:
            raise ValueError("give one number such as 5, or several such as 5,10") from None
    return [value] if isinstance(value, int | float) else value


_Counts = Annotated[list[PositiveInt], BeforeValidator(_listed), Field(min_length=1)]
_Factors = Annotated[list[PositiveFloat], BeforeValidator(_listed), Field(min_length=1)]


class MixtureSection(Section):
    """Gaussians around samples, as wide as their neighbours lie (``numerics.local_mixtures``).

    Every combination of ``neighbours``, ``shrinkage`` and ``width`` gives each sample a Gaussian; those combinations
    stay, in shares, under which samples that were left out are likeliest.

    Arguments:
        components: number of Gaussians, at most; null: one per training sample and combination that stays, at most 2^24
            numbers in all covariances. Where that is too few, combinations divide it by their shares.
        neighbours: numbers of nearest samples that give a Gaussian its covariance.
        shrinkage: weights of the mean covariance, in samples.
        width: factors of the covariances.
    """

    components: PositiveInt | None = None
    neighbours: _Counts = Field(default_factory=lambda: [5, 10, 20, 40])
    shrinkage: _Factors = Field(default_factory=lambda: [0.5, 2.0, 8.0, 20.0])
    width: _Factors = Field(default_factory=lambda: [0.3, 0.5, 0.8])

    def most(self, spec: DataSpec) -> int:
        """The largest number of Gaussians for this data."""
        room = max(_NUMBERS // math.prod(spec.model_shape) ** 2, 1)
        return min(self.components or room, room)


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
    sampling: SamplingSection = SamplingSection(sampler="auto", steps=25)

    def resolved(self, spec: DataSpec) -> MixtureRecipe:
        return self.model_copy(update={"training": self.training.resolved(spec)})

    def build(self, spec: DataSpec) -> MixtureDenoiser:
        """The denoiser before it is fitted, for data of this contract. Without a number of components it has one.

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
        count = len(split(spec.count, self.training.held_out, self.training.seed)[0])
        if count < LEAST:
            raise InputError(
                f"mixture: {count:,} samples to fit are too few; give at least {LEAST}, besides those held out"
            )
        return MixtureDenoiser(self.build_process(), spec.model_shape, D, self.mixture.components or 1)

    def build_process(self) -> core.Process:
        return self.process.build()

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        raise InputError(f"{self.name}: a mixture is fitted without a loss; train it alone: --recipe mixture")

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        return self.build_loss(spec)
