"""The base section: the mixture of Gaussians whose estimate a network gets."""

from __future__ import annotations

import math
from typing import Literal

from sfumato.core import Process
from sfumato.data import DataSpec
from sfumato.denoisers import MixtureDenoiser

from .section import PositiveInt, Section

DIRECTIONS = 64
COMPONENTS = 50
PER_DIRECTION = 10  # samples for each principal direction
PER_COMPONENT = 100  # samples for each component
NUMBERS = 4_000_000  # of the principal directions, at most: they are saved with the weights


class NoBase(Section):
    """A network alone."""

    kind: Literal["none"] = "none"

    def resolved(self, spec: DataSpec, suited: bool) -> NoBase:
        """This section."""
        return self

    def build(self, process: Process, spec: DataSpec, classes: int) -> None:
        """No mixture."""


class MixtureBase(Section):
    """A mixture of Gaussians in the principal components of the data.

    Arguments:
        components: of the mixture; null: by the number of samples.
        directions: principal directions; null: by the numbers of samples and of their values.
    """

    kind: Literal["mixture"] = "mixture"
    components: PositiveInt | None = None
    directions: PositiveInt | None = None

    def resolved(self, spec: DataSpec, suited: bool) -> MixtureBase:
        """The section with both numbers."""
        values = math.prod(spec.model_shape)
        most = min(DIRECTIONS, values, spec.count // PER_DIRECTION, NUMBERS // values)
        components = min(COMPONENTS, spec.count // PER_COMPONENT)
        return MixtureBase(components=self.components or max(components, 1), directions=self.directions or max(most, 1))

    def build(self, process: Process, spec: DataSpec, classes: int) -> MixtureDenoiser:
        """The mixture, not yet fitted; of a section with both numbers."""
        assert self.components is not None
        assert self.directions is not None
        return MixtureDenoiser(process, spec.model_shape, self.directions, self.components, classes)


class AutoBase(Section):
    """A mixture, but none for a recipe that pairs noise with samples or moves images."""

    kind: Literal["auto"] = "auto"

    def resolved(self, spec: DataSpec, suited: bool) -> NoBase | MixtureBase:
        """The section for this data.

        Arguments:
            spec: the data contract.
            suited: whether noise is independent of the samples, which are seen as they are.
        """
        return MixtureBase().resolved(spec, suited) if suited else NoBase()


BaseSection = NoBase | MixtureBase | AutoBase
