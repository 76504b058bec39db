"""The base of every section of a recipe, the kinds of numbers in it, and unions of sections by their ``kind``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.fields import FieldInfo

from sfumato import bounds, core
from sfumato.data import DataSpec

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
OpenFraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A mapping of a recipe: frozen, strict, and closed to unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Context:
    """The surroundings that a section needs to build its object.

    Arguments:
        spec: the data contract.
        process: the process of the recipe.
        sigma_data: the standard deviation of the data in model units.
    """

    spec: DataSpec
    process: core.Process
    sigma_data: float

    @property
    def chain_length(self) -> int | None:
        """The number of noise levels of a chain; None in continuous time."""
        schedule = self.process.schedule
        return schedule.steps if isinstance(schedule, core.Chain) else None

    @property
    def decoder(self) -> bounds.Decoder:
        """p(x_0 | x_t) at the finest noise level."""
        return bounds.standard_decoder(self.process, self.spec.grid)

    @property
    def loss_decoder(self) -> bounds.Decoder:
        """The decoder for a loss, without a second evaluation of the network in continuous time."""
        if self.decoder.needs_prediction and self.chain_length is None:
            return bounds.ContinuousGaussian(needs_prediction=False)
        return self.decoder


S = TypeVar("S", bound=Section)


class Registry(Generic[S]):
    """A union of sections by ``kind`` that can be extended: the annotation of a field whose value is one of them."""

    def __init__(self) -> None:
        self._sections: dict[str, type[S]] = {}

    def add(self, section: type[S]) -> type[S]:
        """Register ``section`` under its ``kind``; usable as a decorator."""
        for kind in kinds(section):
            self._sections[kind] = section
        return section

    def __iter__(self) -> Iterator[type[S]]:
        return iter(dict.fromkeys(self._sections.values()))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> Any:
        return handler.generate_schema(Annotated[Union[tuple(self)], Field(discriminator="kind")])  # noqa: UP007


def kinds(section: type[BaseModel]) -> tuple[str, ...]:
    """The values that the ``kind`` of ``section`` can have; none for a section without kinds."""
    field = section.model_fields.get("kind")
    return () if field is None else get_args(field.annotation)


def members(field: FieldInfo) -> list[type[BaseModel]]:
    """The sections that can be the value of ``field``; none for a plain value."""
    for registry in field.metadata:
        if isinstance(registry, Registry):
            return list(registry)
    return list(_sections(field.annotation))


def sections_at(key: str, models: Iterable[type[BaseModel]]) -> list[type[BaseModel]]:
    """The sections that can be the value of ``key`` in one of the ``models``."""
    fields = (model.model_fields[key] for model in models if key in model.model_fields)
    return [section for field in fields for section in members(field)]


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if get_origin(annotation) in (Union, UnionType, Annotated):
        for argument in get_args(annotation):
            yield from _sections(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
