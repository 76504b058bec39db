"""The recipe: everything that makes a run besides the data itself, as nested plain data.

Each section is a strict model: an unknown key or a value of the wrong kind is an error. Sections ``build`` the objects
that they describe. ``resolved(spec)`` writes out what depends on the data ("auto", null), and only a resolved recipe
travels with weights.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from torch import Tensor, nn

from sfumato import core, objectives
from sfumato.data import DataOptions, DataSpec, Samples
from sfumato.denoisers import Condition
from sfumato.errors import InputError

from .section import Fraction, OpenFraction, PositiveFloat, PositiveInt, Section


def _sides(value: Any) -> Any:
    """A size as people type it, 32 or 32x48, as a list."""
    if value is None or isinstance(value, list):
        return value
    sides = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", str(value))
    if sides is None:
        raise ValueError("give one side such as 32, or two such as 32x48")
    return [int(sides[1]), int(sides[2] or sides[1])]


def _names(value: Any) -> Any:
    """Names as people type them, a,b, as a list."""
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class DataSection(Section):
    """The options for reading a source, with the names of ``DataOptions``."""

    layout: Literal["auto", "vector", "signal", "image"] = "auto"
    key: str | None = None
    labels: str | None = None
    conditions: Annotated[list[str], BeforeValidator(_names), Field(min_length=1)] | None = None
    noise: str | None = None
    columns: dict[str, str] | None = None
    missing: Literal["keep", "drop"] | None = None
    axis: str | None = None
    channels: Literal["first", "last"] | None = None
    size: Annotated[list[PositiveInt], BeforeValidator(_sides), Field(min_length=2, max_length=2)] | None = None
    convert: Literal["rgb", "gray"] | None = None
    unreadable: Literal["skip", "stop"] = "skip"
    low: float | None = None
    high: float | None = None
    levels: Annotated[int, Field(ge=2)] | None = None
    limit: PositiveInt | None = None
    count: PositiveInt = 10_000
    seed: int = 0

    def options(self) -> DataOptions:
        """These settings as ``data.load`` takes them."""
        size = None if self.size is None else (self.size[0], self.size[1])
        conditions = None if self.conditions is None else tuple(self.conditions)
        return DataOptions(**{**self.model_dump(), "size": size, "conditions": conditions})


class TrainingSection(Section):
    """The optimisation. Lengths are counted in images seen, so that they mean the same at any batch size.

    What is null is chosen by ``budget.plan`` for a run with a budget in seconds. Otherwise it becomes what its comment
    says.
    """

    steps: PositiveInt = 20_000
    batch: PositiveInt | None = None  # 256 vectors, whose networks are small, or 64 signals or images
    learning_rate: PositiveFloat | None = None  # 1e-3
    warmup: Annotated[int, Field(ge=0)] | None = None  # 5,000
    cooldown: Fraction | None = None  # 0; the last fraction of a run, in which the rate falls to 0
    decay_after: PositiveInt = 500_000
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    clip: PositiveFloat = 1.0
    held_out: OpenFraction = 0.1
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0  # probability of each of EDM's operations on an image
    seed: int = 0

    def resolved(self, spec: DataSpec) -> TrainingSection:
        """The same with its numbers written out; only images are augmented."""
        usual = {"batch": spec.layout.batch, "learning_rate": 1e-3, "warmup": 5_000, "cooldown": 0.0}
        missing = {name: value for name, value in usual.items() if getattr(self, name) is None}
        augment = self.augment if spec.layout.can_augment else 0.0
        return self.model_copy(update={**missing, "augment": augment})

    def batch_for(self, spec: DataSpec) -> int:
        """Samples per step."""
        return self.batch or spec.layout.batch


class Recipe(Section, ABC):
    """Base class of the kinds of recipes.

    A kind is one subclass. Its ``marker`` is the section that only this kind has; where the data of a recipe holds
    that section, it is a recipe of this kind. A diffusion recipe has none.
    """

    kind: ClassVar[str]
    marker: ClassVar[str | None]
    has_process: ClassVar[bool] = False

    version: Literal[1] = 1
    name: Annotated[str, Field(pattern=r"^\w[\w.+-]*$")] = "custom"  # it becomes part of a folder's name
    data: DataSection = DataSection()
    training: TrainingSection = TrainingSection()

    @property
    def trained_on_pairs(self) -> bool:
        """Whether noise is paired with data, so that a flow is learned instead of a score."""
        return False

    @property
    def loss_is_bound(self) -> bool:
        """Whether the loss is a negative ELBO in nats per dimension."""
        return False

    @abstractmethod
    def resolved(self, spec: DataSpec) -> Recipe:
        """This recipe with everything that depends on the data written out."""

    @abstractmethod
    def build(self, spec: DataSpec) -> nn.Module:
        """The module with fresh weights for data of this contract.

        Raises:
            InputError: the settings cannot be built.
        """

    @abstractmethod
    def build_loss(self, spec: DataSpec) -> objectives.Loss[Any]:
        """The loss.

        Raises:
            InputError: sections of the recipe contradict each other.
        """

    @abstractmethod
    def build_bound(self, spec: DataSpec) -> objectives.Loss[Any]:
        """The loss that trained weights are chosen by: the bound, or ``build_loss`` for a model without one."""

    @property
    def takes_classes(self) -> bool:
        """Whether the model is one of data given its class; of a resolved recipe."""
        return False

    @property
    def takes_quantities(self) -> bool:
        """Whether the model is one of data given the numbers of ``DataSpec.conditions``; of a resolved recipe."""
        return False

    @property
    def takes_view(self) -> bool:
        """Whether the model is shown a view of the sample (``views``); of a resolved recipe."""
        return False

    @property
    def takes_condition(self) -> bool:
        """Whether there is any condition; of a resolved recipe."""
        return self.takes_classes or self.takes_quantities or self.takes_view

    def view(self, seen: Tensor, spec: DataSpec) -> Tensor:
        """What the network is shown where ``seen`` is known of samples, in data units.

        Raises:
            InputError: a model that is shown nothing, or another shape.
        """
        raise InputError(
            f"seen: {self.name} was trained without a view of its samples; leave it out, or train with "
            "conditioning.kind=masked or low-resolution"
        )

    @property
    def label_dropout(self) -> float:
        """The share of training samples that are seen without their condition; of a resolved recipe."""
        return 0.0

    def condition(self, samples: Samples) -> Condition | None:
        """The condition of samples, one row per sample; None for an unconditional model; of a resolved recipe."""
        return None

    def build_process(self) -> core.Process:
        """The diffusion process.

        Raises:
            InputError: the schedule cannot be built, or this kind of model has no process.
        """
        raise InputError(f"{self.name}: a {self.kind} has no process; name a diffusion model")
