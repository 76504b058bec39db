"""The condition of samples that are asked for by class, or by the numbers beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch

from sfumato.data import DataSpec, asked, class_indices, class_shares, standardised
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.numerics.integers import whole
from sfumato.recipes import Recipe

Classes = str | int | Sequence[str | int]
"""The name of a class, or one name per sample; a number is the name that it is written as."""

Given = Mapping[str, float] | Sequence[Mapping[str, float]]
"""The numbers that all samples are given with by their names, or those of each sample. Others are not given."""


def class_condition(
    spec: DataSpec | None, model: str, count: int, classes: Classes | None = None, first: SupportsIndex = 0
) -> Condition | None:
    """The condition of ``count`` samples; None for an unconditional model.

    Arguments:
        spec: the data of a model with classes; None for another model.
        model: the name of the model.
        count: number of samples.
        classes: the class of all samples, or a sequence with that of each, by name. None takes all classes in the
            shares of the data, for sample i always the same one (``data.class_shares``).
        first: number of the first sample.

    Raises:
        InputError: classes for a model without classes, an unknown class, or another number of them.
    """
    if spec is None:
        if classes is not None:
            raise InputError(
                f"classes: {model} was trained without classes; leave them out, or train on labelled data with "
                "conditioning=classes"
            )
        return None
    if classes is None:
        return Condition(classes=class_shares(spec, count, whole("first", first)))
    names = [classes] * count if isinstance(classes, str | int) else list(classes)
    if len(names) != count:
        raise InputError(f"classes: {len(names)} for {count} samples; give one for all, or one per sample")
    return Condition(classes=class_indices(spec, [str(name) for name in names]))


def with_view(cond: Condition | None, recipe: Recipe | None, spec: DataSpec, count: int, seen: Any) -> Condition | None:
    """The condition ``cond`` with the view of what is ``seen`` of the samples.

    Arguments:
        cond: the condition without it, or None.
        recipe: the recipe of the model, or None.
        spec: its data.
        count: number of samples.
        seen: an array in data units, of one sample or of each, as ``Recipe.view`` takes it; None for nothing.

    Raises:
        InputError: a model that is shown nothing, another shape, or another number of them.
    """
    if seen is None:
        return cond
    if recipe is None:
        raise InputError("seen: this model has no recipe that says what it is shown; give cond")
    values = torch.as_tensor(seen)
    values = values[None] if values.ndim == len(spec.shape) else values
    if len(values) not in (1, count):
        raise InputError(f"seen: {len(values)} for {count} samples; give one, or one per sample")
    image = recipe.view(values, spec).float().expand(count, *(-1 for _ in spec.shape))
    return Condition(image=image) if cond is None else replace(cond, image=image)


def with_quantities(
    cond: Condition | None, spec: DataSpec | None, model: str, count: int, given: Given | None = None
) -> Condition | None:
    """The condition ``cond`` with the numbers that samples are ``given`` with.

    Arguments:
        cond: the condition without them, or None.
        spec: the data of a model with such numbers; None for another model.
        model: the name of the model.
        count: number of samples.
        given: the numbers, by their names; None for samples of all of them.

    Raises:
        InputError: numbers for a model without, an unknown name, or another number of samples.
    """
    if given is None:
        return cond
    if spec is None:
        raise InputError(
            f"conditions: {model} was trained without them; leave them out, or train with data.conditions=NAMES"
        )
    rows = [given] * count if isinstance(given, Mapping) else list(given)
    if len(rows) != count:
        raise InputError(f"conditions: {len(rows)} for {count} samples; give those of all, or one row per sample")
    values = torch.tensor([asked(spec.conditions, row) for row in rows], dtype=torch.float64).view(count, -1)
    known = ~values.isnan()
    vector = torch.where(known, standardised(spec.conditions, values), 0.0)
    if cond is None:
        return Condition(vector=vector, vector_given=known)
    return replace(cond, vector=vector, vector_given=known)


@runtime_checkable  # so that the test run can check annotations
class Conditioned(Protocol):
    """What a condition asks of a model."""

    @property
    def spec(self) -> DataSpec:
        """The contract of the data."""

    @property
    def made_by(self) -> Recipe | None:
        """The recipe, if there is one."""

    @property
    def name(self) -> str:
        """The name of the model."""


def condition(
    self: Conditioned,
    count: SupportsIndex,
    classes: Classes | None = None,
    first: SupportsIndex = 0,
    given: Given | None = None,
    seen: Any = None,
) -> Condition | None:
    """The condition of ``count`` samples by their classes, numbers and what is seen of them; None without any.

    Arguments:
        self: the model.
        count: number of samples.
        classes: as for ``class_condition``.
        first: number of the first sample.
        given: as for ``with_quantities``.
        seen: as for ``with_view``.

    Raises:
        InputError: what the model does not take.
    """
    number, recipe = whole("count", count), self.made_by
    labelled = self.spec if recipe is not None and recipe.takes_classes else None
    cond = class_condition(labelled, self.name, number, classes, first)
    beside = self.spec if recipe is not None and recipe.takes_quantities else None
    cond = with_quantities(cond, beside, self.name, number, given)
    return with_view(cond, recipe, self.spec, number, seen)
