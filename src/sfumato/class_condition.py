"""The condition of samples that are asked for by class."""

from collections.abc import Sequence
from typing import SupportsIndex

from sfumato.data import DataSpec, class_indices, class_shares
from sfumato.denoisers import Condition
from sfumato.errors import InputError
from sfumato.numerics.integers import whole

Classes = str | int | Sequence[str | int]
"""The name of a class, or one name per sample; a number is the name that it is written as."""


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
