"""The conditioning section: the conditions of a model besides the noise level."""

from __future__ import annotations

from typing import Literal

import torch

from sfumato.data import DataSpec, Samples
from sfumato.denoisers import Condition
from sfumato.errors import InputError

from .conditioning_base import Conditional, Conditioning
from .section import Section
from .views import LowResolution, Masked


class NoConditioning(Conditioning):
    """An unconditional model."""

    kind: Literal["none"] = "none"

    def resolved(self, spec: DataSpec) -> NoConditioning:
        """This section: it depends on no data."""
        return self

    def condition(self, samples: Samples) -> Condition | None:
        """The condition of samples, one row per sample; None for an unconditional model."""
        return None


class ClassConditioning(Conditional):
    """A model of data given its class."""

    kind: Literal["classes"] = "classes"

    def resolved(self, spec: DataSpec) -> ClassConditioning:
        """This section.

        Raises:
            InputError: the data has no labels or only one class, or a class has one sample, which cannot be both
                trained on and held out.
        """
        if len(spec.class_names) < 2:
            found = "has no labels" if not spec.class_names else f"has one class, {spec.class_names[0]}"
            raise InputError(
                f"conditioning: {spec.source} {found}; give a folder with a sub-folder per class, or name the labels "
                "with data.labels, or give conditioning=none"
            )
        for name, count in zip(spec.class_names, spec.class_counts, strict=True):
            if count < 2:
                raise InputError(
                    f"conditioning: class '{name}' of {spec.source} has {count} sample, too few to train on and to "
                    "hold out; add samples of it, remove it, or give conditioning=none"
                )
        return self

    def classes(self, spec: DataSpec) -> int:
        """The number of classes."""
        return len(spec.class_names)

    def condition(self, samples: Samples) -> Condition | None:
        """The classes of samples.

        Raises:
            InputError: samples without labels.
        """
        if samples.labels is None:
            raise InputError("conditioning: these samples have no labels; give labels, or conditioning=none")
        return Condition(classes=samples.labels)


class VectorConditioning(Conditional):
    """A model of data given numbers beside it (``data.conditions``), each of which may be left out.

    If there are several numbers, a share ``dropout`` of the samples is seen without some of them: each is left out with
    probability one half, so that some can be asked for alone.

    Arguments:
        with_classes: whether the class is given too; by default where the data has labels of several.
    """

    kind: Literal["vector"] = "vector"
    with_classes: bool | None = None

    def resolved(self, spec: DataSpec) -> VectorConditioning:
        """This section, with its classes decided.

        Raises:
            InputError: the data names no conditions, or what ``ClassConditioning`` raises if classes are given.
        """
        if not spec.conditions:
            raise InputError(
                f"conditioning: {spec.source} has no conditions; name them by data.conditions (columns of a table, or "
                "arrays of an .npz), or give conditioning=none"
            )
        given = len(spec.class_names) > 1 if self.with_classes is None else self.with_classes
        if given:
            ClassConditioning().resolved(spec)
        return self.model_copy(update={"with_classes": given})

    def classes(self, spec: DataSpec) -> int:
        """The number of classes."""
        return len(spec.class_names) if self.with_classes else 0

    def quantities(self, spec: DataSpec) -> int:
        """The number of numbers."""
        return len(spec.conditions)

    def condition(self, samples: Samples) -> Condition | None:
        """The numbers of samples, and their classes.

        Raises:
            InputError: samples without them.
        """
        if samples.conditions is None:
            raise InputError("conditioning: these samples have no conditions; give them, or conditioning=none")
        classes = None
        if self.with_classes:
            given = ClassConditioning().condition(samples)
            classes = None if given is None else given.classes
        known = ~samples.conditions.isnan()
        return Condition(classes, torch.where(known, samples.conditions, 0.0), known)


class AutoConditioning(Section):
    """The numbers that ``data.conditions`` names, and classes where the data has labels of several; else none."""

    kind: Literal["auto"] = "auto"

    def resolved(self, spec: DataSpec) -> NoConditioning | ClassConditioning | VectorConditioning:
        """The section for this data. Raises InputError as ``ClassConditioning`` does."""
        if spec.conditions:
            return VectorConditioning().resolved(spec)
        return ClassConditioning().resolved(spec) if len(spec.class_names) > 1 else NoConditioning()


KnownConditioning = NoConditioning | ClassConditioning | VectorConditioning | LowResolution | Masked
"""The section of a resolved recipe."""

ConditioningSection = KnownConditioning | AutoConditioning
