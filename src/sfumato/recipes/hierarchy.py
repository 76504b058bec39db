"""The recipe of a hierarchical VAE."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from sfumato import core, objectives
from sfumato.data import DataSpec
from sfumato.errors import InputError
from sfumato.hierarchical import MarkovianHVAE, Restrictions

from .recipe import Recipe
from .section import PositiveInt, Section

MAX_WIDTH = 256  # of an automatic latent, so that a model of large images fits into memory


class HierarchySection(Section):
    """The latents, networks and restrictions of a Markovian hierarchical VAE.

    ``levels`` is the number of latents: by default that of ``widths``, or 3. ``widths`` are the dimensions of
    z_1 .. z_T; with null they fall evenly from the number of values of a sample, at most 256. ``hidden`` and ``depth``
    are those of the ``GaussianMLP`` of every learned Gaussian. ``same_dimension``, ``linear_encoder`` and
    ``standard_end`` are those of ``hierarchical.Restrictions``. ``betas`` are for a linear encoder: ``even``, with a
    log-SNR that falls linearly from 7 to -7, or ``cosine``.
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
        """This section with ``levels``, ``widths`` and ``betas`` written out."""
        numbers = math.prod(spec.model_shape)
        levels = self.levels or (3 if self.widths is None else len(self.widths))
        widths = self.widths
        if widths is None and self.same_dimension:
            widths = [numbers] * levels
        elif widths is None:
            widths = [math.ceil(min(numbers, MAX_WIDTH) * (levels - t) / (levels + 1)) for t in range(levels)]
        betas = self.betas or ("even" if self.linear_encoder else None)
        return self.model_copy(update={"levels": levels, "widths": widths, "betas": betas})

    def build(self, spec: DataSpec) -> MarkovianHVAE:
        """The model with fresh weights.

        Raises:
            InputError: settings contradict each other.
        """
        section = self.resolved(spec)
        assert section.levels is not None
        assert section.widths is not None
        numbers = math.prod(spec.model_shape)
        if section.levels != len(section.widths):
            raise InputError(
                f"hierarchy.levels: {section.levels}, but hierarchy.widths has {len(section.widths)} numbers; give one "
                "of the two, or the same count in both"
            )
        if self.linear_encoder and not self.same_dimension:
            raise InputError(
                "hierarchy.linear_encoder: a linear encoder keeps the dimension; give "
                "hierarchy.same_dimension=true with it"
            )
        if self.same_dimension and set(section.widths) != {numbers}:
            raise InputError(
                f"hierarchy.widths: {section.widths} with same_dimension, but a sample has {numbers} numbers; "
                "leave them out"
            )
        if section.betas is not None and not self.linear_encoder:
            raise InputError(
                "hierarchy.betas: a learned encoder has none; leave them out, or give hierarchy.linear_encoder=true"
            )
        return MarkovianHVAE(
            spec.model_shape,
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


class HierarchyRecipe(Recipe):
    """A hierarchical VAE, and how it is trained."""

    kind: ClassVar[str] = "hierarchical VAE"
    marker: ClassVar[str | None] = "hierarchy"

    hierarchy: HierarchySection = HierarchySection()

    @property
    def loss_is_bound(self) -> bool:
        return True

    def resolved(self, spec: DataSpec) -> HierarchyRecipe:
        training = self.training.resolved(spec)
        return self.model_copy(update={"hierarchy": self.hierarchy.resolved(spec), "training": training})

    def build(self, spec: DataSpec) -> MarkovianHVAE:
        """The hierarchical VAE with fresh weights for data of this contract.

        Raises:
            InputError: the settings cannot be built.
        """
        for key, given in (("training.augment", self.training.augment), ("data.noise", self.data.noise)):
            if given:
                raise InputError(f"{key}: a {self.kind} cannot use it; leave it out")
        return self.hierarchy.build(spec)

    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        return objectives.NegativeELBO()

    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        return self.build_loss(spec)
